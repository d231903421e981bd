package source

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/fault"
)

// tree makes files below a new folder: a name that ends in / is a folder, a
// content that begins with -> a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	addFiles(t, dir, files)
	return dir
}

func addFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main",
		"-c", "protocol.file.allow=always"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func take(t *testing.T, ref string) Snapshot {
	t.Helper()
	s, err := Take(t.Context(), ref, filepath.Join(t.TempDir(), "src"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// list is what is below dir, with links and folders marked.
func list(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if info.IsDir() {
			rel += "/"
		}
		names = append(names, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestSnapshotOfFolder(t *testing.T) {
	dir := tree(t, map[string]string{
		"flake.nix": "{}", "a/b/c": "deep", "empty/": "", ".hidden": "x", "link": "->a/b/c", "a b\n\"odd\"": "odd",
		"\xff\xfe": "no text", "run.sh": "#!", "umlaut-ä": "ä",
	})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	s := take(t, dir)
	if got, want := list(t, s.Path), list(t, dir); got != want {
		t.Errorf("the snapshot has %q, want %q", got, want)
	}
	if s.FlakeDir != "" || s.Revision != "" || s.Dirty || len(s.Warnings) != 0 {
		t.Errorf("snapshot = %+v", s)
	}
	if want := "path:" + dir + "?narHash="; !strings.HasPrefix(s.URL, want) {
		t.Errorf("URL = %q, want %q…", s.URL, want)
	}
	// Nix computes the same hash over the source and over the copy.
	for _, d := range []string{dir, s.Path} {
		if got := nixHash(t, d); got != s.Hash {
			t.Errorf("nix-hash %s = %s, want %s", d, got, s.Hash)
		}
	}
	for name, want := range map[string]os.FileMode{"": 0o755, "flake.nix": 0o444, "run.sh": 0o555, "a": 0o755} {
		info, err := os.Stat(filepath.Join(s.Path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func nixHash(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("nix-hash", "--type", "sha256", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nix-hash: %v\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func TestSnapshotIsReused(t *testing.T) {
	dir := tree(t, map[string]string{"flake.nix": "{}"})
	src := filepath.Join(t.TempDir(), "src")
	first, err := Take(t.Context(), dir, src)
	if err != nil {
		t.Fatal(err)
	}
	leftover, err := os.MkdirTemp(src, ".tmp-") // of a killed one
	if err != nil {
		t.Fatal(err)
	}
	second, err := Take(t.Context(), dir, src)
	if err != nil || second.Path != first.Path {
		t.Fatalf("second snapshot = %+v, %v", second, err)
	}
	addFiles(t, dir, map[string]string{"more": "x"})
	third, err := Take(t.Context(), dir, src)
	if err != nil || third.Hash == first.Hash {
		t.Fatalf("third snapshot = %+v, %v", third, err)
	}
	if _, err := os.Stat(leftover); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover of a killed snapshot is still there: %v", err)
	}
}

func TestSnapshotOfGit(t *testing.T) {
	dir := tree(t, map[string]string{
		"nix/flake.nix": "{}", ".gitignore": "*.secret\nout/\n", "main.go": "package main", "gone": "x",
		"key.secret": "hush", "out/big": "x", "folder/a": "a",
	})
	git(t, dir, "init", "-q")
	git(t, dir, "add", "-A")
	git(t, dir, "add", "-f", "key.secret")
	git(t, dir, "rm", "-q", "--cached", "key.secret")
	git(t, dir, "commit", "-qm", "first")
	clean := take(t, dir)
	head := git(t, dir, "rev-parse", "HEAD")
	if want := ".gitignore folder/ folder/a gone main.go nix/ nix/flake.nix"; list(t, clean.Path) != want {
		t.Errorf("the snapshot has %q, want %q", list(t, clean.Path), want)
	}
	if clean.FlakeDir != "nix" || clean.Revision != head || clean.Dirty {
		t.Errorf("clean snapshot = %+v", clean)
	}
	if want := "git+file://" + dir + "?dir=nix&rev=" + head; clean.URL != want {
		t.Errorf("URL = %q, want %q", clean.URL, want)
	}

	// A deleted, a changed and a new file; a folder that became a link.
	for _, name := range []string{"gone", "folder"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	addFiles(t, dir, map[string]string{"main.go": "changed", "new": "n", "folder": "->nix"})
	dirty := take(t, filepath.Join(dir, "nix"))
	if want := ".gitignore folder main.go new nix/ nix/flake.nix"; list(t, dirty.Path) != want {
		t.Errorf("the snapshot has %q, want %q", list(t, dirty.Path), want)
	}
	if dirty.FlakeDir != "nix" || dirty.Revision != head || !dirty.Dirty {
		t.Errorf("dirty snapshot = %+v", dirty)
	}

	// The commit itself does not depend on the working tree.
	for _, ref := range []string{"git+file://" + dir + "?ref=main", "git+file://" + dir + "?rev=" + head} {
		if s := take(t, ref); s.Hash != clean.Hash || s.Dirty || s.Revision != head {
			t.Errorf("snapshot of %s = %+v, want %s", ref, s, clean.Hash)
		}
	}
}

// A repository's own configuration must not run programs as root.
func TestSnapshotRunsGitAsTheOwner(t *testing.T) {
	dir := tree(t, map[string]string{"flake.nix": "{}"})
	git(t, dir, "init", "-q")
	witness := filepath.Join(t.TempDir(), "witness")
	if err := os.WriteFile(witness, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	hook := filepath.Join(dir, ".git", "evil")
	script := "#!/bin/sh\nid -u >> " + witness + "\ncat\n"
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "config", "core.fsmonitor", hook)
	git(t, dir, "config", "filter.evil.clean", hook)
	addFiles(t, dir, map[string]string{".gitattributes": "* filter=evil\n", "x": "1"})
	for p := range map[string]bool{dir: true, filepath.Dir(dir): true, filepath.Dir(witness): true} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(witness, 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-R", "65534:65534", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s := take(t, dir); !s.Dirty {
		t.Errorf("snapshot = %+v", s)
	}
	ran, err := os.ReadFile(witness)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains("\n"+string(ran), "\n0\n") {
		t.Errorf("the repository's programs ran as root: %q", ran)
	}
}

// In a folder that all may write to, anybody can put a repository above
// somebody else's source, and say there what belongs to it.
func TestSnapshotIgnoresAStrangersGit(t *testing.T) {
	shared := tree(t, map[string]string{"mine/flake.nix": "{}", "mine/guest.nix": "{}", ".gitignore": "guest.nix\n"})
	git(t, shared, "init", "-q")
	if out, err := exec.Command("chown", "-R", "65534:65534", filepath.Join(shared, ".git")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := take(t, filepath.Join(shared, "mine"))
	if got := list(t, s.Path); !strings.Contains(got, "guest.nix") || s.FlakeDir != "" || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], shared) {
		t.Errorf("the snapshot of %q holds\n%s%q", s.FlakeDir, got, s.Warnings)
	}
	_, err := Take(t.Context(), "git+file://"+shared+"?ref=main", t.TempDir())
	if !errors.Is(err, fault.ErrInput) || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("a branch of it: %v", err)
	}
}

func TestSnapshotWarnings(t *testing.T) {
	dir := tree(t, map[string]string{
		"flake.nix": "{}", "inside": "->flake.nix", "a/up": "->../flake.nix", "passwd": "->/etc/passwd", "a/out": "->../../x",
		"nested/file": "x",
	})
	git(t, dir, "init", "-q")
	git(t, filepath.Join(dir, "nested"), "init", "-q")
	s := take(t, dir)
	want := []string{`link "a/out" leads out`, `link "passwd" leads out`, `"nested" is a git repository of its own`}
	if len(s.Warnings) != len(want) {
		t.Errorf("warnings = %q", s.Warnings)
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(s.Warnings, "\n"), w) {
			t.Errorf("warnings = %q, want one with %q", s.Warnings, w)
		}
	}
	if target, err := os.Readlink(filepath.Join(s.Path, "passwd")); err != nil || target != "/etc/passwd" {
		t.Errorf("the link is %q, %v, want it as it was", target, err)
	}
}

func TestBadSources(t *testing.T) {
	socket := tree(t, map[string]string{"flake.nix": "{}", "run/": ""})
	l, err := net.Listen("unix", filepath.Join(socket, "run", "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pipe := tree(t, map[string]string{"flake.nix": "{}"})
	if err := syscall.Mkfifo(filepath.Join(pipe, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	huge := tree(t, map[string]string{"flake.nix": "{}", "disk.img": ""})
	if err := os.Truncate(filepath.Join(huge, "disk.img"), 2<<30); err != nil {
		t.Fatal(err)
	}
	ignored := tree(t, map[string]string{"flake.nix": "{}", ".gitignore": "flake.nix"})
	git(t, ignored, "init", "-q")
	file := filepath.Join(tree(t, map[string]string{"flake.nix": "{}"}), "flake.nix")

	for _, tt := range []struct{ ref, want string }{
		{"/nonexistent", "there is no folder /nonexistent"},
		{file, "is not a folder"},
		{tree(t, map[string]string{"x": "y"}), "there is no "},
		{"path:" + tree(t, map[string]string{"flake.nix": "{}"}) + "?dir=run", "run/flake.nix"},
		{socket, `"run/s", which is a socket`},
		{pipe, `"pipe", which is a named pipe`},
		{huge, `its largest file is "disk.img" with 2048 MiB`},
		{ignored, "is ignored by git"},
		{"git+file://" + ignored + "?ref=nosuch", `has no commit "nosuch"`},
		{"git+file://" + pipe + "?ref=main", "is in no git repository"},
		{"github:a/b", "is not a local one"},
	} {
		src := filepath.Join(t.TempDir(), "src")
		_, err := Take(t.Context(), tt.ref, src)
		if !errors.Is(err, fault.ErrInput) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("snapshot of %s: %v, want bad input with %q", tt.ref, err, tt.want)
		}
		if left, err := filepath.Glob(filepath.Join(src, "*")); err != nil || len(left) > 0 {
			t.Errorf("snapshot of %s left %q, %v", tt.ref, left, err)
		}
	}
}

func TestSnapshotIsCancelled(t *testing.T) {
	dir := tree(t, map[string]string{"flake.nix": "{}"})
	git(t, dir, "init", "-q")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, dir, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
