//go:build reallima

package limacli

import "testing"

// TestRealLima holds a real Lima VM to what the fake one is held to, so that
// the fake stays true. It takes a VM that mvm setup made and that runs, of the
// name in MVM_LIMA_VM, and brings the test program into it in mvm's place; the
// next command of mvm's puts that back.
func TestRealLima(t *testing.T) {
	w := hostWorld(t)
	if out, code := w.mvm(t, "", "exit", "0"); code != 0 {
		t.Fatalf("it does not run: exit %d: %s", code, out)
	}
	for name, test := range proxyTests {
		t.Run(name, func(t *testing.T) { test(t, w) })
	}
}
