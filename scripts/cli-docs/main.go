// Command cli-docs writes the reference of the command line from the commands
// themselves: docs/cli.md, docs/json.md beside it, and man pages where a folder for
// them is given. It is run in the repository's folder.
//
// usage: cli-docs <markdown file> [<folder for man pages>]
// usage: cli-docs --man <folder for man pages>
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/auser/mvm/internal/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cli-docs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 1 || len(args) > 2 || args[0] == "--man" && len(args) == 1 {
		return fmt.Errorf("usage: cli-docs <markdown file> [<folder for man pages>], or --man <folder>")
	}
	if args[0] == "--man" {
		return manPages(cli.Command(), args[1])
	}
	if err := os.WriteFile(args[0], []byte(markdown(cli.Command())), 0o644); err != nil {
		return err
	}
	page, err := jsonPage(".")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(args[0]), "json.md"), []byte(page), 0o644); err != nil {
		return err
	}
	if len(args) == 1 {
		return nil
	}
	return manPages(cli.Command(), args[1])
}

// manPages are the same on every day: they have no date.
func manPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	none := time.Time{}
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "MVM", Section: "1", Source: "mvm", Manual: "mvm", Date: &none}, dir); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "mvm*.1"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		text = bytes.Replace(text, []byte(`"`+none.Format("Jan 2006")+`"`), []byte(`""`), 1)
		if err := os.WriteFile(page, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func markdown(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The command line\n\n")
	b.WriteString("This page is generated from the commands: `make docs` writes it, and a test\nholds it to them. `mvm <command> --help` says the same.\n\n")
	section(&b, root)
	return b.String()
}

func section(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	if before, list, ok := strings.Cut(text, "Exit codes:\n"); ok { // aligned by spaces
		codes, after, _ := strings.Cut(list, "\nssh and exec")
		text = before + "Exit codes:\n\n```\n" + codes + "\n```\n\nssh and exec" + after
	}
	fmt.Fprintf(b, "%s\n\n", text)
	usage := cmd.UseLine()
	if _, group := cmd.Annotations[cli.GroupAnnotation]; group {
		usage = cmd.CommandPath() + " <command>"
	}
	fmt.Fprintf(b, "```\n%s\n```\n\n", usage)
	if cmd.Example != "" {
		fmt.Fprintf(b, "```sh\n%s\n```\n\n", unindent(cmd.Example))
	}
	if flags := cmd.LocalFlags().FlagUsages(); cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(b, "```\n%s```\n\n", flags)
	}
	for _, sub := range cmd.Commands() {
		section(b, sub)
	}
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}
