package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/auser/mvm/internal/fault"
)

// TestInterruptedWhileItWaits: a command that waits for whoever is at the other
// end of a pipe ends at once when it is interrupted, and has changed nothing.
func TestInterruptedWhileItWaits(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	mvm := func(ctx context.Context, in *os.File, out io.Writer, args ...string) (int, string) {
		var said bytes.Buffer
		if out == nil {
			out = &said
		}
		code := Run(ctx, append([]string{"--root", root, "tenant"}, args...), Streams{In: in, Out: out, Err: &said})
		return code, said.String()
	}
	if code, said := mvm(t.Context(), nil, nil, "create", "acme", "--flake", dir, "--data-size", "16"); code != 0 {
		t.Fatal(said)
	}
	volumes := filepath.Join(root, "tenants", "acme", "volumes")
	image := filepath.Join(volumes, "data.ext4")
	large := filepath.Join(dir, "large")
	random := make([]byte, 4<<20) // more than a pipe holds
	rand.Read(random)
	if err := os.WriteFile(large, random, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "write "+large+" large", image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, c := range map[string]struct {
		args   []string
		waits  func(in, out *os.File) error // returns when it has begun
		writes bool
	}{
		"export": {
			args:   []string{"volume", "export", "acme"},
			waits:  func(_, out *os.File) error { _, err := io.ReadFull(out, make([]byte, 1)); return err },
			writes: true,
		},
		"import": {
			args:  []string{"volume", "import", "acme", "--yes"},
			waits: func(_, _ *os.File) error { return appears(image + ".new") },
		},
		"secret": {
			args: []string{"secrets", "set", "acme", "token"},
			// As it reads whatever is there, it has begun once a pipe's worth and
			// more is taken.
			waits: func(in, _ *os.File) error { _, err := in.Write(make([]byte, 1<<20)); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inR, inW := pipe(t)
			outR, outW := pipe(t)
			var out io.Writer
			if c.writes {
				out = outW
			}
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			type end struct {
				code int
				said string
			}
			ended := make(chan end, 1)
			go func() {
				code, said := mvm(ctx, inR, out, c.args...)
				ended <- end{code, said}
			}()
			if err := c.waits(inW, outR); err != nil {
				t.Fatal(err)
			}
			interrupt()
			select {
			case e := <-ended:
				if e.code != fault.Interrupted {
					t.Errorf("exit code %d: %s", e.code, e.said)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it goes on waiting")
			}
			if left, err := os.ReadDir(volumes); err != nil || len(left) != 1 {
				t.Errorf("left: %v, %v", left, err)
			}
			if code, said := mvm(t.Context(), nil, nil, "volume", "check", "acme"); code != 0 {
				t.Errorf("the volume afterwards: %s", said)
			}
			if code, said := mvm(t.Context(), nil, nil, "secrets", "list", "acme"); code != 0 || said != "" {
				t.Errorf("its secrets: %d, %s", code, said)
			}
		})
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// appears waits until there is a file at path.
func appears(path string) error {
	for range 2000 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return os.ErrNotExist
}
