package devvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// It shares what the host is set up with, and nothing that two may not share.
func TestItIsApart(t *testing.T) {
	root := t.TempDir()
	settings := "tier = \"software\"\n[build]\nimage = \"example:1\"\noffline = true\n"
	if err := os.WriteFile(filepath.Join(root, "config.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	main, err := lifecycle.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(main.Store.RunDir) })
	vm, err := Open(main, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(vm.host.Store.RunDir) })
	c := vm.host.Config
	if c.Tier != config.TierSoftware || c.Build.Image != "example:1" || !c.Build.Offline {
		t.Errorf("it has not the host's settings: %+v", c)
	}
	if c.Network.Subnet != Subnet || c.Limits.UIDBase >= main.Config.Limits.UIDBase {
		t.Errorf("it shares addresses or uids: %s, %d", c.Network.Subnet, c.Limits.UIDBase)
	}
	if vm.host.Store.Scope == main.Store.Scope || vm.host.Store.RunDir == main.Store.RunDir {
		t.Error("it shares the names of devices and sockets")
	}
	if list, err := main.List(); err != nil || len(list) != 0 {
		t.Errorf("tenants: %v, %v", list, err)
	}
	status, err := vm.Status(t.Context())
	if err != nil || status.There || status.SSH != "-" {
		t.Errorf("%+v, %v", status, err)
	}
	if already, err := vm.Stop(t.Context()); err != nil || !already {
		t.Errorf("stop: %v, %v", already, err)
	}
	if already, err := vm.Destroy(t.Context()); err != nil || !already {
		t.Errorf("destroy: %v, %v", already, err)
	}
	if _, err := vm.Target(); !errors.Is(err, lifecycle.ErrState) {
		t.Errorf("target: %v", err)
	}
	if _, err := store.Open(root); err != nil {
		t.Error(err)
	}
}

func TestWishesKeepWhatIsNotSaid(t *testing.T) {
	s := tenant.Spec{FlakeRef: "/a", Profile: "minimal", VCPUs: 2, MemMiB: 1024, DataMiB: 64}
	s.Volumes = tenant.Volumes{{Mount: "/work", SizeMiB: 64}}
	Wish{MemMiB: 2048}.apply(&s)
	if s.MemMiB != 2048 || s.VCPUs != 2 || s.Profile != "minimal" || s.FlakeRef != "/a" || s.DataMiB != 64 || len(s.Volumes) != 1 {
		t.Errorf("%+v", s)
	}
	Wish{Volumes: []tenant.Volume{{Mount: "/src", Folder: "src"}, {Mount: "/data", SizeMiB: 128}}}.apply(&s)
	if s.Volumes.String() != "64M:/work src:/src" || s.DataMiB != 128 {
		t.Errorf("%+v", s)
	}
}

// TestTheLowestUIDs: the dev microVM's settings follow from the lowest that the
// tenants' settings may say.
func TestTheLowestUIDs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	for base, fine := range map[int]bool{1000: false, 1001: true} {
		settings := fmt.Sprintf("tier = 'software'\n[limits]\nuid_base = %d\n", base)
		if err := os.WriteFile(filepath.Join(root, "config.toml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		main, err := lifecycle.Open(root)
		if (err == nil) != fine {
			t.Errorf("uid_base = %d: %v", base, err)
		}
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(main.Store.RunDir) })
		vm, err := Open(main, func(string, ...any) {})
		if err != nil {
			t.Errorf("uid_base = %d is the tenants', but the dev microVM cannot have what follows: %v", base, err)
			continue
		}
		t.Cleanup(func() { os.RemoveAll(vm.host.Store.RunDir) })
	}
}
