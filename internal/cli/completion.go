package cli

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(root *cobra.Command, w io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	return &cobra.Command{
		Use:   "completion <bash|zsh|fish>",
		Short: "Print a script that completes commands, flags, tenants and profiles in your shell",
		Long: `Print a script that completes commands, flags, tenants and profiles in your shell.

In bash it needs the package bash-completion.`,
		Example: `  mvm completion bash > /etc/bash_completion.d/mvm
  mvm completion zsh > "${fpath[1]}/_mvm"
  mvm completion fish > ~/.config/fish/completions/mvm.fish`,
		Args:      exactArgs(1, "the name of a shell"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			generate, ok := shells[args[0]]
			if !ok {
				return &tenant.InputError{Msg: "there is no completion for " + args[0], Hint: "use bash, zsh or fish"}
			}
			return generate(cmd.Root(), a.Out)
		},
	}
}

// complete adds completion by the words of each command's usage line and by
// the names of its flags, so that no verb has to remember it.
func (a *app) complete(cmd *cobra.Command) {
	_, operands, _ := strings.Cut(cmd.Use, " ")
	switch {
	case strings.HasPrefix(operands, "<id>"), strings.HasPrefix(operands, "[id]"):
		many := strings.Contains(operands, "…") && !strings.Contains(operands, "--")
		cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			_, second, _ := strings.Cut(operands, " ")
			if names := a.kept(second); len(args) == 1 && names != nil {
				return names(args[0]), cobra.ShellCompDirectiveNoFileComp
			}
			if len(args) > 0 && !many {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return without(a.tenantIDs(), args), cobra.ShellCompDirectiveNoFileComp
		}
	case strings.HasPrefix(operands, "<retained>"):
		cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.retained(""), cobra.ShellCompDirectiveNoFileComp
		}
	case operands == "" && len(cmd.ValidArgs) == 0:
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for flag, words := range map[string]func() []string{
		"profile": a.profiles,
		"tier":    fixed("kvm", "software"),
		"engine":  fixed("docker", "nerdctl", "podman"),
		"egress":  fixed("open", "none", "allow:"),
		"restart": fixed("no", "on-failure", "always", "unless-stopped"),
		"source":  fixed(lifecycle.Logs...),
		"state":   phaseWords,
		"cpus":    fixed("1", "2", "4", "8"),
		"mem":     fixed("512", "1024", "2048", "4096"),
	} {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return words(), cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err) // the flag was looked up above, and nobody else completes it
		}
	}
	for _, sub := range cmd.Commands() {
		a.complete(sub)
	}
}

func fixed(words ...string) func() []string { return func() []string { return words } }

// ownProfiles are those that mvm's own flakes have.
var ownProfiles = []string{"baseline", "minimal", "python"}

// profiles are those that mvm's own flakes have and those in use here.
func (a *app) profiles() []string {
	list := slices.Clone(ownProfiles)
	ids := a.tenantIDs()
	if len(ids) == 0 {
		return list
	}
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return list
	}
	for _, id := range ids {
		if spec, err := h.Store.LoadSpec(id); err == nil {
			list = append(list, spec.Profile)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// kept is what completes a word of a usage line behind a tenant's id, or nil.
func (a *app) kept(operand string) func(id string) []string {
	switch operand {
	case "<snapshot>":
		return func(id string) (names []string) {
			for _, s := range a.volume(id).Snapshots {
				names = append(names, s.Name)
			}
			return names
		}
	case "<mount>":
		return func(id string) (mounts []string) {
			for _, b := range a.volume(id).Beside {
				mounts = append(mounts, b.Mount)
			}
			return mounts
		}
	case "<retained>":
		return a.retained
	}
	return nil
}

// volume is for help only, as tenantIDs is: nothing where it cannot be read.
func (a *app) volume(id string) lifecycle.Volume {
	if !slices.Contains(a.tenantIDs(), id) {
		return lifecycle.Volume{}
	}
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return lifecycle.Volume{}
	}
	v, err := h.ShowVolume(id)
	if err != nil {
		return lifecycle.Volume{}
	}
	return v
}

// retained are the names under which volumes of a tenant are kept, or of all
// for none; for help only, too.
func (a *app) retained(id string) []string {
	if _, err := os.Stat(a.root); err != nil {
		return nil
	}
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return nil
	}
	names, err := h.Retained(id)
	if err != nil {
		return nil
	}
	return names
}

func without(list, used []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(used, s) })
}
