package limacli

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fleet"
	"github.com/auser/mvm/internal/lima"
)

func count(calls [][]string, words ...string) int {
	n := 0
	for _, c := range calls {
		if len(c) >= len(words) && slices.Equal(c[:len(words)], words) {
			n++
		}
	}
	return n
}

func TestSetupIsDoneOnce(t *testing.T) {
	w := ready(t)
	data, err := os.ReadFile(filepath.Join(w.bin, "mvm-host"))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := os.ReadFile(w.home.Guest("mvm", "/usr/local/bin/mvm"))
	if err != nil || sha256.Sum256(inside) != sha256.Sum256(data) {
		t.Fatalf("the mvm inside is another one (%v)", err)
	}
	before := len(w.home.Calls(t))
	out, code := w.mvm(t, "", "setup")
	if code != 0 || !strings.Contains(out, `["setup" "--tier" "software"]`) {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, c := range w.home.Calls(t)[before:] {
		if c[0] != "list" && c[0] != "--tty=false" {
			t.Errorf("the second setup ran limactl %q", c)
		}
		if strings.Contains(strings.Join(c, " "), "install -m 755") {
			t.Error("the second setup installed mvm again")
		}
	}
}

func TestChangedTemplateIsNoticed(t *testing.T) {
	w := ready(t)
	out, code := w.mvm(t, "", "setup", "--mem", "12")
	if code != 1 || !strings.Contains(out, "other settings") || !strings.Contains(out, "--recreate") {
		t.Errorf("exit %d: %s", code, out)
	}
	if n := count(w.home.Calls(t), "delete"); n != 0 {
		t.Error("it was deleted unasked")
	}
	if out, code := w.mvm(t, "", "setup", "--mem", "12", "--recreate"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "setup"); code != 0 {
		t.Errorf("the settings were not kept: exit %d: %s", code, out)
	}
}

func TestMissingVM(t *testing.T) {
	w := newWorld(t)
	out, code := w.mvm(t, "", "tenant", "list")
	if code != 5 || !strings.Contains(out, "there is no Lima VM mvm") || !strings.Contains(out, "hint: mvm setup") {
		t.Errorf("exit %d: %s", code, out)
	}
	if len(w.home.Calls(t)) == 0 {
		t.Error("it did not look")
	}
	w.env = append(w.env, "MVM_LIMACTL=/does/not/exist")
	if out, code := w.mvm(t, "", "tenant", "list"); code != 5 || !strings.Contains(out, "mvm bootstrap") {
		t.Errorf("without limactl: exit %d: %s", code, out)
	}
}

// TestDoctorStartsNothing looks at a VM that is not there, one that runs, and
// one that is stopped or broken.
func TestDoctorStartsNothing(t *testing.T) {
	w := newWorld(t)
	if out, code := w.mvm(t, "", "doctor"); code != 5 || !strings.Contains(out, "there is no Lima VM mvm") {
		t.Errorf("missing: exit %d: %s", code, out)
	}
	w.setUp(t)
	if out, code := w.mvm(t, "", "doctor", "--json"); code != 0 || out != "[\"doctor\" \"--json\"]\n" {
		t.Errorf("running: exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "lima", "stop"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	for _, status := range []string{"Stopped", "Broken"} {
		w.home.Set(t, "mvm", "status", status)
		out, code := w.mvm(t, "", "doctor")
		want := "the Lima VM mvm does not run (" + status + ")"
		if code != 5 || !strings.Contains(out, want) || !strings.Contains(out, "hint: mvm setup") {
			t.Errorf("%s: exit %d: %s", status, code, out)
		}
		if got := w.findings(t); len(got) != 1 || got[0].Check != "Lima VM" || got[0].Level != "failure" || got[0].Found != want || !strings.HasPrefix(got[0].Fix, "mvm setup") {
			t.Errorf("%s: %+v", status, got)
		}
		if out, _ := w.mvm(t, "", "lima", "status"); !strings.Contains(out, status) {
			t.Errorf("it did not stay %s: %s", status, out)
		}
	}
}

type finding struct{ Check, Level, Found, Fix string }

// findings are what doctor says as JSON of a VM that it cannot look inside of.
func (w *world) findings(t *testing.T) (found []finding) {
	t.Helper()
	cmd := w.command("doctor", "--json")
	out, _ := cmd.Output()
	if err := json.Unmarshal(out, &found); err != nil || cmd.ProcessState.ExitCode() != 5 {
		t.Fatalf("exit %d: %v: %s", cmd.ProcessState.ExitCode(), err, out)
	}
	return found
}

// In a Lima VM that is stopped nothing runs: it is not started to stop that.
func TestStopStartsNothing(t *testing.T) {
	w := ready(t)
	w.mvm(t, "", "lima", "stop")
	out, code := w.mvm(t, "", "stop")
	if code != 0 || !strings.Contains(out, "does not run") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _ := w.mvm(t, "", "lima", "status"); !strings.Contains(out, "Stopped") {
		t.Error(out)
	}
}

// What provisioning could not do is said at once, and setup does it again.
func TestProvisioningFails(t *testing.T) {
	w := newWorld(t)
	const why = "cannot fetch Firecracker v1.0.0 from github.com (exit code 6)"
	w.home.Set(t, "mvm", "broken-provision", why)
	for _, args := range [][]string{{"setup", "--machine", "software"}, {"setup", "--machine", "software"}, {"tenant", "list"}} {
		out, code := w.mvm(t, "", args...)
		if code != 1 || !strings.Contains(out, "could not be prepared: "+why) || !strings.Contains(out, "hint: mvm setup tries again") {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
	w.home.Set(t, "mvm", "broken-provision", "")
	if out, code := w.mvm(t, "", "setup", "--machine", "software"); code != 0 || !strings.Contains(out, "to prepare it again") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "exit", "7"); code != 7 {
		t.Errorf("exit %d: %s", code, out)
	}
}

// What limactl says while it makes the VM is shown, and of a failure the
// reason, once.
func TestStartFails(t *testing.T) {
	w := newWorld(t)
	const why = "exiting, status={Running:false} (hint: see `/x/ha.stderr.log`)"
	w.home.Set(t, "mvm", "refuse-start", why)
	out, code := w.mvm(t, "", "setup", "--machine", "software")
	if code != 1 || !strings.Contains(out, "cannot make the Lima VM: ") || !strings.Contains(out, "exit status 1: "+why+"\nhint: ") {
		t.Errorf("exit %d: %s", code, out)
	}
	w.home.Set(t, "mvm", "refuse-start", "")
	if out, code := w.mvm(t, "", "setup", "--machine", "software"); code != 0 || !strings.Contains(out, "\n  lima: Starting the instance") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// An instance that limactl lists and cannot read is neither missing nor to be
// started.
func TestUnreadableInstance(t *testing.T) {
	w := ready(t)
	w.home.Foreign(t, "another")
	w.home.Set(t, "another", "unreadable", "gone")
	if out, code := w.mvm(t, "", "exit", "7"); code != 7 {
		t.Errorf("another instance is in the way: exit %d: %s", code, out)
	}
	for how, status := range map[string]string{"gone": "Broken", "yaml": "Unknown"} {
		w.home.Set(t, "mvm", "unreadable", how)
		for _, args := range [][]string{{"tenant", "list"}, {"setup"}, {"doctor"}, {"dev"}} {
			out, code := w.mvm(t, "", args...)
			if code != 5 || !strings.Contains(out, "limactl cannot read the Lima VM mvm\nhint: limactl list says why") || !strings.Contains(out, "--recreate") {
				t.Errorf("%s: %v: exit %d: %s", how, args, code, out)
			}
		}
		if out, code := w.mvm(t, "", "lima", "status"); code != 0 || !strings.Contains(out, "Lima VM mvm: "+status) {
			t.Errorf("%s: exit %d: %s", how, code, out)
		}
	}
	w.home.Set(t, "mvm", "unreadable", "gone")
	if out, code := w.mvm(t, "", "setup", "--recreate"); code != 1 || !strings.Contains(out, "it was NOT deleted") {
		t.Errorf("exit %d: %s", code, out)
	}
	w.home.Set(t, "mvm", "unreadable", "yaml")
	if out, code := w.mvm(t, "", "setup", "--recreate"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
}

// A VM that somebody else made is used as it is.
func TestOwnVM(t *testing.T) {
	w := newWorld(t)
	w.home.Foreign(t, "mine")
	w.env = append(w.env, "MVM_LIMA_VM=mine")
	if out, code := w.mvm(t, "", "exit", "7"); code != 7 || !strings.Contains(out, "installing this version") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, code := w.mvm(t, "", "setup", "--machine", "software")
	if code != 0 || !strings.Contains(out, "taking it as it is") || !strings.HasSuffix(out, "[\"bootstrap\" \"--tier\" \"software\"]\n") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, word := range []string{"start", "stop", "delete"} {
		if n := count(w.home.Calls(t), word); n != 0 {
			t.Errorf("limactl %s was run", word)
		}
	}
}

func TestRunningIsNotReady(t *testing.T) {
	w := ready(t)
	if out, code := w.mvm(t, "", "lima", "stop"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	w.home.Set(t, "mvm", "boot", "3") // shells that fail after start has returned
	out, code := w.mvm(t, "", "exit", "7")
	if code != 7 || !strings.Contains(out, "starting the Lima VM") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestStoppedBehindItsBack(t *testing.T) {
	w := ready(t)
	w.home.Set(t, "mvm", "status", "Broken")
	out, code := w.mvm(t, "", "exit", "7")
	if code != 7 || !strings.Contains(out, "repairing the Lima VM") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestReplacedBinaryIsInstalledAgain(t *testing.T) {
	w := ready(t)
	if err := os.WriteFile(w.home.Guest("mvm", "/usr/local/bin/mvm"), []byte("#!/bin/sh\nexit 99\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, code := w.mvm(t, "", "exit", "3"); code != 3 || !strings.Contains(out, "installing this version") {
		t.Errorf("exit %d: %s", code, out)
	}
}

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
	if out, code := w.mvm(t, "", "tenant", "volume", "import", "acme", "--yes", "--from", "missing"); code != 1 || !strings.Contains(out, "no such file") {
		t.Errorf("exit %d: %s", code, out)
	}
	want := "[\"tenant\" \"volume\" \"export\" \"acme\" \"--to\" \"-\"]\n"
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

func TestCompletionStartsNoMachine(t *testing.T) {
	w := ready(t)
	w.mvm(t, "", "lima", "stop")
	if out, code := w.mvm(t, "", "__complete", "tenant", ""); code != 1 || out != "" {
		t.Errorf("exit %d: %s", code, out)
	}
	if n := count(w.home.Calls(t), "start", "--tty=false", "--timeout", "5m0s"); n != 0 {
		t.Error("it started the VM")
	}
}

// mvm dev makes the VM where there is none, unless that takes a decision.
func TestDevMakesTheVM(t *testing.T) {
	w := newWorld(t)
	host, err := lima.Detect(t.Context(), "linux")
	if err != nil {
		t.Fatal(err)
	}
	_, undecided := host.Choose("")
	out, code := w.mvm(t, "", "dev", "--", "true", "--help")
	made := count(w.home.Calls(t), "start")
	if undecided == nil && (code != 0 || made != 1) {
		t.Errorf("exit %d, %d made: %s", code, made, out)
	}
	if undecided != nil && (code != 5 || made != 0 || !strings.Contains(out, "mvm setup --machine software")) {
		t.Errorf("exit %d, %d made: %s", code, made, out)
	}
	// Once decided, it stays so for a VM that has to be made again.
	for _, args := range [][]string{{"setup", "--machine", "software", "--recreate"}, {"lima", "delete", "--yes"}} {
		if out, code := w.mvm(t, "", args...); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, out)
		}
	}
	cmd := w.command("dev")
	var said strings.Builder
	cmd.Stderr = &said
	stdout, err := cmd.Output()
	if err != nil || string(stdout) != "[\"dev\"]\n" || !strings.Contains(said.String(), "making the Lima VM mvm") {
		t.Errorf("%v: %s\n%s", err, stdout, said.String())
	}
	if out, code := w.mvm(t, "", "start"); code != 0 || strings.Contains(out, "making") || strings.Contains(out, "setup") {
		t.Errorf("exit %d: %s", code, out)
	}
	// A setup that was interrupted before its last step is completed.
	if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/status"), []byte(`{"tier": "", "dev": {"there": false}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := w.mvm(t, "", "start"); code != 0 || strings.Contains(out, "making") || !strings.Contains(out, `["setup" "--tier" "software"]`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

// mvm status says how the Lima VM is, and leaves one that does not run alone.
func TestStatusNamesTheVM(t *testing.T) {
	w := newWorld(t)
	if out, code := w.mvm(t, "", "status"); code != 0 || !strings.Contains(out, "Lima VM      none: mvm setup makes it") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "status", "--json"); code != 0 || !strings.Contains(out, `"status": "missing"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "setup", "--machine", "software"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	type answer struct {
		Lima limaState      `json:"lima"`
		VMM  string         `json:"vmm"`
		Dev  map[string]any `json:"dev"`
	}
	ask := func() (got answer) {
		t.Helper()
		out, code := w.mvm(t, "", "status", "--json")
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("exit %d: %v: %s", code, err, out)
		}
		return got
	}

	inside := `{"vmm": "qemu", "dev": {"there": true}}`
	if err := os.WriteFile(w.home.Guest("mvm", "/var/lib/status"), []byte(inside), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := w.mvm(t, "", "status")
	if code != 0 || !strings.Contains(out, "Lima VM      mvm, running\nLima tier    software tier, as asked: ") || !strings.HasSuffix(out, inside) {
		t.Errorf("exit %d: %s", code, out)
	}
	if got := ask(); got.Lima.Status != "Running" || got.Lima.Tier != "software" || got.Lima.TierReason == "" || got.VMM != "qemu" || got.Dev["there"] != true {
		t.Errorf("%+v", got)
	}

	for _, status := range []string{"Stopped", "Broken"} {
		w.home.Set(t, "mvm", "status", status)
		before := len(w.home.Calls(t))
		out, code := w.mvm(t, "", "status")
		if code != 0 || !strings.Contains(out, "mvm, "+strings.ToLower(status)+"\n") || !strings.Contains(out, "software tier") || strings.Contains(out, inside) {
			t.Errorf("%s: exit %d: %s", status, code, out)
		}
		if got := ask(); got.Lima.Status != status || got.Lima.Tier != "software" || got.Dev != nil {
			t.Errorf("%s: %+v", status, got)
		}
		for _, c := range w.home.Calls(t)[before:] {
			if c[0] != "list" {
				t.Errorf("%s: it ran limactl %q", status, c)
			}
		}
	}
}

func TestDeleteAsksForAWord(t *testing.T) {
	w := ready(t)
	if out, code := w.mvm(t, "", "lima", "delete"); code != 2 || !strings.Contains(out, "--yes") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := w.mvm(t, "", "lima", "delete", "--yes"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _ := w.mvm(t, "", "lima", "status"); !strings.Contains(out, "missing") {
		t.Error(out)
	}
}

func TestWanted(t *testing.T) {
	none := func(string) string { return "" }
	if args, yes := Wanted([]string{"--lima", "tenant", "list"}, none); !yes || !slices.Equal(args, []string{"tenant", "list"}) {
		t.Error(args, yes)
	}
	if _, yes := Wanted([]string{"ssh", "acme", "--", "--lima"}, none); yes {
		t.Error("a word of the remote command counts")
	}
	if _, yes := Wanted([]string{"list"}, func(string) string { return "1" }); !yes {
		t.Error("MVM_LIMA=1 does not count")
	}
}

// The program for macOS holds nothing of the Linux side.
func TestDarwinHoldsNoLinux(t *testing.T) {
	for _, arch := range []string{"arm64", "amd64"} {
		cmd := exec.Command("go", "list", "-deps", "../../cmd/mvm")
		cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH="+arch, "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.Lines(string(out)) {
			for _, bad := range []string{"netlink", "nftables", "knftables", "cgroups", "mvm/internal/network", "mvm/internal/lifecycle", "mvm/internal/supervisor", "mvm/internal/vmm", "mvm/internal/volume", "mvm/internal/store"} {
				if strings.Contains(dep, bad) {
					t.Errorf("%s: it links %s", arch, strings.TrimSpace(dep))
				}
			}
		}
	}
}
