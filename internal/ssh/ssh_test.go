package ssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auser/mvm/internal/goldenfile"
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenfile.Check(t, filepath.Join("testdata", name), got)
}

func TestArgs(t *testing.T) {
	target := Target{ID: "acme", Addr: "10.50.0.10", Dir: "/var/lib/mvm/tenants/acme/ssh"}
	odd := Target{ID: "acme", Addr: "10.50.0.10", Port: 2222, Dir: `/srv/100% "mine"/ssh`}
	for name, args := range map[string][]string{
		"shell.golden":   Args(target, Options{TTY: true}, nil),
		"command.golden": Args(target, Options{}, []string{"sh", "-c", "echo 'a  b' >&2; exit 7"}),
		"odd.golden":     Args(odd, Options{Extra: []string{"-L", "8080:localhost:80"}}, []string{"-v"}),
	} {
		golden(t, name, strings.Join(args, "\n")+"\n")
	}
}

func TestConfig(t *testing.T) {
	golden(t, "config.golden", Config(Target{ID: "acme", Addr: "10.50.0.10", Dir: "/var/lib/mvm/tenants/acme/ssh"}))
}

// The client itself says how it understood a stanza.
func TestConfigIsReadAsMeant(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `50% of "this" \ folder`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config")
	target := Target{ID: "acme", Addr: "10.50.0.10", Port: 2222, Dir: dir}
	if err := os.WriteFile(file, []byte(Config(target)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-G", "-F", file, "acme").CombinedOutput()
	if err != nil {
		t.Fatalf("ssh -G: %v: %s", err, out)
	}
	for _, want := range []string{
		"hostname 10.50.0.10", "port 2222", "user root", "hostkeyalias acme",
		"stricthostkeychecking true", "identitiesonly yes", "batchmode yes",
		"controlmaster false",
		"userknownhostsfile " + filepath.Join(dir, KnownHosts),
	} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("ssh -G lacks %q:\n%s", want, out)
		}
	}
}

func TestQuoteSurvivesTheShell(t *testing.T) {
	words := []string{"", "a b", "it's", `"$HOME"`, "`id`", "a\nb", "*", "-n", "A=b", `\`, "ünï", "~", "#", "if"}
	for _, shell := range [][]string{{"sh"}, {"bash"}, {"busybox", "sh"}} {
		line := "printf '%s\\0' " + Quote(words)
		out, err := exec.Command(shell[0], append(shell[1:], "-c", line)...).Output()
		if err != nil {
			t.Fatalf("%v: %v", shell, err)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if diff := cmp.Diff(words, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", shell, diff)
		}
	}
}
