package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// killable are the operations that change something, each on the files of one
// folder: data.ext4 holds the state "old", other.ext4 and the export in
// stream the state "new".
var killable = map[string]func(ctx context.Context, dir string) error{
	"create": func(ctx context.Context, dir string) error {
		_, err := CreateData(ctx, filepath.Join(dir, "created.ext4"), 2048, vmUser, vmUser)
		return err
	},
	"prepare": func(ctx context.Context, dir string) error {
		_, err := PrepareData(ctx, filepath.Join(dir, "data.ext4"))
		return err
	},
	"grow": func(ctx context.Context, dir string) error {
		return Grow(ctx, filepath.Join(dir, "data.ext4"), 1000)
	},
	"repair": func(ctx context.Context, dir string) error {
		_, err := Repair(ctx, filepath.Join(dir, "data.ext4"))
		return err
	},
	"trim": func(ctx context.Context, dir string) error {
		_, err := Trim(ctx, filepath.Join(dir, "data.ext4"))
		return err
	},
	"import": func(ctx context.Context, dir string) error {
		stream, err := os.ReadFile(filepath.Join(dir, "stream"))
		if err != nil {
			return err
		}
		o := ImportOptions{MaxBytes: 1 << 30, MinBytes: 128 * mib, UID: vmUser, GID: vmUser, Replace: true}
		_, err = Import(ctx, filepath.Join(dir, "data.ext4"), bytes.NewReader(stream), o)
		return err
	},
	"snapshot": func(ctx context.Context, dir string) error {
		err := RemoveSnapshot(dir, "taken")
		if err == nil {
			_, err = Snapshot(ctx, filepath.Join(dir, "data.ext4"), dir, "taken", false)
		}
		return err
	},
	"rollback": func(ctx context.Context, dir string) error {
		_, err := Rollback(ctx, filepath.Join(dir, "data.ext4"), dir, "other")
		return err
	},
	"folder": func(ctx context.Context, dir string) error {
		_, err := MakeFolder(ctx, filepath.Join(dir, "folder.ext4"), filepath.Join(dir, "folder"), FolderOptions{MaxBytes: 1 << 30, UID: vmUser, GID: vmUser})
		return err
	},
	"secrets": func(ctx context.Context, dir string) error {
		return MakeSecrets(ctx, filepath.Join(dir, "secrets.ext4"), []File{{"state", []byte("new")}, {"big", make([]byte, 4*mib)}}, vmUser, vmUser)
	},
}

// runToBeKilled is what the child of TestKilled does.
func runToBeKilled(op, dir string) int {
	fmt.Println("started")
	if err := killable[op](context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startKillable starts a process that carries out op, and returns once it has
// begun.
func startKillable(t *testing.T, op, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "MVM_VOLUME_TEST_KILL="+op, "MVM_VOLUME_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Killed at any instant, an operation has happened or not, and can be run
// again.
func TestKilled(t *testing.T) {
	const instants = 8
	state := func(t *testing.T, image string, either ...string) {
		t.Helper()
		got := string(content(t, image, "/state"))
		for _, want := range either {
			if got == want {
				return
			}
		}
		t.Errorf("%s holds %q, want one of %q", filepath.Base(image), got, either)
	}
	template := t.TempDir()
	old, other := crashed(t, 64), data(t, 100)
	if _, err := PrepareData(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	setFile(t, old, "old")
	setFile(t, other, "new")
	command(t, "debugfs", "-w", "-R", "feature needs_recovery", old)
	command(t, "cp", "-p", old, filepath.Join(template, "data.ext4"))
	command(t, "cp", "-p", other, filepath.Join(template, "other.ext4"))
	write(t, filepath.Join(template, "stream"), exported(t, other))
	if err := os.Mkdir(filepath.Join(template, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(template, "folder", "state"), []byte("new"))
	write(t, filepath.Join(template, "folder", "big"), make([]byte, 4*mib))

	for op, run := range killable {
		t.Run(op, func(t *testing.T) {
			fresh := func() string {
				dir := memory(t, "size=64m")
				command(t, "cp", "-rp", "--sparse=always", "-T", template, dir)
				return dir
			}
			start := time.Now()
			if err := run(t.Context(), fresh()); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			for i := range instants {
				dir := fresh()
				at := func(name string) string { return filepath.Join(dir, name) }
				child := startKillable(t, op, dir)
				time.Sleep(took * time.Duration(i) / instants) // the instant
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				var exit *exec.ExitError
				if err := child.Wait(); err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				if _, err := PrepareData(t.Context(), at("data.ext4")); err != nil {
					t.Fatal(err)
				}
				state(t, at("data.ext4"), "old", "new")
				if _, err := os.Stat(at("created.ext4")); err == nil {
					command(t, "e2fsck", "-f", "-n", at("created.ext4"))
				}
				for _, image := range []string{at("secrets.ext4"), at("folder.ext4")} {
					if _, err := os.Stat(image); err == nil {
						state(t, image, "new")
					}
				}
				if err := run(t.Context(), dir); err != nil {
					t.Errorf("run again: %v", err)
				}
				if left, err := filepath.Glob(at("*.files")); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
				checkClean(t, at("data.ext4"))
				checkOwner(t, at("data.ext4"))
				state(t, at("other.ext4"), "new")
				want := map[string]string{"import": "new", "rollback": "new"}[op]
				if want == "" {
					want = "old"
				}
				state(t, at("data.ext4"), want)
			}
		})
	}
}
