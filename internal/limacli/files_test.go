package limacli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fleet"
)

func TestFlakesAreCopied(t *testing.T) {
	w := ready(t)
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("flake.nix", "{ }")
	write("run.sh", "#!/bin/sh\n")
	write("ignored", "x")
	write(".gitignore", "ignored\n")
	if err := os.Chmod(filepath.Join(w.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "-C", w.dir, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	// The working directory's flake, as it is when no other is named.
	out, code := w.mvm(t, "", "tenant", "create", "acme")
	if want := fmt.Sprintf("%q", []string{"tenant", "create", "acme", "--flake", w.dir}); code != 0 || !strings.Contains(out, want) {
		t.Fatalf("exit %d: %s", code, out)
	}
	inside := w.home.Guest("mvm", w.dir)
	for _, name := range []string{"flake.nix", "run.sh", ".gitignore"} {
		if _, err := os.Stat(filepath.Join(inside, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(inside, "ignored")); err == nil {
		t.Error("what git ignores was copied")
	}
	if info, err := os.Stat(filepath.Join(inside, "run.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v %v", info.Mode(), err)
	}

	// Sent once, and again when it has changed; files that are gone go.
	if out, _ = w.mvm(t, "", "sync"); !strings.Contains(out, "is there already") {
		t.Errorf("sync says %s", out)
	}
	write("flake.nix", "{ changed = true; }")
	if err := os.Remove(filepath.Join(w.dir, "run.sh")); err != nil {
		t.Fatal(err)
	}
	spec := fmt.Sprintf(`{"spec": {"flake_ref": %q}}`, w.dir)
	if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/spec-of-acme"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code = w.mvm(t, "", "tenant", "build", "acme"); code != 0 || !strings.Contains(out, "copying "+w.dir) {
		t.Errorf("exit %d: %s", code, out)
	}
	if data, err := os.ReadFile(filepath.Join(inside, "flake.nix")); err != nil || string(data) != "{ changed = true; }" {
		t.Errorf("%s, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(inside, "run.sh")); err == nil {
		t.Error("a removed file is still there")
	}

	// A flake below the repository's top brings all of it.
	write("sub/flake.nix", "{ }")
	out, _ = w.mvm(t, "", "tenant", "create", "beta", "--flake=./sub")
	if want := fmt.Sprintf("%q", "path:"+w.dir+"?dir=sub"); !strings.Contains(out, want) {
		t.Errorf("%s lacks %s", out, want)
	}
	// The dev microVM gets the working directory's flake once, and keeps it.
	for status, want := range map[string]string{
		`{"tier": "software", "dev": {"there": false}}`:                                                            fmt.Sprintf("%q", []string{"dev", "--flake", w.dir}),
		fmt.Sprintf(`{"tier": "software", "dev": {"there": true, "microvm": {"spec": {"flake_ref": %q}}}}`, w.dir): `["dev"]`,
	} {
		if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/status"), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := w.mvm(t, "", "dev"); !strings.Contains(out, want) {
			t.Errorf("%s: %s lacks %s", status, out, want)
		}
	}
	// Remote ones are left alone.
	if out, _ = w.mvm(t, "", "tenant", "create", "gamma", "--flake", "github:a/b"); !strings.Contains(out, `"github:a/b"`) {
		t.Error(out)
	}
}

func TestFilesAreReadAsStandardInput(t *testing.T) {
	w := ready(t)
	if err := os.WriteFile(filepath.Join(w.dir, "password"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := w.mvm(t, "", "tenant", "secrets", "set", "acme", "key", "--from-file", "password")
	if code != 0 || !strings.Contains(out, `"--from-file" "-"`) || !strings.HasSuffix(out, "hunter2") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, c := range w.home.Calls(t) {
		if strings.Contains(strings.Join(c, " "), "hunter2") {
			t.Error("the secret is in a command line")
		}
	}
}

// The value of a variable comes the same way, and a volume's file both ways.
func TestStreamsStandForFiles(t *testing.T) {
	w := ready(t)
	w.env = append(w.env, "ACME_TOKEN=hunter2")
	out, code := w.mvm(t, "", "tenant", "secrets", "set", "acme", "key", "--from-env", "ACME_TOKEN")
	if code != 0 || !strings.HasSuffix(out, "hunter2") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "tenant", "secrets", "set", "acme", "key", "--from-env", "NO_SUCH"); code != 2 || !strings.Contains(out, "no variable NO_SUCH") {
		t.Errorf("exit %d: %s", code, out)
	}
	want := "[\"tenant\" \"secrets\" \"set\" \"acme\" \"key\" \"--from-env\" \"ACME_TOKEN\" \"--from-file\" \"v\"]\n" // refused inside
	if out, code := w.mvm(t, "", "tenant", "secrets", "set", "acme", "key", "--from-env", "ACME_TOKEN", "--from-file", "v"); code != 0 || out != want {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "tenant", "volume", "import", "acme", "--yes", "--from", "missing"); code != 2 || !strings.Contains(out, "no such file") {
		t.Errorf("exit %d: %s", code, out)
	}
	want = "[\"tenant\" \"volume\" \"export\" \"acme\" \"--to\" \"-\"]\n"
	if out, code := w.mvm(t, "", "tenant", "volume", "export", "acme", "--to", "v"); code != 0 || out != "" {
		t.Errorf("exit %d: %s", code, out)
	}
	if data, err := os.ReadFile(filepath.Join(w.dir, "v")); err != nil || string(data) != want {
		t.Errorf("%v: %s", err, data)
	}
	if out, code := w.mvm(t, "", "tenant", "volume", "export", "fails", "--to", "w"); code != 9 {
		t.Errorf("exit %d: %s", code, out)
	}
	if files, err := filepath.Glob(filepath.Join(w.dir, "w*")); err != nil || len(files) > 0 {
		t.Errorf("%v: %v is left", err, files)
	}
	for _, c := range w.home.Calls(t) {
		if strings.Contains(strings.Join(c, " "), "hunter2") {
			t.Error("the secret is in a command line")
		}
	}
}

// A trace is written where the Mac's path says, also of a run that fails, and
// nothing of it stays inside.
func TestTraceIsTaken(t *testing.T) {
	w := ready(t)
	for _, c := range []struct {
		id   string
		file string
		code int
		want string
	}{{"acme", "t.json", 0, "a trace"}, {"fails", "t.json", 9, "a trace"}, {"untraced", "u.json", 0, ""}} {
		if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/spec-of-"+c.id), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := w.mvm(t, "", "tenant", "run", "--trace", c.file, c.id); code != c.code {
			t.Errorf("%s: exit %d: %s", c.id, code, out)
		}
		if data, err := os.ReadFile(filepath.Join(w.dir, c.file)); err != nil || string(data) != c.want {
			t.Errorf("%s: %v: %s", c.id, err, data)
		}
	}
	calls := len(w.home.Calls(t))
	out, code := w.mvm(t, "", "tenant", "run", "acme", "--trace", "no/folder")
	if code != 2 || !strings.Contains(out, "cannot write the trace: open "+filepath.Join(w.dir, "no/folder")) || !strings.Contains(out, "hint: ") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, c := range w.home.Calls(t)[calls:] {
		if slices.Contains(c, "run") {
			t.Errorf("something was started: %q", c)
		}
	}
	if out, _ := w.mvm(t, "", "proxies"); strings.Contains(out, "trace") {
		t.Errorf("left inside: %s", out)
	}
}

// The folders that stand for a flake's inputs are copied in whole.
func TestOverridesAreCopied(t *testing.T) {
	w := ready(t)
	for _, name := range []string{"guests/flake.nix", "nix pkgs/default.nix"} {
		path := filepath.Join(w.dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte("{ }"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	inside := "/var/lib/mvm-lima/folders" + w.dir + "/nix pkgs"
	out, code := w.mvm(t, "", "flake", "check", "--override-input", "nixpkgs=./nix pkgs", "--override-input=other=nowhere", "./guests", "--override-input", "wrong")
	want := fmt.Sprintf("%q", []string{"flake", "check", "--override-input", "nixpkgs=" + inside, "--override-input", "other=" + filepath.Join(w.dir, "nowhere"), filepath.Join(w.dir, "guests"), "--override-input", "wrong"})
	if code != 0 || !strings.Contains(out, want) {
		t.Errorf("exit %d: %s lacks %s", code, out, want)
	}
	if data, err := os.ReadFile(w.home.Guest("mvm", inside+"/default.nix")); err != nil || string(data) != "{ }" {
		t.Errorf("%v: %s", err, data)
	}
	if out, code := w.mvm(t, "", "gc"); code != 0 || !strings.Contains(out, "removed the copy of "+w.dir+"/nix pkgs") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// The flakes that a file of tenants names, seen from the file, are brought in
// and named as they are known inside.
func TestFleetFileIsBrought(t *testing.T) {
	w := ready(t)
	for name, text := range map[string]string{
		"sub/guests/flake.nix": "{ }",
		"sub/tenants.yaml":     "version: 1\ntenants:\n  acme: {flake: ./guests}\n  beta: {flake: ./guests, vcpus: 3}\n  gamma: {flake: 'github:x/y'}\n  none: {running: true}\n",
		"bad.yaml":             "version: 1\nnonsense: 1\n",
	} {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	guests := filepath.Join(w.dir, "sub", "guests")
	for _, c := range []struct{ dir, stdin, file string }{{w.dir, "", "sub/tenants.yaml"}, {filepath.Join(w.dir, "sub"), "sub/tenants.yaml", "-"}} {
		cmd := w.command("apply", "-f", c.file)
		cmd.Dir = c.dir
		cmd.Env = append(cmd.Env, "PWD="+c.dir)
		if c.stdin != "" {
			f, err := os.Open(filepath.Join(w.dir, c.stdin))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdin = f
		}
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		words, text, _ := strings.Cut(string(out), "\n")
		if err != nil || words != `["apply" "-f" "-"]` {
			t.Fatalf("%v: %s%s", err, out, said.String())
		}
		wishes, err := fleet.Parse([]byte(text))
		if err != nil || len(wishes) != 4 {
			t.Fatalf("%v: %s", err, text)
		}
		for i, want := range []string{guests, guests, "github:x/y", filepath.Join(w.dir, "sub")} {
			if got := wishes[i].Spec.FlakeRef; got != want {
				t.Errorf("%s: %s, not %s", wishes[i].Spec.TenantID, got, want)
			}
		}
		if _, err := os.Stat(w.home.Guest("mvm", guests+"/flake.nix")); err != nil || wishes[1].Spec.VCPUs != 3 {
			t.Errorf("%v, %+v", err, wishes[1])
		}
	}
	if out, code := w.mvm(t, "", "apply", "-f", "bad.yaml"); code != 2 || !strings.Contains(out, "cannot apply "+filepath.Join(w.dir, "bad.yaml")) || !strings.Contains(out, "nonsense") {
		t.Errorf("exit %d: %s", code, out)
	}
}
