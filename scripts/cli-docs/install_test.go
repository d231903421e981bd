package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// installEverywhere is an install that has only what both GNU's and a Mac's
// have.
const installEverywhere = `#!/bin/sh
PATH=${PATH#*:}
case $1 in
-d) ;;
-m) [ $# -ge 4 ] && [ -f "$3" ] || { echo "install: $3 is no file" >&2; exit 64; } ;;
*) echo "install: $1 is not known everywhere" >&2; exit 64 ;;
esac
exec install "$@"
`

// install installs below a folder, as the packager of a distribution would.
func install(t *testing.T, env ...string) string {
	t.Helper()
	tools, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "install"), []byte(installEverywhere), 0o755); err != nil {
		t.Fatal(err)
	}
	make := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir, "PREFIX=/usr", "OUT="+t.TempDir())
	make.Env = append(append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH")), env...)
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// files lists the files below dir, with their modes.
func files(t *testing.T, dir string) map[string]os.FileMode {
	t.Helper()
	found := map[string]os.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			found[strings.TrimPrefix(path, dir+"/usr/")] = info.Mode()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var completions = map[string]string{
	"share/bash-completion/completions/mvm":    "complete -o default",
	"share/zsh/site-functions/_mvm":            "#compdef mvm",
	"share/fish/vendor_completions.d/mvm.fish": "complete -c mvm",
}

func checkText(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for file, holds := range texts {
		if text, err := os.ReadFile(filepath.Join(dir, "usr", file)); err != nil || !strings.Contains(string(text), holds) {
			t.Errorf("%s: %v, want one that holds %q", file, err, holds)
		}
	}
}

func TestInstall(t *testing.T) {
	dir := install(t)
	out, err := exec.Command(filepath.Join(dir, "usr/bin/mvm"), "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "mvm ") {
		t.Errorf("the program that was installed: %q, %v", out, err)
	}
	checkText(t, dir, completions)
	checkText(t, dir, map[string]string{"share/man/man1/mvm-tenant-run.1": `.TH "MVM" "1" "" "mvm" "mvm"`})
	for file, mode := range files(t, dir) {
		want := os.FileMode(0o644)
		if file == "bin/mvm" {
			want = 0o755
		}
		if _, completion := completions[file]; mode != want || !completion && file != "bin/mvm" && !strings.HasPrefix(file, "share/man/man1/mvm") {
			t.Errorf("%s has the mode %v", file, mode)
		}
	}
}

// TestInstallOfAMac: the program, which links no Linux side, and the Linux
// builds that it brings into its Lima VM, where it looks for them.
func TestInstallOfAMac(t *testing.T) {
	dir := install(t, "GOOS=darwin", "GOARCH=arm64")
	checkText(t, dir, completions)
	magic := map[string]string{
		"bin/mvm": "\xcf\xfa\xed\xfe", "libexec/mvm/mvm-linux-arm64": "\x7fELF", "libexec/mvm/mvm-linux-amd64": "\x7fELF",
	}
	checkText(t, dir, magic)
	if found := files(t, dir); len(found) != len(magic)+len(completions) {
		t.Errorf("there are %v", found)
	}
}
