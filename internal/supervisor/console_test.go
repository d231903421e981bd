package supervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestConsoleIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	c, err := openConsole(path, 1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if n, err := c.Write(bytes.Repeat([]byte("x"), 99)); n != 99 || err != nil {
			t.Fatal(n, err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("files = %v, err = %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > 1000 {
			t.Errorf("%s: %v, %v", f, info.Size(), err)
		}
	}
}

func TestASlowReaderDoesNotBlockTheGuest(t *testing.T) {
	c, err := openConsole(filepath.Join(t.TempDir(), "console.log"), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := c.attach()
	for range 1000 {
		if _, err := c.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-r.ch; string(got) != "line\n" {
		t.Errorf("got %q", got)
	}
	c.detach(r)
}

func TestAFullDiskIsSaidInTheLog(t *testing.T) {
	c, err := openConsole("/dev/full", 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write([]byte("gone")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if c.lost != 4 {
		t.Errorf("lost = %d", c.lost)
	}
	// the disk has room again
	path := filepath.Join(t.TempDir(), "log")
	c.f.Close()
	c.path, c.f = path, nil
	if _, err := c.Write([]byte("here")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte("4 bytes")) || !bytes.HasSuffix(data, []byte("here")) {
		t.Errorf("log = %q, err = %v", data, err)
	}
}
