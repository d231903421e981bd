package network

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/auser/mvm/internal/network/probe"
)

// onlyTools makes these the only commands: name on the new PATH, and the one
// on the host that it stands for.
func onlyTools(t *testing.T, tools map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, stands := range tools {
		path, err := exec.LookPath(stands)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

var legacyTools = map[string]string{
	"ip": "ip", "ipset": "ipset", "nsenter": "nsenter", "conntrack": "conntrack",
	"iptables": "iptables-legacy", "iptables-save": "iptables-legacy-save", "iptables-restore": "iptables-legacy-restore",
	"ip6tables": "ip6tables-legacy", "ip6tables-save": "ip6tables-legacy-save", "ip6tables-restore": "ip6tables-legacy-restore",
}

// TestLegacyHost: a host without nft and ebtables, whose iptables is the old
// one. The firewall is chosen by trying.
func TestLegacyHost(t *testing.T) {
	if !isolated(t) {
		return
	}
	w := newWorld(t)
	onlyTools(t, legacyTools)
	cfg := testConfig("")
	attacker := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
	victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
	udpAndBack(t, w, cfg, attacker)
	hostConnects(t, w, cfg, attacker)
	clean(t, cfg, attacker.Endpoint, victim.Endpoint)
	watcher := watch(t, attacker.Name(), victim.Name())
	s := scene(t, cfg.Bridge, cfg.gatewayMAC(), attacker, victim, watcher)
	results, err := probe.Run(t.Context(), s, attacker.TAP, watcher, probe.Attacks())
	if err != nil {
		t.Fatal(err)
	}
	needsEbtables := map[int]bool{52: true} // ARP bursts
	for _, r := range results {
		if !r.Blocked && r.Skipped == "" && !needsEbtables[r.Number] {
			t.Errorf("attack %d (%s) got through", r.Number, r.Name)
		}
	}
	if status, err := Show(t.Context(), cfg); err != nil || status.Firewall != "iptables" {
		t.Errorf("the firewall is %q, %v", status.Firewall, err)
	}
	if _, err := CleanUp(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenNft: nft is there, but the kernel or the command does not do.
func TestBrokenNft(t *testing.T) {
	if !isolated(t) {
		return
	}
	tools := map[string]string{"nft": "false"}
	for name, stands := range legacyTools {
		tools[name] = stands
	}
	onlyTools(t, tools)
	cfg := testConfig("")
	ep := endpoint(cfg, 0, Policy{Mode: Open})
	if _, err := Attach(t.Context(), cfg, ep); err != nil {
		t.Fatal(err)
	}
	backends, err := Backends(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range backends {
		if b.Usable != (b.Name == "iptables") {
			t.Errorf("%+v", b)
		}
	}
}

// TestNoFirewall: without any, nothing is attached and nothing is left.
func TestNoFirewall(t *testing.T) {
	if !isolated(t) {
		return
	}
	onlyTools(t, map[string]string{"ip": "ip"})
	cfg := testConfig("")
	ep := endpoint(cfg, 0, Policy{Mode: Open})
	if _, err := Attach(t.Context(), cfg, ep); err == nil {
		t.Fatal("a tenant was attached without a firewall")
	}
	if exec.Command("ip", "link", "show", ep.TAP).Run() == nil {
		t.Error("the TAP was left")
	}
}
