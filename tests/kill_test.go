package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
)

// killCase is an act that is killed after every single step.
type killCase struct {
	name    string
	record  string     // what acme's audit record must have of it, if anything
	prepare [][]string // commands that lead up to it
	act     []string
	after   []string                   // follows the act, for what the act's supervisor then does
	then    func(*killEnv, *testing.T) // what must hold once it was repeated
}

var killCases = []killCase{
	{"create", "create", nil, create("acme"), nil, (*killEnv).isCreated},
	{"run", "start", [][]string{createWithVolumes(), {"link"}}, run(), nil, (*killEnv).isRunning},
	{"teardown", "", [][]string{createWithVolumes(), {"link"}}, run(), []string{"tenant", "stop", "acme"}, (*killEnv).isDown},
	{"stop", "stop", [][]string{create("acme"), {"link"}, run()}, []string{"tenant", "stop", "acme", "--timeout", "0"}, nil, (*killEnv).isStopped},
	{"set", "set", [][]string{create("acme"), {"link"}}, []string{"tenant", "set", "acme", "--cpus", "2", "--data-size", "48", "--egress", "none"}, nil, (*killEnv).isSet},
	{"set-egress-running", "set", [][]string{create("acme"), {"link"}, run()}, []string{"tenant", "set", "acme", "--egress", "none"}, nil, (*killEnv).isRunning},
	{"destroy", "destroy", [][]string{createWithVolumes(), {"link"}, run()}, []string{"tenant", "destroy", "acme", "--yes"}, nil, (*killEnv).isGone},
	{"rollback", "volume rollback", [][]string{create("acme"), {"tenant", "volume", "snapshot", "acme", "before"}, {"lose-note"}}, []string{"tenant", "volume", "rollback", "acme", "before", "--yes"}, nil, (*killEnv).isRolledBack},
	{"volume-destroy", "volume destroy", [][]string{createWithVolumes(), {"make-work"}}, []string{"tenant", "volume", "destroy", "acme", "/work", "--yes"}, nil, (*killEnv).isKeptAside},
	{"volume-adopt", "volume adopt", [][]string{create("acme"), {"keep-work"}}, []string{"tenant", "volume", "adopt", "acme", filepath.Base(keptWork)}, nil, (*killEnv).isAdopted},
	{"reconcile", "start", [][]string{create("acme"), {"link"}, {"tenant", "set", "acme", "--restart", "always"}, run(), {"kill-supervisor"}}, []string{"reconcile"}, nil, (*killEnv).isRunning},
}

// longKillCases are only for make test-long: each of their steps is one of
// another case.
var longKillCases = []killCase{
	{"restart", "start", [][]string{create("acme"), {"link"}, run()}, []string{"tenant", "restart", "acme", "--no-wait", "--timeout", "0"}, nil, (*killEnv).isRunning},
}

func create(id string) []string {
	mem := "64"
	if realGuest() {
		mem = "256"
	}
	return []string{"tenant", "create", id, "--flake", "../nix/debian", "--profile", "minimal", "--data-size", "32", "--mem", mem}
}

// createWithVolumes is create with a volume that is kept beside the data, and a
// copy of a folder.
func createWithVolumes() []string {
	return append(create("acme"), "--volume", "16M:/work", "--volume", "testdata:/src")
}

// run starts acme; a real guest is waited for, so that it has its volumes
// mounted and in use.
func run() []string {
	if realGuest() {
		return []string{"tenant", "run", "acme"}
	}
	return []string{"tenant", "run", "acme", "--no-wait"}
}

// realGuest says that the passes shall take the real QEMU and boot the guest
// in place of the stand-in: make test-long.
func realGuest() bool { return os.Getenv("MVM_TEST_REAL_GUEST") == "1" }

