package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/auser/mvm/internal/cli"
)

// pages are all Markdown files that people read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			data, err := os.ReadFile(path)
			all[path] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLinks follows the links from page to page.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	}
}

// TestCommandsInPagesExist asks that every mvm command in a block of shell is
// one that there is, with flags that it has.
func TestCommandsInPagesExist(t *testing.T) {
	block := regexp.MustCompile("(?s)```sh\n(.*?)```")
	for path, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(m[1]) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
				line = strings.TrimSpace(line)
				if words := strings.Fields(line); len(words) > 0 && words[0] == "mvm" && !strings.ContainsAny(line, "|<>&") {
					checkCommand(t, path, words[1:])
				}
			}
		}
	}
}

func checkCommand(t *testing.T, path string, words []string) {
	t.Helper()
	if slices.Contains(words, "dev") { // has a tree of its own on macOS
		return
	}
	cmd, rest, err := cli.Command().Find(words)
	if err != nil || cmd.HasSubCommands() && cmd.Example == "" {
		t.Errorf("%s: there is no mvm %s (%v)", path, strings.Join(words, " "), err)
		return
	}
	for _, w := range rest {
		if w == "--" {
			return
		}
		name, ok := strings.CutPrefix(w, "--")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		var flag *pflag.Flag
		if flag = cmd.Flags().Lookup(name); flag == nil {
			flag = cmd.InheritedFlags().Lookup(name)
		}
		if flag == nil && name != "help" {
			t.Errorf("%s: %s has no flag --%s", path, cmd.CommandPath(), name)
		}
	}
}

// TestTroubleshooting asks that the messages explained are ones that mvm says.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	err = filepath.WalkDir("../../internal", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		source.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	messages := regexp.MustCompile("(?m)^### `(.+)`$").FindAllStringSubmatch(string(page), -1)
	if len(messages) < 10 {
		t.Errorf("only %d messages are explained", len(messages))
	}
	for _, m := range messages {
		if !strings.Contains(source.String(), m[1]) {
			t.Errorf("nothing says %q", m[1])
		}
	}
}

// TestArchitecture asks that every package has its place on the page.
func TestArchitecture(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := os.ReadDir("../../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.Name() != "archtest" && !strings.Contains(string(page), "`"+d.Name()+"`") {
			t.Errorf("docs/architecture.md does not name %s", d.Name())
		}
	}
}
