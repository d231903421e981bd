package network

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleanUpLeavesNothing(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		before := snapshot(t)
		if _, err := CleanUp(t.Context(), cfg); err != nil {
			t.Fatalf("on a host without anything: %v", err)
		}
		for n := range 3 {
			if _, err := Attach(t.Context(), cfg, endpoint(cfg, n, Policy{Mode: Open})); err != nil {
				t.Fatal(err)
			}
		}
		changes, err := CleanUp(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) < 5 {
			t.Errorf("it reports only %v", changes)
		}
		if d := cmp.Diff(before, emptied(snapshot(t))); d != "" {
			t.Error(d)
		}
	})
}

// emptied drops what the host's tools leave behind by their nature: the tables
// with standard chains that iptables makes when it is first used.
func emptied(s string) string {
	var keep []string
	head, ruleset, _ := strings.Cut(s, "# nft list ruleset\n")
	ruleset, tail, _ := strings.Cut(ruleset, "# ipset list")
	for _, table := range strings.SplitAfter(ruleset, "\n}\n") {
		if strings.Contains(table, "\t\t") && strings.Count(table, "\n\t\t") > strings.Count(table, "\t\ttype ") || strings.Contains(strings.ToLower(table), "mvm") {
			keep = append(keep, table)
		}
	}
	return head + "# nft list ruleset\n" + strings.Join(keep, "") + "# ipset list" + tail
}

// goesWhole cleans up after a test and looks for what stays in a list of rules.
func goesWhole(t *testing.T, cfg Config, list ...string) {
	t.Helper()
	if _, err := CleanUp(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if out := command(t, list[0], list[1:]...); strings.Contains(strings.ToLower(out), "mvm") {
		t.Errorf("left behind: %s", out)
	}
}