// TestKillAnywhere kills mvm, and the supervisor that it starts, after every
// single step. The same command, given again, must finish the act; destroy
// must then leave nothing, and the data volume must be whole.
func TestKillAnywhere(t *testing.T) {
	k := newKillEnv(t)
	k.buildTemplate(t)
	cases := killCases
	if realGuest() {
		cases = slices.Concat(killCases, longKillCases)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			points := k.trace(t, c)
			t.Logf("%d places to be killed at", len(points))
			if len(points) < 3 {
				t.Fatalf("only %v: the act has more steps than that", points)
			}
			for _, point := range points {
				t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) { k.killAt(t, c, point) })
			}
		})
	}
	for _, act := range []string{"pause", "resume"} {
		t.Run(act, func(t *testing.T) { k.killPaused(t, act) })
	}
	t.Run("grow", func(t *testing.T) {
		k.killGrowing(t, "data.ext4", "48", "data volume of tenant acme has 48 MiB already", "supervisor/extended", "grow/extended", "set/grow", "write/spec.json", "set/spec", "set/egress", "set/state")
	})
	t.Run("grow-beside", func(t *testing.T) {
		k.killGrowing(t, "work.ext4", "48M:/work", "volume /work of tenant acme has 48 MiB already", "supervisor/extended", "grow/extended", "set/spec")
	})
}

type killEnv struct {
	*env
	template string // a copy of a built tenant's folder
}

func newKillEnv(t *testing.T) *killEnv {
	t.Helper()
	if realGuest() {
		return newTestEnv(t, "kill", "10.51.0.1/24", "")
	}
	return newStandinEnv(t, "kill", "10.51.0.1/24")
}

// newStandinEnv is a state directory whose VMM is the stand-in.
func newStandinEnv(t *testing.T, name, subnet string) *killEnv {
	t.Helper()
	return newTestEnv(t, name, subnet, "standin")
}

// newTestEnv is a state directory whose VMM is that of tests/, or QEMU.
func newTestEnv(t *testing.T, name, subnet, vmm string) *killEnv {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	k := &killEnv{env: &env{repo: repo, cache: cache, root: filepath.Join(cache, "test", name), bin: t.TempDir()}}
	k.goBuild(t, "mvm", "./cmd/mvm", "-tags", "crashpoints")
	settings := "\n[limits]\ncpu_overcommit = 100\nmemory_overcommit = 100\nstop_timeout_sec = 1 # the stand-in does not answer on SSH\n"
	if vmm == "" { // many guests may boot by emulation at once
		settings += "ssh_timeout_sec = 600\n"
	} else {
		k.goBuild(t, vmm, "./tests/"+vmm)
		settings += fmt.Sprintf("[vmm]\nqemu = %q\n", filepath.Join(k.bin, vmm))
	}
	// Two roots on one host have subnets of their own.
	k.prepareRoot(t, subnet, settings)
	return k
}

// buildTemplate builds a tenant once, with real Nix; the passes take its
// artifacts over instead of building again.
func (k *killEnv) buildTemplate(t *testing.T) {
	t.Helper()
	k.mvm(t, create("acme")...)
	k.mvm(t, "tenant", "build", "acme")
	k.template = filepath.Join(t.TempDir(), "acme")
	if out, err := exec.Command("cp", "-a", filepath.Join(k.root, "tenants", "acme"), k.template).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
	k.removeRetained(t) // of a run that was cut short
}

// link makes the built artifacts acme's, as a build would.
func (k *killEnv) link(t *testing.T) {
	t.Helper()
	k.linkTenant(t, "acme")
}

