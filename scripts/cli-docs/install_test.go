package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall installs below a folder, as the packager of a distribution would.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir, "PREFIX=/usr").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "usr/bin/mvm"), "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "mvm ") {
		t.Errorf("the program that was installed: %q, %v", out, err)
	}
	for file, holds := range map[string]string{
		"man/man1/mvm-tenant-run.1":          `.TH "MVM" "1" "" "mvm" "mvm"`,
		"bash-completion/completions/mvm":    "complete -o default",
		"zsh/site-functions/_mvm":            "#compdef mvm",
		"fish/vendor_completions.d/mvm.fish": "complete -c mvm",
	} {
		if text, err := os.ReadFile(filepath.Join(dir, "usr/share", file)); err != nil || !strings.Contains(string(text), holds) {
			t.Errorf("%s: %v, want one that holds %q", file, err, holds)
		}
	}
}
