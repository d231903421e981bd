package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// atOnce is from how many processes a command is given at the same time.
const atOnce = 4

// given is a command that several processes are given at the same time, and
// one more afterwards.
type given struct {
	args    []string
	stdin   string
	did     string // what whoever did it says; a regular expression
	already string // what the others say, who found it done; empty: the same
	once    bool   // no more than one of them can have done it
	before  func(*testing.T)
}

// TestTwice gives every command that changes something to several processes at
// the same time, and then once more. All succeed and say what is so; the last
// changes nothing. The commands follow one another as in a tenant's life.
func TestTwice(t *testing.T) {
	k := newStandinEnv(t, "twice", "10.55.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	k.shareBuilds(t)
	for _, g := range k.life(t, flake) {
		name := strings.Join(g.args[:min(len(g.args), 3)], " ")
		if !t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) { k.giveAtOnce(t, g) }) {
			return // what follows builds on it
		}
	}
	k.nothingLeft(t)
}

// shareBuilds names a folder for the shared cache of builds.
func (k *killEnv) shareBuilds(t *testing.T) (cache string) {
	t.Helper()
	cache = t.TempDir()
	config := filepath.Join(k.root, "config.toml")
	settings := strings.Replace(string(read(t, config)), "[build]\n", "[build]\nshared_cache = \""+cache+"\"\n", 1)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return cache
}