func (k *killEnv) linkTenant(t *testing.T, id string) {
	t.Helper()
	acme := filepath.Join(k.root, "tenants", id)
	if out, err := exec.Command("cp", "-a", "-T", filepath.Join(k.template, "artifacts"), filepath.Join(acme, "artifacts")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	built, state := readJSON(t, filepath.Join(k.template, "state.json")), readJSON(t, filepath.Join(acme, "state.json"))
	for _, field := range []string{"artifacts", "flake_lock_hash", "nix_store_paths", "built_at"} {
		state[field] = built[field]
	}
	data, err := json.Marshal(state)
	if err == nil { // in one step: other commands may read it
		err = atomicfile.Write(filepath.Join(acme, "state.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readJSON(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (k *killEnv) do(t *testing.T, args []string) {
	t.Helper()
	switch args[0] {
	case "link":
		k.link(t)
	case "make-work":
		k.copyData(t, k.path("tenants", "acme", "volumes", "work.ext4"))
	case "keep-work":
		k.copyData(t, k.path(keptWork, "work.ext4"))
	case "lose-note":
		if out, err := exec.Command("debugfs", "-w", "-R", "rm note", k.dataVolume()).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	case "kill-supervisor":
		kill(t, int(k.state(t)["supervisor_pid"].(float64)))
	default:
		k.mvm(t, args...)
	}
}

func (k *killEnv) state(t *testing.T) map[string]any {
	t.Helper()
	return readJSON(t, filepath.Join(k.root, "tenants", "acme", "state.json"))
}

// trace does the act once and returns the places that it came by, in order.
func (k *killEnv) trace(t *testing.T, c killCase) []string {
	t.Helper()
	for _, args := range c.prepare {
		k.do(t, args)
	}
	file := filepath.Join(t.TempDir(), "trace")
	if out, err := k.crash(c.act, "MVM_CRASH_TRACE="+file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c.after != nil {
		k.mvm(t, c.after...)
	}
	data, err := os.ReadFile(file) // before a supervisor goes on tracing
	if err != nil {
		t.Fatal(err)
	}
	c.then(k, t)
	k.mvm(t, "tenant", "destroy", "acme", "--yes", "--wipe-volumes")
	k.nothingLeft(t)
	k.removeRetained(t)
	seen := map[string]bool{}
	var points []string
	for point := range strings.Lines(string(data)) {
		if point = strings.TrimSpace(point); !seen[point] {
			seen[point] = true
			points = append(points, point)
		}
	}
	return points
}

func (k *killEnv) crash(args []string, env string) (string, error) {
	limit := time.Minute
	if realGuest() {
		limit = 10 * time.Minute // it may boot beside others
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(k.bin, "mvm"), append([]string{"--root", k.root}, args...)...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// killAt kills the act at one place, repeats it and looks at what is there.
func (k *killEnv) killAt(t *testing.T, c killCase, point string) {
	defer func() {
		if t.Failed() { // the next place is nothing of this one's
			k.removeTenants(t)
		}
	}()
	before := k.files(t)
	for i, args := range c.prepare {
		k.do(t, args)
		if i == 0 { // before a guest mounts it
			k.writeNote(t)
		}
	}
	hasData := len(c.prepare) > 0
	recorded := k.recorded(t, c.record)
	if out, err := k.crash(c.act, "MVM_CRASH_AT="+point); err == nil && !strings.HasPrefix(point, "undo/") && !strings.HasPrefix(point, "supervisor/") && !strings.HasPrefix(point, "write/") {
		t.Fatalf("it was not killed:\n%s", out)
	}
	if c.after == nil {
		k.mvm(t, c.act...)
	} else {
		k.mvm(t, c.after...)
	}
	if c.record != "" && k.recorded(t, c.record) == recorded {
		t.Errorf("it is not on record that there was a %s", c.record)
	}
	k.finish(t, c, before, hasData)
}

// recorded is how many acts of that name are on acme's record.
func (k *killEnv) recorded(t *testing.T, act string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(k.root, "audit", "tenant-acme.jsonl"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(data, fmt.Appendf(nil, `"act":%q,"result":"ok"`, act))
}

// finish looks at what an act that was repeated has done, destroys the tenant
// and compares what is left with what was there before.
func (k *killEnv) finish(t *testing.T, c killCase, before map[string]bool, hasData bool) {
	t.Helper()
	c.then(k, t)
	if c.name == "destroy" {
		k.checkRetained(t)
	} else {
		k.mvm(t, "tenant", "destroy", "acme", "--yes")
		if hasData {
			k.checkRetained(t)
		} else {
			k.removeRetained(t)
		}
	}
	k.nothingLeft(t)
	after := k.files(t)
	for path := range after {
		if !before[path] {
			t.Errorf("left behind: %s", path)
		}
	}
}

// note is what the data volume holds; it is written without a guest.
const note = "kept through every kill"

func (k *killEnv) writeNote(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(file, []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "write "+file+" note", k.dataVolume()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (k *killEnv) dataVolume() string {
	return k.path("tenants", "acme", "volumes", "data.ext4")
}

func (k *killEnv) path(parts ...string) string {
	return filepath.Join(append([]string{k.root}, parts...)...)
}

func (k *killEnv) retained(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(k.root, "retained", "acme-*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// checkRetained finds the data volume that destroy kept, whole.
func (k *killEnv) checkRetained(t *testing.T) {
	t.Helper()
	dirs := k.retained(t)
	if len(dirs) != 1 {
		t.Fatalf("retained: %v, want one", dirs)
	}
	image := filepath.Join(dirs[0], "data.ext4")
	if realGuest() { // it was killed with the volume mounted: the journal is what makes that whole
		if out, err := exec.Command("e2fsck", "-E", "journal_only", "-y", image).CombinedOutput(); err != nil {
			t.Errorf("the data volume's journal cannot be replayed: %v\n%s", err, out)
		}
	}
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("the data volume is damaged: %v\n%s", err, out)
	}
	out, err := exec.Command("debugfs", "-R", "cat note", image).Output()
	if err != nil || !bytes.Equal(out, []byte(note)) {
		t.Errorf("the data volume holds %q, %v", out, err)
	}
	k.removeRetained(t)
}

func (k *killEnv) removeRetained(t *testing.T) {
	t.Helper()
	for _, dir := range k.retained(t) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// files lists what is in the state directory, without its caches, records and
// lock files, which are meant to stay.
func (k *killEnv) files(t *testing.T) map[string]bool {
	t.Helper()
	files := map[string]bool{}
	err := filepath.WalkDir(k.root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch rel, _ := filepath.Rel(k.root, path); rel {
		case "images", "src", "builder", "audit", "locks", "dev/locks", "build":
			return filepath.SkipDir
		default:
			files[rel] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (k *killEnv) phase(t *testing.T) string {
	t.Helper()
	var shown struct {
		Phase string `json:"phase"`
	}
	if err := json.Unmarshal([]byte(k.mvm(t, "tenant", "show", "acme", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	return shown.Phase
}

func (k *killEnv) want(t *testing.T, phase string) {
	t.Helper()
	if got := k.phase(t); got != phase {
		t.Errorf("the tenant is %s, want %s", got, phase)
	}
}

func (k *killEnv) isCreated(t *testing.T) { k.want(t, "created") }
func (k *killEnv) isStopped(t *testing.T) { k.want(t, "stopped") }
func (k *killEnv) isRunning(t *testing.T) { k.want(t, "running") }

// isRolledBack finds the snapshot still there; that the volume has the note
// again is looked at when the tenant is destroyed.
func (k *killEnv) isRolledBack(t *testing.T) {
	t.Helper()
	if shown := k.mvm(t, "tenant", "volume", "show", "acme"); !strings.Contains(shown, "\nbefore ") {
		t.Errorf("the snapshot is gone: %s", shown)
	}
	k.mvm(t, "tenant", "volume", "check", "acme")
}

// isDown holds for a tenant that was stopped, or killed before it ever ran.
func (k *killEnv) isDown(t *testing.T) {
	t.Helper()
	if got := k.phase(t); got != "stopped" && got != "created" {
		t.Errorf("the tenant is %s, want it down", got)
	}
}

func (k *killEnv) isGone(t *testing.T) {
	if out := k.mvm(t, "tenant", "list", "--json"); strings.Contains(out, "acme") {
		t.Errorf("it is still listed: %s", out)
	}
}

func (k *killEnv) isSet(t *testing.T) {
	spec := readJSON(t, filepath.Join(k.root, "tenants", "acme", "spec.json"))
	want := map[string]any{"vcpus": 2.0, "data_mib": 48.0, "egress": "none"}
	for _, field := range slices.Sorted(maps.Keys(want)) {
		if spec[field] != want[field] {
			t.Errorf("%s = %v, want %v", field, spec[field], want[field])
		}
	}
}
