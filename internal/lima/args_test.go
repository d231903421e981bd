package lima

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestFindInputs(t *testing.T) {
	with := t.TempDir()
	if err := os.WriteFile(filepath.Join(with, "flake.nix"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	without := t.TempDir()
	for _, c := range []struct {
		dir    string
		args   []string
		want   []string
		flakes []int
		stdin  string
		stdout string

		variable string

		tenant string
		dev    bool

		volumes   []int
		overrides []int
		runs      []string
		trace     string
	}{
		{dir: with, args: []string{"tenant", "list"}, want: []string{"tenant", "list"}},
		{dir: with, args: []string{"tenant", "create", "a"}, want: []string{"tenant", "create", "a", "--flake", "."}, flakes: []int{4}},
		{dir: without, args: []string{"tenant", "create", "a"}, want: []string{"tenant", "create", "a"}},
		{dir: with, args: []string{"tenant", "create", "--help"}, want: []string{"tenant", "create", "--help"}},
		{dir: with, args: []string{"tenant", "create", "a", "--flake=github:x/y"}, want: []string{"tenant", "create", "a", "--flake", "github:x/y"}},
		{dir: with, args: []string{"t", "create", "a", "--flake=./x", "--mem", "1"}, want: []string{"t", "create", "a", "--flake", "./x", "--mem", "1"}, flakes: []int{4}},
		{dir: with, args: []string{"tenant", "ssh", "a", "--", "--flake", "."}, want: []string{"tenant", "ssh", "a", "--", "--flake", "."}},
		{dir: with, args: []string{"--root", "tenant", "tenant", "build", "a"}, want: []string{"--root", "tenant", "tenant", "build", "a"}, tenant: "a"},
		{dir: with, args: []string{"x", "--from-file", "f"}, want: []string{"x", "--from-file", "-"}, stdin: filepath.Join(with, "f")},
		{dir: with, args: []string{"x", "--from-file=/f"}, want: []string{"x", "--from-file", "-"}, stdin: "/f"},
		{dir: with, args: []string{"x", "--from-file", "-"}, want: []string{"x", "--from-file", "-"}},
		{dir: with, args: []string{"tenant", "create", "a", "--", "x"}, want: []string{"tenant", "create", "a", "--flake", ".", "--", "x"}, flakes: []int{4}},
		{dir: with, args: []string{"flake", "check", "./x", "--engine", "docker"}, want: []string{"flake", "check", "./x", "--engine", "docker"}, flakes: []int{2}},
		{dir: with, args: []string{"flake", "check", "github:x/y"}, want: []string{"flake", "check", "github:x/y"}},
		{dir: with, args: []string{"apply", "--dry-run", "-f", "d/t.yaml"}, want: []string{"apply", "--dry-run", "-f", "-"}, stdin: filepath.Join(with, "d", "t.yaml")},
		{dir: with, args: []string{"tenant", "logs", "-f", "a"}, want: []string{"tenant", "logs", "-f", "a"}},
		{dir: with, args: []string{"t", "volume", "import", "a", "--from=v", "--yes"}, want: []string{"t", "volume", "import", "a", "--from", "-", "--yes"}, stdin: filepath.Join(with, "v")},
		{dir: with, args: []string{"tenant", "volume", "export", "a", "--to", "v"}, want: []string{"tenant", "volume", "export", "a", "--to", "-"}, stdout: filepath.Join(with, "v")},
		{dir: with, args: []string{"tenant", "secrets", "set", "a", "k", "--from-env", "V"}, want: []string{"tenant", "secrets", "set", "a", "k", "--from-file", "-"}, variable: "V"},
		{dir: with, args: []string{"tenant", "run", "--trace", "t.json", "a"}, want: []string{"tenant", "run", "--trace", "t.json", "a"}, runs: []string{"a"}, trace: filepath.Join(with, "t.json")},
		{dir: with, args: []string{"t", "run", "a", "--trace=/t.json"}, want: []string{"t", "run", "a", "--trace", "/t.json"}, runs: []string{"a"}, trace: "/t.json"},
		// No other command has the flag, so nothing is written for it.
		{dir: with, args: []string{"tenant", "restart", "a", "--trace", "t.json"}, want: []string{"tenant", "restart", "a", "--trace", "t.json"}, runs: []string{"a"}},
		{dir: with, args: []string{"tenant", "stop", "a", "--trace=t.json"}, want: []string{"tenant", "stop", "a", "--trace", "t.json"}},
		{dir: with, args: []string{"tenant", "build", "--engine", "docker", "a"}, want: []string{"tenant", "build", "--engine", "docker", "a"}, tenant: "a"},
		{dir: with, args: []string{"flake", "check", "--override-input", "n=./x", "--override-input=m=/y", "./z"}, want: []string{"flake", "check", "--override-input", "n=./x", "--override-input", "m=/y", "./z"}, flakes: []int{6}, overrides: []int{3, 5}},
		// Of what contradicts itself, or names nothing, the command inside says so.
		{dir: with, args: []string{"tenant", "secrets", "set", "a", "k", "--from-env", "V", "--from-file=f"}, want: []string{"tenant", "secrets", "set", "a", "k", "--from-env", "V", "--from-file=f"}},
		{dir: with, args: []string{"tenant", "secrets", "set", "a", "k", "--from-file", "-", "--from-env=V"}, want: []string{"tenant", "secrets", "set", "a", "k", "--from-file", "-", "--from-env=V"}},
		{dir: with, args: []string{"tenant", "secrets", "set", "a", "k", "--from-env", ""}, want: []string{"tenant", "secrets", "set", "a", "k", "--from-env", ""}},
		{dir: with, args: []string{"apply", "-f", "x", "--help"}, want: []string{"apply", "-f", "x", "--help"}},
		{dir: with, args: []string{"dev", "--", "ls"}, want: []string{"dev", "--", "ls"}, dev: true},
		{dir: with, args: []string{"dev", "--flake=./x"}, want: []string{"dev", "--flake", "./x"}, flakes: []int{2}, dev: true},
		{dir: with, args: []string{"start", "-v", "./a:/a", "--volume=1G:/b", "-v./c:/c", "-v=d:/d", "--", "-v", "e:/e"}, want: []string{"start", "-v", "./a:/a", "--volume", "1G:/b", "-v", "./c:/c", "-v", "d:/d", "--", "-v", "e:/e"}, volumes: []int{2, 4, 6, 8}, dev: true},
		{dir: with, args: []string{"t", "set", "a", "-v", "./a:/a"}, want: []string{"t", "set", "a", "-v", "./a:/a"}, volumes: []int{4}},
		{dir: with, args: []string{"tenant", "create", "a", "-v", "./a:/a"}, want: []string{"tenant", "create", "a", "-v", "./a:/a", "--flake", "."}, flakes: []int{6}, volumes: []int{4}},
		{dir: with, args: []string{"tenant", "ssh", "a", "-vx"}, want: []string{"tenant", "ssh", "a", "-vx"}},
		{dir: with, args: []string{"t", "run", "a", "--no-wait", "b"}, want: []string{"t", "run", "a", "--no-wait", "b"}, runs: []string{"a", "b"}},
		{dir: with, args: []string{"tenant", "restart", "--parallel", "2", "a", "b"}, want: []string{"tenant", "restart", "--parallel", "2", "a", "b"}, runs: []string{"a", "b"}},
		{dir: with, args: []string{"tenant", "restart", "--force", "a"}, want: []string{"tenant", "restart", "--force", "a"}, runs: []string{"a"}},
	} {
		got := FindInputs(c.args, c.dir)
		if !slices.Equal(got.Args, c.want) || !slices.Equal(got.Flakes, c.flakes) || got.Stdin != c.stdin || got.Stdout != c.stdout || got.Variable != c.variable || got.Tenant != c.tenant || got.Dev != c.dev || !slices.Equal(got.Volumes, c.volumes) || !slices.Equal(got.Runs, c.runs) || !slices.Equal(got.Overrides, c.overrides) || got.Trace != c.trace {
			t.Errorf("%q became %+v", c.args, got)
		}
	}
}

func TestSystemFoldersAreNotReplaced(t *testing.T) {
	for _, top := range []string{"/", "/Users", "/etc", "/usr/share/x", "/root/x", "/var/lib/mvm", "/home"} {
		if checkDestination(top) == nil {
			t.Errorf("%s would be replaced", top)
		}
	}
	for _, top := range []string{"/Users/ann/x", "/home/ann/x", "/tmp/x", "/var/folders/ab/x"} {
		if err := checkDestination(top); err != nil {
			t.Error(err)
		}
	}
}
