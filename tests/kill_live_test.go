package tests

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/volume"
)

// killPaused kills mvm at a pause or resume, then the supervisor, before and
// after it writes down what the VMM did. With mvm alone gone the act is
// finished by the same command; with the supervisor its guest is gone, too, and
// the tenant runs and pauses anew.
func (k *killEnv) killPaused(t *testing.T, act string) {
	phase := map[string]string{"pause": "paused", "resume": "running"}[act]
	for _, point := range []string{act + "/asked", "supervisor/asked-" + act, "supervisor/" + act} {
		t.Run(strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			before := k.files(t)
			k.mvm(t, create("acme")...)
			k.link(t)
			k.writeNote(t)
			if out, err := k.crash(run(), "MVM_CRASH_AT="+point); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if act == "resume" {
				k.mvm(t, "tenant", "pause", "acme")
			}
			supervisor, err := unix.PidfdOpen(int(k.state(t)["supervisor_pid"].(float64)), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(supervisor)
			if out, err := k.crash([]string{"tenant", act, "acme"}, "MVM_CRASH_AT="+point); err == nil {
				t.Fatalf("it was not killed:\n%s", out)
			}
			if strings.HasPrefix(point, "supervisor/") {
				if err := waitEnded(supervisor); err != nil {
					t.Fatal(err)
				}
				k.want(t, "failed")
				k.mvm(t, "tenant", "run", "acme", "--no-wait")
				k.mvm(t, "tenant", "pause", "acme")
				k.want(t, "paused")
			}
			k.mvm(t, "tenant", act, "acme")
			k.want(t, phase)
			k.mvm(t, "audit", "verify", "acme")
			k.mvm(t, "tenant", "stop", "acme", "--timeout", "0")
			k.isStopped(t)
			k.mvm(t, "tenant", "destroy", "acme", "--yes")
			k.checkRetained(t)
			k.nothingLeft(t)
			for path := range k.files(t) {
				if !before[path] {
					t.Errorf("left behind: %s", path)
				}
			}
		})
	}
}

// killGrowing kills mvm, then the supervisor, while the volume of a guest that
// runs grows. The same command finishes it: what was there is whole, and the
// file system takes the room at the next start at the latest.
func (k *killEnv) killGrowing(t *testing.T, image, size, already string, points ...string) {
	grow := []string{"tenant", "volume", "grow", "acme", size}
	stop := []string{"tenant", "stop", "acme"}
	if !realGuest() {
		stop = append(stop, "--force")
	}
	for _, point := range points {
		t.Run(strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			before := k.files(t)
			k.mvm(t, createWithVolumes()...)
			k.link(t)
			k.writeNote(t)
			if out, err := k.crash(run(), "MVM_CRASH_AT="+point); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !realGuest() { // which cannot be asked to grow its file system
				k.mvm(t, "tenant", "pause", "acme")
			}
			if out, err := k.crash(grow, "MVM_CRASH_AT="+point); err == nil {
				t.Fatalf("it was not killed:\n%s", out)
			}
			if point == "supervisor/extended" {
				k.waitForEnd(t)
				k.want(t, "failed")
			}
			k.mvm(t, grow...)
			if said := k.mvm(t, grow...); !strings.Contains(said, already) {
				t.Errorf("once more it said %q", said)
			}
			for _, args := range [][]string{stop, run(), stop} {
				k.mvm(t, args...)
			}
			got, err := volume.Inspect(k.path("tenants", "acme", "volumes", image))
			if err != nil || got.Size != 48<<20 || got.FileSystem != 48<<20 {
				t.Errorf("the volume has %d bytes, its file system %d, want 48 MiB; %v", got.Size, got.FileSystem, err)
			}
			k.finish(t, killCase{act: grow, then: (*killEnv).isStopped}, before, true)
		})
	}
}
