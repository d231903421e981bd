package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auser/mvm/internal/tenant"
)

// usageTemplate is cobra's, without its own wording of where help is found,
// and with the exit codes at the end.
const usageTemplate = `Usage:{{if not (index .Annotations "group")}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} <command>{{end}}{{if gt (len .Aliases) 0}}

Aliases:
  {{.NameAndAliases}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}

{{.CommandPath}} <command> --help says more of each.{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasParent}}

` + exitCodes + `{{end}}
`

// teach gives every command the parts of its help that all share, and
// completion where its arguments or flags are of a known kind.
func (a *app) teach(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	a.complete(root)
}

// exactArgs is cobra.ExactArgs with an error in our words.
func exactArgs(n int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return &tenant.InputError{
			Msg:  fmt.Sprintf("%s takes %s, got %d", cmd.CommandPath(), usage, len(args)),
			Hint: fmt.Sprintf("see %s --help", cmd.CommandPath()),
		}
	}
}

// requireFlag makes a command fail without the flag, as wrong usage.
func requireFlag(cmd *cobra.Command, name, example string) {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed(name) {
			return &tenant.InputError{Msg: fmt.Sprintf("%s needs --%s", cmd.CommandPath(), name), Hint: example}
		}
		return check(cmd, args)
	}
}

// checkValues refuses values that no flag of their kind takes, whatever the
// command. An empty one is a variable of a script that is not set, say.
func checkValues(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		list, isList := f.Value.(pflag.SliceValue)
		hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
		switch {
		case err != nil || slices.Contains(takenBack, f.Name):
		case f.Name == "parallel" && (f.Value.String() == "0" || strings.HasPrefix(f.Value.String(), "-")):
			err = &tenant.InputError{Msg: fmt.Sprintf("--parallel takes 1 or more, not %s", f.Value), Hint: hint}
		case f.Value.Type() == "string" && f.Value.String() == "", isList && len(list.GetSlice()) == 0:
			err = &tenant.InputError{Msg: fmt.Sprintf("--%s has an empty value", f.Name), Hint: "leave it out, or say what it is to be; " + hint}
		case f.Value.Type() == "duration" && strings.HasPrefix(f.Value.String(), "-"):
			err = &tenant.InputError{Msg: fmt.Sprintf("--%s takes %s, not %q", f.Name, kindOf(f), f.Value), Hint: hint}
		}
	})
	return err
}

// takenBack are flags whose empty value takes back what was said before.
var takenBack = []string{"balloon", "cpu-template"}

// flagError words what the flags' parser says, and names the flag that was
// probably meant.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		value   *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
	)
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	switch {
	case errors.As(err, &unknown):
		if example := withDash(cmd); example != "" {
			hint = "a command for the guest goes after --, with its flags: " + example
		}
		name := unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			return &tenant.InputError{Msg: fmt.Sprintf("%s has no flag -%s", cmd.CommandPath(), name), Hint: hint}
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean --%s?", near)
		}
		return &tenant.InputError{Msg: fmt.Sprintf("%s has no flag --%s", cmd.CommandPath(), name), Hint: hint}
	case errors.As(err, &value):
		flag := value.GetFlag()
		if errors.Is(err, strconv.ErrRange) {
			return &tenant.InputError{Msg: fmt.Sprintf("--%s takes a number that is not as large as %q", flag.Name, value.GetValue()), Hint: hint}
		}
		return &tenant.InputError{Msg: fmt.Sprintf("--%s takes %s, not %q", flag.Name, kindOf(flag), value.GetValue()), Hint: hint}
	case errors.As(err, &missing):
		return &tenant.InputError{Msg: fmt.Sprintf("--%s needs a value", missing.GetFlag().Name), Hint: hint}
	}
	return &tenant.InputError{Msg: err.Error(), Hint: hint}
}

// withDash is an example of a command for the guest, where cmd takes one.
func withDash(cmd *cobra.Command) string {
	if !strings.Contains(cmd.Use, "-- ") {
		return ""
	}
	for line := range strings.Lines(cmd.Example) {
		if strings.Contains(line, " -- ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// kindOf says what a flag's value has to be.
func kindOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a number"
	case "duration":
		return "a length of time, such as 90s or 5m"
	case "bool":
		return "true or false"
	}
	return "another kind of value"
}
