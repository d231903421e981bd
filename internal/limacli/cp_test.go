package limacli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Copies go between this host, not the Lima VM, and the guest.
func TestCopy(t *testing.T) {
	w := ready(t)
	guest := w.home.Guest("mvm", "/var/lib/guest-acme")
	content := strings.Repeat("all bytes \x00\xff\r\n", 100_000)
	err := os.MkdirAll(filepath.Join(w.dir, "site", "deep"), 0o755)
	if err == nil {
		err = os.MkdirAll(guest, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "site", "deep", "file"), []byte(content), 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tenant", "cp", "./site", "acme:in/"},
		{"-q", "t", "cp", "acme:in/site/deep/file", "."},
		{"tenant", "cp", "acme:in/site", "back", "--verbose", "--no-color"},
	} {
		if out, code := w.mvm(t, "", args...); code != 0 || out != "" {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
	for _, path := range []string{filepath.Join(guest, "in/site/deep/file"), filepath.Join(w.dir, "file"), filepath.Join(w.dir, "back/deep/file")} {
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"tenant", "cp", "missing", "acme:x"}, 2, "cannot copy missing to acme:x: stat "},
		{[]string{"tenant", "cp", "acme:missing", "x"}, 1, "cannot copy acme:missing to x: the guest ended with "},
		{[]string{"tenant", "cp", "site", "other:x"}, 3, "no such tenant: other"},
		{[]string{"tenant", "cp", "site", "x"}, 0, `["tenant" "cp" "site" "x"]`}, // for the mvm inside to refuse
	} {
		if out, code := w.mvm(t, "", c.args...); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit %d: %s", c.args, code, out)
		}
	}
}
