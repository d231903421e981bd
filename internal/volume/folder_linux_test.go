package volume

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

const folderMax = 1 << 30

// A copy has what the folder has, nothing from outside of it, and takes the
// place of what an earlier one left.
func TestMakeFolder(t *testing.T) {
	dir := t.TempDir()
	outside, from := filepath.Join(dir, "outside"), filepath.Join(dir, "from")
	at := func(name string) string { return filepath.Join(from, name) }
	must(t, os.MkdirAll(at("a/deep"), 0o755), os.Mkdir(at("empty"), 0o700), os.Mkdir(at(lostFound), 0o700))
	write(t, outside, []byte("SECRET"))
	write(t, at("file"), []byte("hello"))
	write(t, at("a/deep/odd name\n\"'"), nil)
	write(t, at("tool"), bytes.Repeat([]byte("x"), 3*mib+1))
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t,
		os.Chown(at("file"), 1234, 5678), os.Chmod(at("file"), 0o000),
		os.Chmod(at("tool"), os.ModeSetuid|0o755), os.Chtimes(at("tool"), when, when),
		os.Link(at("tool"), at("twin")),
		os.Symlink(outside, at("link")), os.Symlink("../..", at("a/up")),
		unix.Mkfifo(at("pipe"), 0o600), unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chown(from, 11, 12), os.Chmod(from, 0o711),
	)
	socket, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer socket.Close()

	image := filepath.Join(dir, "x.ext4")
	must(t, os.Mkdir(image+".files", 0o700))
	write(t, filepath.Join(image+".files", "stale"), nil) // of a killed call
	for range 2 {
		got, err := MakeFolder(t.Context(), image, from, FolderOptions{MaxBytes: folderMax, UID: vmUser, GID: vmUser})
		must(t, err)
		if want := (Folder{Files: 9, Bytes: 5 + 2*(3*mib+1), Skipped: 4}); got != want {
			t.Errorf("copied %+v, want %+v", got, want)
		}
		checkOwner(t, image)
		command(t, "e2fsck", "-f", "-n", image)
	}
	want := []string{
		"040711 11:12 /", "040755 0:0 /a", "040755 0:0 /a/deep", "120777 0:0 /a/up", "040700 0:0 /empty",
		"100000 1234:5678 /file", "120777 0:0 /link", "100755 0:0 /tool", "100755 0:0 /twin",
	}
	lines := listing(t, image)
	odd := 0
	lines = cut(lines, func(l string) bool {
		odd += strings.Count(l, "odd name")
		return strings.Contains(l, "odd name") || !strings.Contains(l, "/")
	})
	if diff := cmp.Diff(want, lines, cmpSorted()); diff != "" || odd != 1 {
		t.Errorf("%d odd names, %s", odd, diff)
	}
	if got := string(content(t, image, "/file")); got != "hello" || !holds(t, image, "hello") {
		t.Errorf("/file holds %q", got)
	}
	if stat := command(t, "debugfs", "-R", "stat /tool", image); !strings.Contains(stat, "Feb  3") || !strings.Contains(stat, "2001") {
		t.Errorf("the time is lost: %s", stat)
	}
	if holds(t, image, "SECRET") {
		t.Error("a link was followed out of the folder")
	}
	left, err := filepath.Glob(image + ".*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// holds says whether a value stands anywhere in an image.
func holds(t *testing.T, image, value string) bool {
	t.Helper()
	return command(t, "sh", "-c", `grep -qF "$1" "$2" && echo yes || [ $? = 1 ]`, "sh", value, image) != ""
}

func cut(lines []string, out func(string) bool) []string {
	var in []string
	for _, l := range lines {
		if !out(l) {
			in = append(in, l)
		}
	}
	return in
}

// What is swapped for a link while it is copied does not lead out either.
func TestFolderThatChanges(t *testing.T) {
	dir := t.TempDir()
	outside, from, image := filepath.Join(dir, "outside"), filepath.Join(dir, "from"), filepath.Join(dir, "x.ext4")
	must(t, os.MkdirAll(filepath.Join(from, "honest"), 0o755), os.Mkdir(outside, 0o755), os.Symlink(outside, filepath.Join(from, "evil")))
	write(t, filepath.Join(outside, "file"), []byte("SECRET"))
	write(t, filepath.Join(from, "honest", "file"), []byte("honest"))
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(from, "honest"), unix.AT_FDCWD, filepath.Join(from, "evil"), unix.RENAME_EXCHANGE)
			if err != nil {
				<-stop
				stopped <- err
				return
			}
		}
	}()
	for range 10 {
		// A link out of the folder is an error where a folder had been seen.
		if _, err := MakeFolder(t.Context(), image, from, FolderOptions{MaxBytes: folderMax, UID: vmUser, GID: vmUser}); err != nil {
			continue
		}
		if holds(t, image, "SECRET") {
			t.Error("it was led out of the folder")
		}
	}
	close(stop)
	must(t, <-stopped)
}

func TestMakeFolderFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	from, image := filepath.Join(dir, "from"), filepath.Join(dir, "x.ext4")
	must(t, os.Mkdir(from, 0o755))
	write(t, filepath.Join(from, "big"), make([]byte, 2*mib))
	for name, c := range map[string]struct {
		from    string
		most    int64
		without string
		want    string
	}{
		"too large":              {from, mib, "", "does not fit into 1 MiB"},
		"just so":                {from, 2 * mib, "", "does not fit into 2 MiB"},
		"no room":                {from, 200 * mib, "", "does not fit into 200 MiB"},
		"what is not for guests": {dir, folderMax, from, "not for a guest"},
		"no folder":              {filepath.Join(from, "none"), folderMax, "", "no such file"},
		"it is a file":           {filepath.Join(from, "big"), folderMax, "", "not a directory"},
	} {
		if _, err := MakeFolder(t.Context(), image, c.from, FolderOptions{MaxBytes: c.most, UID: vmUser, GID: vmUser, Without: c.without}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
