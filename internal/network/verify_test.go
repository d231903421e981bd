package network

import (
	"net/netip"
	"testing"
)

// TestVerify is the operator's proof, beside a tenant that runs.
func TestVerify(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		policy := Policy{Mode: Allow, Allow: []Rule{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Proto: "tcp", Port: 443}}}
		g := attach(t, cfg, endpoint(cfg, 0, policy))
		results, err := Verify(t.Context(), cfg, g.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		tried := 0
		for _, r := range results {
			if r.Skipped != "" {
				t.Logf("skipped %d (%s)", r.Number, r.Name)
				continue
			}
			tried++
			if !r.Blocked {
				t.Errorf("attack %d (%s) got through", r.Number, r.Name)
			}
		}
		if tried < 46 {
			t.Errorf("only %d attacks were tried", tried)
		}
		clean(t, cfg, g.Endpoint)
		gatewayAnswersPings(t, w, cfg, g)
	})
}

// TestVerifyFindsHoles: with rules taken away, the proof fails.
func TestVerifyFindsHoles(t *testing.T) {
	if !isolated(t) {
		return
	}
	newWorld(t)
	cfg := testConfig("nft")
	g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
	// The base rules look right, and yet somebody's own rule lets things pass.
	for _, chain := range []string{"from_tenant", "forward_from_tenant", "input_from_tenant"} {
		command(t, "nft", "insert", "rule", "inet", "mvm", chain, "meta", "mark", "set", "0x10000000", "accept")
	}
	command(t, "nft", "insert", "rule", "bridge", "mvm", "from_tenant", "meta", "mark", "set", "0x10000000", "accept")
	results, err := Verify(t.Context(), cfg, g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	holes := map[int]bool{}
	for _, r := range results {
		if r.Skipped == "" && !r.Blocked {
			holes[r.Number] = true
		}
	}
	for _, number := range []int{23, 34, 35, 40, 41, 52} {
		if !holes[number] {
			t.Errorf("attack %d is said to be blocked", number)
		}
	}
	if changes, err := Check(t.Context(), cfg, []Endpoint{g.Endpoint}); err != nil || !names(changes, "firewall rules (nft)") {
		t.Errorf("check finds %v, %v", changes, err)
	}
}
