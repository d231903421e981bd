package volume

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// An exchange keeps the file that the VMM has open, can be undone, and leaves
// nothing of the content that is not in place.
func TestRenew(t *testing.T) {
	dir := memory(t, "size=64m")
	path := filepath.Join(dir, "secrets.ext4")
	small, large := []byte("old-secret-value"), bytes.Repeat([]byte("new-secret-value"), MaxSecretBytes/16)
	for name, c := range map[string]struct{ old, new []byte }{
		"grows": {small, large}, "shrinks": {large, small},
	} {
		t.Run(name, func(t *testing.T) {
			if err := MakeSecrets(t.Context(), path, []File{{"token", c.old}}, vmUser, vmUser); err != nil {
				t.Fatal(err)
			}
			inode := stat(t, path).Ino
			r, err := Renew(t.Context(), path, []File{{"token", c.new}})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range [][]byte{c.new, c.old, c.new} {
				if err := r.Swap(); err != nil {
					t.Fatal(err)
				}
				command(t, "e2fsck", "-f", "-n", path)
				if got := content(t, path, "/token"); !bytes.Equal(got, want) {
					t.Errorf("after exchange %d: %d bytes, want %d", i+1, len(got), len(want))
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if now := stat(t, path); now.Ino != inode || now.Mode&0o777 != 0o400 || now.Uid != vmUser {
				t.Errorf("it is another file, or another's: %+v", now)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("entries = %v, %v", entries, err)
			}
			if bytes.Contains(read(t, path), c.old[:16]) {
				t.Error("the old value is still on the disk")
			}
		})
	}
}

// Where there is no room for the exchange, nothing is exchanged.
func TestRenewWithoutRoom(t *testing.T) {
	dir := memory(t, "size=1m")
	path := filepath.Join(dir, "secrets.ext4")
	if err := MakeSecrets(t.Context(), path, []File{{"token", []byte("old")}}, vmUser, vmUser); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	_, err := Renew(t.Context(), path, []File{{"token", make([]byte, 2*mib)}})
	if err == nil {
		t.Fatal("no error")
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the content has changed")
	}
	if err := unix.Access(path+".next", unix.F_OK); err == nil {
		t.Error("the next content was left behind")
	}
}
