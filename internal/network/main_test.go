package network

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// helper makes the test binary attach or detach one tenant and end, in place
// of running tests.
const helper = "MVM_NETWORK_HELPER"

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(helper)); len(words) == 3 {
		n, err := strconv.Atoi(words[1])
		if err == nil {
			cfg := testConfig(words[2])
			ep := endpoint(cfg, n, Policy{Mode: Open})
			switch words[0] {
			case "attach":
				_, err = Attach(context.Background(), cfg, ep)
			case "detach":
				err = Detach(context.Background(), cfg, ep)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helperCommand(verb string, n int, cfg Config) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", helper, verb, n, cfg.Firewall))
	return cmd
}

// eachFirewall runs the test in namespaces of its own for each backend.
func eachFirewall(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, firewall := range firewalls {
		t.Run(firewall, func(t *testing.T) {
			if isolated(t) {
				test(t, testConfig(firewall))
			}
		})
	}
}

// clean fails the test if Check finds a difference.
func clean(t *testing.T, cfg Config, eps ...Endpoint) {
	t.Helper()
	changes, err := Check(t.Context(), cfg, eps)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		t.Errorf("still to do: %s", c)
	}
}

// snapshot is everything of the host's network that mvm could have touched.
func snapshot(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-4", "addr"}, {"ip", "rule"}, {"ip", "-4", "route", "show", "table", "all"},
		{"ip", "neigh", "show", "nud", "permanent"}, {"bridge", "fdb"}, {"nft", "list", "ruleset"}, {"ipset", "list", "-n"},
	} {
		fmt.Fprintf(&out, "# %s\n%s", strings.Join(args, " "), command(t, args[0], args[1:]...))
	}
	return out.String()
}
