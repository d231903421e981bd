package devvm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/config"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

func TestParseVolume(t *testing.T) {
	for s, want := range map[string]int{"512M:/data": 512, "20G:/data": 20480} {
		if got, err := ParseVolume(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "20G", "20G:/srv", "20:/data", "-1G:/data", "0M:/data", "/home/ann:/data", "99999999999G:/data"} {
		var input *tenant.InputError
		if got, err := ParseVolume(s); !errors.As(err, &input) {
			t.Errorf("%q became %d, %v", s, got, err)
		}
	}
}

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
	Wish{MemMiB: 2048}.apply(&s)
	if s.MemMiB != 2048 || s.VCPUs != 2 || s.Profile != "minimal" || s.FlakeRef != "/a" || s.DataMiB != 64 {
		t.Errorf("%+v", s)
	}
}
