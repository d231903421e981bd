package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// tree makes a host of files.
func tree(t *testing.T, files map[string]string) system {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return system(root)
}

func TestSystemChecks(t *testing.T) {
	const cpu = "sys/devices/system/cpu/"
	good := tree(t, map[string]string{
		cpu + "smt/active": "0", "sys/kernel/mm/ksm/run": "0", "proc/swaps": "Filename Type Size Used Priority",
		cpu + "vulnerabilities/meltdown": "Mitigation: PTI", cpu + "vulnerabilities/itlb_multihit": "Not affected",
		"sys/module/kvm/parameters/nx_huge_pages": "never", "proc/cmdline": "root=/dev/vda1 quiet loglevel=1",
	})
	bad := tree(t, map[string]string{
		cpu + "smt/active": "1", "sys/kernel/mm/ksm/run": "1", "proc/swaps": "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2",
		cpu + "vulnerabilities/meltdown": "Vulnerable", cpu + "vulnerabilities/itlb_multihit": "Not affected",
		"sys/module/kvm/parameters/nx_huge_pages": "Y", "proc/cmdline": "root=/dev/vda1",
	})
	for name, run := range map[string]func(system) Finding{
		"smt":             func(s system) Finding { return s.smt(t.Context()) },
		"ksm":             func(s system) Finding { return s.ksm(t.Context()) },
		"swap":            func(s system) Finding { return s.swap(t.Context()) },
		"vulnerabilities": func(s system) Finding { return s.vulnerabilities(t.Context()) },
		"console":         func(s system) Finding { return s.console(t.Context()) },
		"hugePages":       func(s system) Finding { return s.hugePages(t.Context()) },
	} {
		if f := run(good); f.Level != OK {
			t.Errorf("%s on a good host: %+v", name, f)
		}
		if f := run(bad); f.Level != Warning || f.Fix == "" {
			t.Errorf("%s on a bad host: %+v", name, f)
		}
	}
}

func TestKernel(t *testing.T) {
	for release, want := range map[string]Level{
		"6.1.0-40-amd64": OK, "5.10.0": OK, "6.12.3": Note, "4.19.0": Failure, "5.4.0": Failure, "odd": Note,
	} {
		if f := kernelFinding(release); f.Level != want {
			t.Errorf("%s: %+v, want %s", release, f, want)
		}
	}
}

func TestFix(t *testing.T) {
	bad := tree(t, map[string]string{"sys/kernel/mm/ksm/run": "1"})
	var ksm Check
	for _, c := range bad.checks() {
		if c.Name() == "same-page merging" {
			ksm = c
		}
	}
	if r := Run(t.Context(), []Check{ksm}, false)[0]; r.Level != Warning || !r.Fixable || r.Fixed {
		t.Errorf("without --fix: %+v", r)
	}
	if r := Run(t.Context(), []Check{ksm}, true)[0]; r.Level != OK || !r.Fixed {
		t.Errorf("with --fix: %+v", r)
	}
	broken := fixable{
		check{"broken", func(context.Context) Finding { return failure("mend it", "broken") }},
		func(context.Context) error { return errors.New("no tools") },
	}
	r := Run(t.Context(), []Check{broken}, true)
	if r[0].Fixed || r[0].Error != "no tools" || Worst(r) != Failure {
		t.Errorf("a fix that fails: %+v", r)
	}
}

func TestReplaceable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	file := filepath.Join(dir, "firecracker")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, file os.FileMode
		owner     int
		want      string
	}{{0o755, 0o755, 0, ""}, {0o755, 0o775, 0, file}, {0o777, 0o755, 0, dir}, {0o755, 0o755, 1000, file}, {os.ModeSticky | 0o777, 0o755, 0, ""}} {
		err := errors.Join(os.Chmod(dir, c.dir), os.Chown(file, c.owner, 0), os.Chmod(file, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := replaceable(file); got != c.want || err != nil {
			t.Errorf("folder %v, file %v of %d: %q, %v, want %q", c.dir, c.file, c.owner, got, err, c.want)
		}
	}
	if _, err := replaceable(file + "-none"); err == nil {
		t.Error("a file that is not there is fine")
	}
}
