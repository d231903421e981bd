package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBashCompletes sources the script in a real bash and presses Tab there.
func TestBashCompletes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, dir+"/mvm"); err != nil { // testscript tells it by its name
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/flake", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake", "flake.nix"), []byte("{ outputs = _: { }; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bash := func(script string, words ...string) string {
		t.Helper()
		cmd := exec.Command("bash", append([]string{"-euc", script, "bash"}, words...)...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "MVM_ROOT=" + dir + "/root", "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	bash(`for id in acme acorn web; do mvm tenant create $id --flake ./flake --data-size 16 --profile special; done
mvm tenant volume snapshot acme kept
mkdir -p root/tenants/acme/volumes root/retained/acorn-20260801T101500.000Z root/retained/web-20260802T101500.000Z
: > root/tenants/acme/volumes/work.ext4`)
	const tab = `set +eu # the completion is not made for them
. /usr/share/bash-completion/bash_completion
. <(mvm completion bash)
compopt() { :; } # the real one wants a key that was pressed
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
$(complete -p mvm | sed 's/.*-F \([^ ]*\) .*/\1/')
printf '%s\n' "${COMPREPLY[@]}"`
	for _, c := range []struct{ line, want string }{
		{"mvm ten", "tenant"},
		{"mvm tenant stop ac", "acme acorn"},
		{"mvm tenant stop w", "web"},
		{"mvm tenant stop acme ", "acorn web"},
		{"mvm tenant pause acme web ", "acorn"},
		{"mvm tenant show acme ", ""},
		{"mvm tenant stats acme ", "acorn web"},
		{"mvm tenant create new --profile ", "baseline minimal python special"},
		{"mvm tenant create new --restart on", "on-failure"},
		{"mvm tenant logs acme --source ", "build console supervisor vmm"},
		{"mvm tenant volume rollback acme ", "kept"},
		{"mvm tenant volume destroy acme ", "/work"},
		{"mvm tenant volume adopt acorn ", "acorn-20260801T101500.000Z"},
		{"mvm retained rm w", "web-20260802T101500.000Z"},
		{"mvm audit ac", "acme acorn"},
		{"mvm audit verify w", "web"},
		{"mvm net verify w", "web"},
		{"mvm tenant restart w", "web"},
		{"mvm tenant list --state re", "restarting"},
		{"mvm logs --source v", "vmm"},
		{"mvm setup --tier ", "kvm software"},
		{"mvm tenant list --js", "--json"},
		{"mvm help tenant resx", ""},
		{"mvm help tenant res", "restart resume"},
		{"mvm completion ", "bash fish zsh"},
	} {
		var got []string
		for line := range strings.Lines(bash(tab, strings.Split(c.line, " ")...)) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" { // the rest describes it
				got = append(got, word)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q and Tab: %q, want %q", c.line, got, c.want)
		}
	}
}
