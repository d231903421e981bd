package lima

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/goldenfile"
)

func TestTemplates(t *testing.T) {
	mac := Host{OS: "darwin", Arch: "arm64", Chip: "Apple M3", MacOS: "15.2"}
	pc := Host{OS: "linux", Arch: "amd64", KVM: true, Nested: true}
	seen := map[string]string{}
	for _, c := range []struct {
		name string
		host Host
		s    Settings
	}{
		{"mac-native-docker", mac, Settings{Native, EngineDocker, 4, 8, 100}},
		{"mac-software-containerd", mac, Settings{Software, EngineContainerd, 4, 8, 100}},
		{"mac-emulated-docker", mac, Settings{Emulated, EngineDocker, 2, 4, 60}},
		{"intel-software-docker", Host{OS: "darwin", Arch: "amd64"}, Settings{Software, EngineDocker, 4, 8, 100}},
		{"linux-native-docker", pc, Settings{Native, EngineDocker, 4, 8, 100}},
		{"linux-arm-software-docker", Host{OS: "linux", Arch: "arm64"}, Settings{Software, EngineDocker, 4, 8, 100}},
	} {
		text, hash, err := Render(c.host, c.s)
		if err != nil {
			t.Fatal(err)
		}
		goldenfile.Check(t, filepath.Join("testdata", c.name+".yaml"), string(text))
		if !bytes.Contains(text, []byte(`MVM_TEMPLATE: "`+hash+`"`)) || seen[hash] != "" {
			t.Errorf("%s has the hash %s, as has %s", c.name, hash, seen[hash])
		}
		seen[hash] = c.name
		// Lima expands these itself.
		if bytes.Contains(text, []byte("{{")) || bytes.Contains(text, []byte("[[.")) {
			t.Errorf("%s is not fully rendered", c.name)
		}
	}
}

func TestTemplateHashIsStable(t *testing.T) {
	h := Host{OS: "linux", Arch: "amd64"}
	s := Settings{Software, EngineDocker, 4, 8, 100}
	one, a, _ := Render(h, s)
	two, b, _ := Render(h, s)
	if a != b || !bytes.Equal(one, two) {
		t.Error("rendered twice, it differs")
	}
	if _, _, err := Render(h, Settings{Machine: Software, Engine: "rkt"}); err == nil {
		t.Error("an unknown engine is taken")
	}
}

// The scripts are shell that a shell takes, and the linter where there is one.
func TestScripts(t *testing.T) {
	text, _, err := Render(Host{OS: "linux", Arch: "amd64"}, Settings{Native, EngineDocker, 4, 8, 100})
	if err != nil {
		t.Fatal(err)
	}
	boot, provision, _ := strings.Cut(string(text), "- mode: system\n")
	unquote := func(text string) string {
		_, script, _ := strings.Cut(text, "script: |\n")
		return regexp.MustCompile(`(?m)^    `).ReplaceAllString(script, "")
	}
	check := func(name, shell, script string) {
		cmd := exec.Command(shell, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if _, err := exec.LookPath("shellcheck"); err == nil {
			cmd := exec.Command("shellcheck", "--shell", shell, "--exclude", "SC2016", "-")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	check("boot", "sh", unquote(boot))
	check("provisioning", "bash", unquote(provision))
	for name, script := range map[string]string{"probe": probeScript, "install": installScript, "remote": remoteScript, "signal": signalScript, "code": codeScript, "receive": receiveScript, "has": hasScript} {
		check(name, "sh", script)
	}
}
