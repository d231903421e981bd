package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// inStorm is how many tenants there are at once.
const inStorm = 50

// TestStorm creates, runs, stops and destroys many tenants at once, each
// command from a process of its own and given twice at the same time: both
// must succeed. While all run, it measures what the supervisors take.
func TestStorm(t *testing.T) {
	k := newStandinEnv(t, "storm", "10.52.0.1/24")
	k.buildTemplate(t)
	before := k.files(t)
	var ids []string
	for i := range inStorm {
		ids = append(ids, fmt.Sprintf("storm-%02d", i))
	}
	k.allAtOnce(t, ids, create)
	for _, id := range ids {
		k.linkTenant(t, id)
	}
	k.allAtOnce(t, ids, func(id string) []string { return []string{"tenant", "run", id, "--no-wait", "--wait", "5m"} })
	k.wantAll(t, "running")
	k.wantApart(t)
	k.measure(t)
	k.wantIdle(t)
	k.allAtOnce(t, ids, func(id string) []string { return []string{"tenant", "set", id, "--egress", "none", "--wait", "5m"} })
	if said := k.mvm(t, "reconcile", "--dry-run"); !strings.Contains(said, "everything is as it should be") {
		t.Errorf("reconcile would do: %s", said)
	}
	k.allAtOnce(t, ids, func(id string) []string { return []string{"tenant", "stop", id, "--timeout", "0", "--wait", "5m"} })
	k.wantAll(t, "stopped")
	k.allAtOnce(t, ids, func(id string) []string {
		return []string{"tenant", "destroy", id, "--wipe-volumes", "--yes", "--wait", "5m"}
	})
	k.nothingLeft(t)
	for path := range k.files(t) {
		if !before[path] {
			t.Errorf("left behind: %s", path)
		}
	}
	for _, id := range ids {
		k.mvm(t, "audit", "verify", id)
	}
}

// allAtOnce gives every tenant the command twice, some dozens of processes at
// a time.
func (k *killEnv) allAtOnce(t *testing.T, ids []string, args func(id string) []string) {
	t.Helper()
	k.eachAtOnce(t, 30, slices.Concat(ids, ids), args)
}

// eachAtOnce gives every tenant the command, with up to so many processes at a
// time.
func (e *env) eachAtOnce(t *testing.T, processes int, ids []string, args func(id string) []string) {
	t.Helper()
	turns := make(chan bool, processes)
	var all sync.WaitGroup
	for _, id := range ids {
		turns <- true
		all.Go(func() {
			defer func() { <-turns }()
			if out, err := e.try(args(id)...); err != nil {
				t.Errorf("mvm %s: %v\n%s", strings.Join(args(id), " "), err, out)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// tenants is what list says.
func (k *killEnv) tenants(t *testing.T) []listed {
	t.Helper()
	var list []listed
	if err := json.Unmarshal([]byte(k.mvm(t, "tenant", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

type listed struct {
	ID    string `json:"tenant_id"`
	Phase string `json:"phase"`
	State struct {
		Net struct{ IP, MAC, TAP string } `json:"net"`
		UID int                           `json:"uid"`
		Sup int                           `json:"supervisor_pid"`
	} `json:"state"`
}

func (k *killEnv) wantAll(t *testing.T, phase string) {
	t.Helper()
	list := k.tenants(t)
	if len(list) != inStorm {
		t.Errorf("%d tenants are listed, want %d", len(list), inStorm)
	}
	for _, l := range list {
		if l.Phase != phase {
			t.Errorf("%s is %s, want %s", l.ID, l.Phase, phase)
		}
	}
}

// wantApart fails if two tenants share what must be a tenant's own.
func (k *killEnv) wantApart(t *testing.T) {
	t.Helper()
	taken := map[string]string{}
	for _, l := range k.tenants(t) {
		for _, own := range []string{l.State.Net.IP, l.State.Net.MAC, l.State.Net.TAP, fmt.Sprint("uid ", l.State.UID), fmt.Sprint("process ", l.State.Sup)} {
			if other, ok := taken[own]; ok {
				t.Errorf("%s and %s share %s", other, l.ID, own)
			}
			taken[own] = l.ID
		}
	}
}

// maxSupervisorPSS is what one supervisor may take of the host's memory, in
// KiB, where many run.
const maxSupervisorPSS = 5 << 10

// measure prints what the supervisors take of the host's memory.
func (k *killEnv) measure(t *testing.T) {
	t.Helper()
	var pss, dirty []int
	for _, l := range k.tenants(t) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", l.State.Sup))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for line := range strings.Lines(string(data)) {
			var name string
			var kib int
			if n, err := fmt.Sscanf(line, "%s %d kB", &name, &kib); n == 2 && err == nil {
				found[name] = kib
			}
		}
		pss, dirty = append(pss, found["Pss:"]), append(dirty, found["Private_Dirty:"])
	}
	slices.Sort(pss)
	slices.Sort(dirty)
	half, last := len(pss)/2, len(pss)-1
	t.Logf("%d supervisors: PSS median %d, largest %d KiB each; of that private and dirty: median %d, largest %d KiB", len(pss), pss[half], pss[last], dirty[half], dirty[last])
	if pss[half] > maxSupervisorPSS {
		t.Errorf("a supervisor takes %d KiB (PSS), %d are allowed", pss[half], maxSupervisorPSS)
	}
}

// wantIdle fails if supervisors wake up while nothing happens. One may, now and
// then, for the language's own housekeeping; not most of them within seconds,
// as with anything that ticks.
func (k *killEnv) wantIdle(t *testing.T) {
	t.Helper()
	list := k.tenants(t)
	before := switches(t, list)
	time.Sleep(3 * time.Second) // in which nothing happens
	var woken []int
	for i, n := range switches(t, list) {
		woken = append(woken, n-before[i])
	}
	slices.Sort(woken)
	half, last := len(woken)/2, len(woken)-1
	t.Logf("wake-ups within 3 seconds: median %d, most %d", woken[half], woken[last])
	if woken[half] > 0 {
		t.Errorf("most supervisors do not sleep: %v", woken)
	}
}

// switches is how often the threads of each supervisor have gone to sleep.
func switches(t *testing.T, list []listed) []int {
	t.Helper()
	counts := make([]int, len(list))
	for i, l := range list {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", l.State.Sup))
		if err != nil || len(threads) == 0 {
			t.Fatalf("%s has no threads: %v", l.ID, err)
		}
		for _, path := range threads {
			data, err := os.ReadFile(path)
			if err != nil {
				continue // that thread has ended
			}
			_, after, found := strings.Cut(string(data), "\nvoluntary_ctxt_switches:")
			var n int
			if _, err := fmt.Sscan(after, &n); !found || err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			counts[i] += n
		}
	}
	return counts
}