// life is what is given.
func (k *killEnv) life(t *testing.T, flake *toy) []given {
	volume := filepath.Join(t.TempDir(), "acme.zst")
	fleet := filepath.Join(t.TempDir(), "fleet.yaml")
	create := []string{"tenant", "create", "acme", "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--mem", "64"}
	declare := fmt.Sprintf("version: 1\ntenants:\n  acme:\n    flake: %s\n    profile: minimal\n    vcpus: 3\n    mem_mib: 64\n    data_mib: 40\n    restart: always\n    egress: none\n    running: false\n", flake.dir)
	nobody := filepath.Join(t.TempDir(), "nobody.yaml")
	for path, text := range map[string]string{fleet: declare, nobody: "version: 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damageChoice := func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(k.root, "builder.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaveSnapshot := func(t *testing.T) {
		flake.edit(t)
		k.mvm(t, "sync", flake.dir)
	}
	return []given{
		{args: []string{"setup", "--tier", "software"}, did: `^tier software`},
		{before: damageChoice, args: []string{"builder", "build-local", "--from", filepath.Join(k.cache, "builder")}, did: `^builds use builder image`},
		{args: create, did: `^tenant acme created: 10\.55\.0\.10,`, already: `^tenant acme exists already, with these values$`, once: true},
		{args: []string{"sync", flake.dir}, did: `^sha256-`},
		{args: []string{"tenant", "build", "acme"}, did: `^tenant acme built in`, already: `^tenant acme is up to date`, once: true},
		{args: []string{"builder", "share", "acme"}, did: `^mvm-`},
		{args: []string{"tenant", "set", "acme", "--cpus", "2", "--restart", "always"}, did: `^(vcpus 1 → 2|restart no → always), now$`, already: `^tenant acme is so already$`, once: true},
		{args: []string{"tenant", "secrets", "set", "acme", "db/password"}, stdin: "hush", did: `^secret db/password of tenant acme is set`},
		{args: []string{"tenant", "secrets", "import", "acme", "--yes"}, stdin: `{"token": "hush"}`, did: `^secrets of tenant acme are set`},
		{args: []string{"tenant", "secrets", "rm", "acme", "token", "--yes"}, did: `^secret token of tenant acme is removed`, already: `^tenant acme has no secret token$`, once: true},
		{args: []string{"tenant", "volume", "grow", "acme", "24"}, did: `^the data volume of tenant acme has 24 MiB$`, already: `^the data volume of tenant acme has 24 MiB already$`, once: true},
		{args: []string{"tenant", "volume", "check", "acme"}, did: `is sound$`},
		{args: []string{"tenant", "volume", "check", "acme", "--repair", "--yes"}, did: `is sound$`},
		{args: []string{"tenant", "volume", "trim", "acme"}, did: ` given back$`},
		{args: []string{"tenant", "volume", "snapshot", "acme", "first"}, did: `^snapshot first of tenant acme is kept$`, already: `^snapshot first of tenant acme is kept already`, once: true},
		{args: []string{"tenant", "volume", "rollback", "acme", "first", "--yes"}, did: `^tenant acme has the state of snapshot first$`},
		{args: []string{"tenant", "volume", "export", "acme", "--to", volume}, did: `^`},
		{args: []string{"tenant", "volume", "import", "acme", "--from", volume, "--yes"}, did: `^tenant acme has the imported volume$`},
		{args: []string{"tenant", "volume", "rm", "acme", "first", "--yes"}, did: `^snapshot first of tenant acme is gone$`},
		{args: []string{"tenant", "run", "acme", "--no-wait"}, did: `^tenant acme started: `, already: `^tenant acme runs already: `, once: true},
		{args: []string{"tenant", "set", "acme", "--egress", "none"}, did: `^egress open → none, now$`, already: `^tenant acme is so already$`, once: true},
		{args: []string{"tenant", "pause", "acme"}, did: `^tenant acme paused$`, already: `^tenant acme paused already$`, once: true},
		{args: []string{"tenant", "volume", "grow", "acme", "40"}, did: `^the data volume of tenant acme has 40 MiB$`, already: `^the data volume of tenant acme has 40 MiB already$`, once: true},
		{args: []string{"tenant", "resume", "acme"}, did: `^tenant acme runs$`, already: `^tenant acme runs already$`, once: true},
		{before: k.breakAll, args: []string{"reconcile"}, did: `^acme: (sweep after its run|start it)|^beta: remove what a create or destroy left behind$|^(set|add|remove) (tap|rules of|neighbour|route|routing guard|bridge) `, already: `^everything is as it should be$`},
		{args: []string{"tenant", "stop", "acme", "--timeout", "0"}, did: `^tenant acme stopped$`, already: `^tenant acme does not run$`, once: true},
		{args: []string{"net", "remove"}, did: `^remove (bridge|routing guard|firewall rules) ?`, already: `^there is none$`, once: true},
		{args: []string{"apply", "--file", fleet}, did: `^~ acme: change$|^ +vcpus 2 → 3$|^tenant acme: done$`, already: `^everything is as declared$`},
		{before: leaveSnapshot, args: []string{"gc"}, did: `^removed `, already: `^$`},
		{args: []string{"tenant", "destroy", "acme", "--yes"}, did: `^tenant acme destroyed; its data volume is kept as`, already: `^tenant acme was destroyed already$`, once: true},
		{args: append(create, "--data-size", "40", "--adopt-volumes"), did: `^tenant acme created: `, already: `^tenant acme exists already, with these values$`, once: true},
		{args: []string{"tenant", "destroy", "acme", "--yes"}, did: `^tenant acme destroyed; its data volume is kept as`, already: `^tenant acme was destroyed already$`, once: true},
		{args: []string{"retained", "rm", "RETAINED", "--yes"}, did: `^acme-.* is gone$`, already: `^acme-.* is gone already$`, once: true},
		{args: []string{"apply", "--file", fleet}, did: `^\+ acme: create$|^tenant acme: done$`, already: `^everything is as declared$`},
		{args: []string{"apply", "--file", nobody, "--prune", "--yes"}, did: `^- acme: destroy$|^tenant acme: done$`, already: `^everything is as declared$`},
		{args: []string{"retained", "rm", "RETAINED", "--yes"}, did: `^acme-.* is gone$`, already: `^acme-.* is gone already$`, once: true},
		{args: []string{"stop"}, did: `^the dev microVM does not run$`},
		{args: []string{"destroy", "--yes"}, did: `^there is no dev microVM$`},
	}
}

// breakAll leaves much for reconcile to do.
func (k *killEnv) breakAll(t *testing.T) {
	t.Helper()
	k.do(t, []string{"kill-supervisor"})
	k.waitForEnd(t)
	if err := os.MkdirAll(filepath.Join(k.root, "tenants", ".gone-beta", "volumes"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (k *killEnv) giveAtOnce(t *testing.T, g given) {
	if g.before != nil {
		g.before(t)
	}
	for i, arg := range g.args {
		if arg == "RETAINED" {
			g.args[i] = filepath.Base(k.retained(t)[0])
		}
	}
	did := regexp.MustCompile(g.did)
	already := did
	if g.already != "" {
		already = regexp.MustCompile(g.already)
	}
	said := make([]string, atOnce)
	var all sync.WaitGroup
	for i := range said {
		all.Go(func() { said[i] = k.give(t, g) })
	}
	all.Wait()
	doers := 0
	for _, out := range said {
		switch {
		case everyLine(out, did):
			doers++
		case !everyLine(out, already):
			t.Errorf("one of those at the same time said %q", out)
		}
	}
	if doers == 0 || g.once && doers > 1 {
		t.Errorf("%d of %d say that they did it: %q", doers, atOnce, said)
	}
	before := k.written(t)
	if out := k.give(t, g); !everyLine(out, already) {
		t.Errorf("given again it said %q", out)
	}
	if diff := cmp.Diff(before, k.written(t)); diff != "" {
		t.Errorf("given again it changed %s", diff)
	}
}

// give runs the command, which must succeed, and returns its standard output.
func (k *killEnv) give(t *testing.T, g given) string {
	cmd := exec.Command(filepath.Join(k.bin, "mvm"), append([]string{"--root", k.root}, g.args...)...)
	cmd.Stdin = strings.NewReader(g.stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("mvm %s: %v\n%s%s", strings.Join(g.args, " "), err, out, &stderr)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func everyLine(text string, want *regexp.Regexp) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if !want.MatchString(line) {
			return false
		}
	}
	return true
}

// written is what is written down of the tenants.
func (k *killEnv) written(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(k.root, "tenants", "*", "s*.json"))
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{}
	for _, path := range files {
		written[path] = string(read(t, path))
	}
	return written
}
