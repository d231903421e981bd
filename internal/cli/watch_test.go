package cli

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListIsWatched keeps a list in its place on a terminal while tenants come,
// until Ctrl-C ends it.
func TestListIsWatched(t *testing.T) {
	tmux, see := startTmux(t, "mvm")
	see("READY:")
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/flake.nix", []byte("{ outputs = _: { }; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/go", 0o600); err != nil {
		t.Fatal(err)
	}
	script := `create() { mvm tenant create $1 --flake . --data-size 16; }
create acme
(read line < go; create web) > /dev/null &
clear
mvm tenant list --watch
echo ended with $?
`
	if err := os.WriteFile(dir+"/script", []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	tmux("send-keys", "cd "+dir+"; . ./script", "Enter")
	see("TENANT")
	if err := os.WriteFile(dir+"/go", []byte("on\n"), 0o600); err != nil { // waits for the reader
		t.Fatal(err)
	}
	see("\nweb ")
	screen := tmux("capture-pane", "-p")
	if !strings.HasPrefix(screen, "TENANT ") || strings.Count(screen, "acme ") != 1 {
		t.Errorf("it is not in its place:\n%s", screen)
	}
	for line := range strings.Lines(screen) {
		if width := len([]rune(strings.TrimRight(line, "\n"))); width > 100 {
			t.Errorf("%d wide: %s", width, line)
		}
	}
	tmux("send-keys", "C-c")
	see("ended with 0")
}
