package tests

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/lima/limatest"
	"github.com/auser/mvm/internal/store"
)

func createToy(t *testing.T, k *killEnv, id string, flake *toy) {
	t.Helper()
	k.mvm(t, "tenant", "create", id, "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--mem", "64")
}

// TestBuildsOfOneTenantQueue starts a second build of a tenant while the first
// is held in the middle: it says that it waits, and does nothing before the
// first has ended. One that may not wait so long is told that another builds.
func TestBuildsOfOneTenantQueue(t *testing.T) {
	k := newStandinEnv(t, "queue", "10.55.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	createToy(t, k, "acme", flake)
	h, err := lifecycle.Open(k.root)
	if err != nil {
		t.Fatal(err)
	}

	var builds sync.WaitGroup
	inside, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first build.Manifest
	var hold sync.Once
	builds.Go(func() {
		defer close(ended)
		var err error
		first, _, err = h.Build(t.Context(), "acme", lifecycle.BuildOptions{Progress: func(e build.Event) {
			if e.Phase == build.PhaseBuild {
				hold.Do(func() { close(inside); <-release })
			}
		}})
		if err != nil {
			t.Error(err)
		}
	})
	select {
	case <-inside:
	case <-ended:
		t.Fatal("the first build ended before it built anything")
	}

	hasty := *h
	hasty.BuildWait = 50 * time.Millisecond
	var busy *store.BusyError
	if _, _, err := hasty.Build(t.Context(), "acme", lifecycle.BuildOptions{}); !errors.As(err, &busy) {
		t.Errorf("a build that may not wait: %v, want it to be told that another builds", err)
	}

	waits := make(chan struct{})
	var told sync.Once
	builds.Go(func() {
		defer told.Do(func() { close(waits) }) // one that failed early keeps nobody waiting
		second, result, err := h.Build(t.Context(), "acme", lifecycle.BuildOptions{Progress: func(e build.Event) {
			if strings.HasPrefix(e.Text, "waiting: ") {
				told.Do(func() { close(waits) })
				return
			}
			select {
			case <-release:
			default:
				t.Errorf("the second build does not wait: %+v", e)
			}
		}})
		if err != nil || !result.UpToDate || second.Image != first.Image {
			t.Errorf("the second build: %v, %+v, want what the first has made", err, result)
		}
	})
	<-waits
	close(release)
	builds.Wait()
	k.nothingLeft(t)
}

// TestBuildOnATerminal builds with the real engine on a terminal, one that does
// not know its width: what is done is shown there, and gone at the end.
func TestBuildOnATerminal(t *testing.T) {
	k := newStandinEnv(t, "terminal", "10.57.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	createToy(t, k, "acme", flake)
	master, slave, err := limatest.OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	cmd := exec.Command(filepath.Join(k.bin, "mvm"), "--root", k.root, "tenant", "build", "acme")
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdout, cmd.Stderr = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown, _ := io.ReadAll(master) // ends with EIO when nobody has the other side
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%q", err, shown)
	}
	// Which phases are seen depends on how long each takes.
	if strings.Count(string(shown), "building acme: ") < 2 {
		t.Fatalf("no view is shown:\n%q", shown)
	}
	_, end, _ := strings.Cut(string(shown[strings.LastIndex(string(shown), "building acme: "):]), "\x1b[J")
	if !strings.HasPrefix(end, "tenant acme built in ") {
		t.Errorf("at the end there is %q", end)
	}
	k.nothingLeft(t)
}

// TestDestroyWithoutEngine destroys a tenant while the engine does not answer.
// Its Nix store stays then, until gc or reconcile finds the engine again.
func TestDestroyWithoutEngine(t *testing.T) {
	k := newStandinEnv(t, "no-engine", "10.56.0.1/24")
	flake := newToy(t)
	flake.edit(t)
	for _, sweep := range []string{"gc", "reconcile"} {
		t.Run(sweep, func(t *testing.T) {
			createToy(t, k, "acme", flake)
			k.mvm(t, "tenant", "build", "acme")
			k.withEnv(t, []string{"tenant", "destroy", "acme", "--yes", "--wipe-volumes"}, "DOCKER_HOST=unix:///nonexistent/docker.sock", 0)
			if k.inEngine(t, "volume", "ls", "acme") == "" {
				t.Fatal("the store is gone: mvm has reached the engine")
			}
			mark := filepath.Join(k.root, "build", "acme", "engine-docker")
			if _, err := os.Stat(mark); err != nil {
				t.Errorf("nothing says that there is a store left: %v", err)
			}
			// Another try that cannot reach it either changes nothing.
			k.withEnv(t, []string{sweep}, "DOCKER_HOST=unix:///nonexistent/docker.sock", 0)
			if k.inEngine(t, "volume", "ls", "acme") == "" {
				t.Fatal("the store is gone: mvm has reached the engine")
			}
			k.mvm(t, sweep)
			k.goneWithoutTrace(t, "acme")
		})
	}
	k.nothingLeft(t)
}
