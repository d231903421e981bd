package volume

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listing is every entry of an image as debugfs sees it, as lines of mode,
// owner, group and path.
func listing(t *testing.T, image string) []string {
	t.Helper()
	var lines []string
	var walk func(dir string)
	walk = func(dir string) {
		out := command(t, "debugfs", "-R", fmt.Sprintf("ls -p %q", dir), image)
		for line := range strings.SplitSeq(out, "\n") {
			f := strings.Split(line, "/") // /inode/mode/uid/gid/name/size/
			if len(f) < 6 || f[5] == ".." || f[5] == "." && dir != "/" {
				continue
			}
			path := filepath.Join(dir, f[5])
			lines = append(lines, fmt.Sprintf("%s %s:%s %s", f[2], f[3], f[4], path))
			if strings.HasPrefix(f[2], "04") && f[5] != "." {
				walk(path)
			}
		}
	}
	walk("/")
	return lines
}

func content(t *testing.T, image, path string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	command(t, "debugfs", "-R", fmt.Sprintf("dump %q %s", path, out), image)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMakeSecrets(t *testing.T) {
	image := filepath.Join(memory(t, "size=64m"), "secrets.ext4")
	files := []File{
		{"token", []byte("s3cret")},
		{"empty", nil},
		{"db/main/password", []byte("p\x00\xff\n")},
		{"ssh/authorized_keys", []byte("ssh-ed25519 AAAA\n")},
	}
	for range 2 { // what is there is replaced
		if err := MakeSecrets(t.Context(), image, files, 1234, 5678); err != nil {
			t.Fatal(err)
		}
		checkClean(t, image)
	}
	want := []string{
		"040500 0:0 /", "100400 0:0 /token", "100400 0:0 /empty", "040500 0:0 /db", "040500 0:0 /ssh",
		"040500 0:0 /db/main", "100400 0:0 /db/main/password", "100400 0:0 /ssh/authorized_keys",
	}

	if diff := cmp.Diff(want, listing(t, image), cmpSorted()); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	for _, f := range files {
		if got := content(t, image, f.Path); !bytes.Equal(got, f.Data) {
			t.Errorf("%s holds %q, want %q", f.Path, got, f.Data)
		}
	}
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0o400 || stat.Uid != 1234 || stat.Gid != 5678 {
		t.Errorf("the image has mode %v and owner %d:%d", info.Mode(), stat.Uid, stat.Gid)
	}
	if taken := stat.Blocks * 512; taken > 128<<10 {
		t.Errorf("the image takes %d bytes", taken)
	}
}

// Whatever the number and size of the files, the image holds them and is not
// much larger than they are.
func TestSecretsImageFits(t *testing.T) {
	dir := memory(t, "size=128m")
	image := filepath.Join(dir, "secrets.ext4")
	rnd := rand.New(rand.NewSource(1))
	big := make([]byte, MaxSecretBytes)
	rnd.Read(big)
	cases := map[string][]File{"none": nil, "one large": {{"big", big}}}
	var small, halves, long []File
	for i := range MaxSecrets {
		small = append(small, File{fmt.Sprintf("f%d", i), []byte("x")})
		halves = append(halves, File{fmt.Sprintf("d%d/f%d", i%50, i), big[:MaxSecretBytes/MaxSecrets]})
		long = append(long, File{fmt.Sprintf("%d/%0200d/%0255d", i%3, i, i), []byte("y")})
	}
	cases["many small"], cases["folders"], cases["long names"] = small, halves, long
	for range 20 {
		var files []File
		for i := range rnd.Intn(200) {
			files = append(files, File{fmt.Sprintf("%d/%x", rnd.Intn(5), i), big[:rnd.Intn(20000)]})
		}
		cases[fmt.Sprintf("random %d", len(files))] = files
	}
	for name, files := range cases {
		if err := MakeSecrets(t.Context(), image, files, 0, 0); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkClean(t, image)
		taken := stat(t, image).Blocks * 512
		var need int64
		for _, f := range files {
			need += blocksFor(int64(len(f.Data)))*secretsBlock + 512
			if strings.Count(f.Path, "/") > 1 {
				need += secretsBlock + 512 // a folder of its own
			}
		}
		if taken > need+need/3+256<<10 {
			t.Errorf("%s: %d KiB for %d KiB", name, taken/1024, need/1024)
		}
	}
}

func TestSecretsNeverReachADisk(t *testing.T) {
	dir := t.TempDir()
	err := MakeSecrets(t.Context(), filepath.Join(dir, "secrets.ext4"), []File{{"token", []byte("s3cret")}}, 0, 0)
	if err == nil || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("err = %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("entries = %v, %v", entries, err)
	}
}

func TestMakeSecretsFailsCleanly(t *testing.T) {
	for name, files := range map[string][]File{
		"no room":    {{"big", make([]byte, 3<<20)}},
		"outside":    {{"../x", nil}},
		"absolute":   {{"/x", nil}},
		"unclean":    {{"a//b", nil}},
		"root":       {{".", nil}},
		"twice":      {{"a", nil}, {"a", nil}},
		"below file": {{"a", nil}, {"a/b", nil}},
	} {
		dir := memory(t, "size=2m")
		if err := MakeSecrets(t.Context(), filepath.Join(dir, "secrets.ext4"), files, 0, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: entries = %v, %v", name, entries, err)
		}
	}
}
