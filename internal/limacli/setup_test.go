package limacli

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

type finding struct{ Check, Level, Found, Fix string }

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
			for _, bad := range []string{"netlink", "nftables", "knftables", "cgroups", "mvm/internal/network", "mvm/internal/lifecycle", "mvm/internal/supervisor", "mvm/internal/vmm", "mvm/internal/volume", "mvm/internal/build\n", "mvm/internal/store"} {
				if strings.Contains(dep, bad) {
					t.Errorf("%s: it links %s", arch, strings.TrimSpace(dep))
				}
			}
		}
	}
}
