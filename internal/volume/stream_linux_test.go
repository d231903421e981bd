package volume

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func exported(t testing.TB, path string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Export(t.Context(), path, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(data, nil)
}

var vm = ImportOptions{MaxBytes: 1 << 40, UID: vmUser, GID: vmUser}

// filled makes a volume with random data between holes.
func filled(t testing.TB) string {
	t.Helper()
	path := data(t, 64)
	dir, unmount := mounted(t, path)
	rnd := rand.New(rand.NewSource(1))
	for _, name := range []string{"a", "b", "c"} {
		random := make([]byte, rnd.Intn(4*mib))
		rnd.Read(random)
		write(t, filepath.Join(dir, name), random)
	}
	unmount()
	return path
}

func TestExportAndImport(t *testing.T) {
	path := filled(t)
	stream := exported(t, path)
	if again := exported(t, path); !bytes.Equal(stream, again) {
		t.Error("a second export differs")
	}
	to := filepath.Join(t.TempDir(), "volumes", "data.ext4")
	if r, err := Import(t.Context(), to, iotest.HalfReader(bytes.NewReader(stream)), vm); err != nil || r != (Report{}) {
		t.Fatalf("%+v, %v", r, err)
	}
	checkClean(t, to)
	checkOwner(t, to)
	if !bytes.Equal(read(t, path), read(t, to)) {
		t.Error("the import differs from what was exported")
	}
	if from, to := stat(t, path).Blocks, stat(t, to).Blocks; to > from+from/10 {
		t.Errorf("%d blocks have become %d", from, to)
	}
}

// The zstd program reads an export, and Import what the zstd program wrote.
func TestStreamIsPlainZstd(t *testing.T) {
	path := filled(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "volume.zst"), exported(t, path))
	command(t, "zstd", "-q", "-t", filepath.Join(dir, "volume.zst"))
	command(t, "zstd", "-q", "-d", filepath.Join(dir, "volume.zst"))
	if !bytes.Equal(read(t, path), read(t, filepath.Join(dir, "volume"))) {
		t.Error("zstd reads something else")
	}
	command(t, "zstd", "-q", "--long", path, "-o", filepath.Join(dir, "theirs.zst"))
	to := filepath.Join(dir, "data.ext4")
	if _, err := Import(t.Context(), to, bytes.NewReader(read(t, filepath.Join(dir, "theirs.zst"))), vm); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), read(t, to)) {
		t.Error("the import differs")
	}
}

func TestImportReplaysTheJournal(t *testing.T) {
	stream := exported(t, crashed(t, 64))
	to := filepath.Join(t.TempDir(), "data.ext4")
	if r, err := Import(t.Context(), to, bytes.NewReader(stream), vm); err != nil || !r.Replayed {
		t.Errorf("%+v, %v", r, err)
	}
	checkClean(t, to)
}

func TestImportReplacesOnlyWhenAsked(t *testing.T) {
	path := data(t, 16)
	setFile(t, path, "old")
	other := data(t, 32)
	setFile(t, other, "new")
	stream := exported(t, other)
	if _, err := Import(t.Context(), path, bytes.NewReader(stream), vm); !errors.Is(err, fs.ErrExist) {
		t.Errorf("err = %v", err)
	}
	if got := content(t, path, "/state"); string(got) != "old" {
		t.Errorf("it holds %q", got)
	}
	o := vm
	o.Replace = true
	if _, err := Import(t.Context(), path, bytes.NewReader(stream), o); err != nil {
		t.Fatal(err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if got := content(t, path, "/state"); string(got) != "new" {
		t.Errorf("it holds %q", got)
	}
	// A smaller one is made as large as its tenant's is to be, in one step.
	o.MinBytes = 64 * mib
	if _, err := Import(t.Context(), path, bytes.NewReader(stream), o); err != nil {
		t.Fatal(err)
	}
	checkClean(t, path)
	checkOwner(t, path)
	if info, err := Inspect(path); err != nil || info.Size != 64*mib || info.FileSystem != info.Size {
		t.Errorf("%+v, %v", info, err)
	}
}

// Nothing that is wrong with a stream harms the volume that it would replace.
func TestHostileStreams(t *testing.T) {
	path := data(t, 16)
	setFile(t, path, "old")
	before := read(t, path)
	good := exported(t, data(t, 32))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	badSum := bytes.Clone(good)
	badSum[len(badSum)-1] ^= 1
	cut := data(t, 64)
	if err := os.Truncate(cut, 32*mib); err != nil {
		t.Fatal(err)
	}
	broken, lying := data(t, 64), data(t, 64)
	damage(t, broken)
	scribble(t, lying, 4096, bytes.Repeat([]byte{0xff}, 1024)) // its superblock calls it clean
	for name, c := range map[string]struct {
		stream io.Reader
		want   error
	}{
		"empty":      {bytes.NewReader(nil), ErrForeign},
		"no zstd":    {bytes.NewReader(before[1024:]), zstd.ErrMagicMismatch},
		"cut off":    {bytes.NewReader(good[:len(good)-10]), io.ErrUnexpectedEOF},
		"flipped":    {bytes.NewReader(flipped), nil},
		"checksum":   {bytes.NewReader(badSum), zstd.ErrCRCMismatch},
		"trailing":   {io.MultiReader(bytes.NewReader(good), bytes.NewReader(before[1024:])), zstd.ErrMagicMismatch},
		"broken off": {io.MultiReader(bytes.NewReader(good[:1000]), iotest.ErrReader(unix.ECONNRESET)), unix.ECONNRESET},
		"foreign":    {bytes.NewReader(compress(t, bytes.Repeat([]byte("hello\n"), 100000))), ErrForeign},
		"all zero":   {bytes.NewReader(compress(t, make([]byte, 16*mib))), ErrForeign},
		"too large":  {bytes.NewReader(exported(t, data(t, 101))), nil},
		"truncated":  {bytes.NewReader(compress(t, read(t, cut))), ErrDamaged},
		"damaged":    {bytes.NewReader(compress(t, read(t, broken))), ErrDamaged},
		"lying":      {bytes.NewReader(compress(t, read(t, lying))), ErrDamaged},
	} {
		o := vm
		o.Replace, o.MaxBytes = true, 100*mib
		_, err := Import(t.Context(), path, c.stream, o)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if !bytes.Equal(before, read(t, path)) {
			t.Fatalf("%s: the volume has changed", name)
		}
		checkClean(t, path)
	}
}

// endless is a stream of more than any disk holds.
func endless(t testing.TB) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	go func() {
		enc, err := zstd.NewWriter(w)
		if err != nil {
			panic(err)
		}
		block := make([]byte, mib)
		rand.New(rand.NewSource(1)).Read(block)
		for err == nil {
			_, err = enc.Write(block)
		}
	}()
	return r
}

func TestImportLeavesTheDiskSomeRoom(t *testing.T) {
	dir := memory(t, "size=100m")
	path := filepath.Join(dir, "data.ext4")
	low := int64(1) << 62
	_, err := Import(t.Context(), path, readerFunc(func(r io.Reader) func([]byte) (int, error) {
		return func(p []byte) (int, error) {
			var s unix.Statfs_t
			if err := unix.Statfs(dir, &s); err != nil {
				return 0, err
			}
			low = min(low, int64(s.Bavail)*s.Bsize)
			return r.Read(p)
		}
	}(endless(t))), vm)
	if !errors.Is(err, unix.ENOSPC) || low < 4*mib {
		t.Errorf("err = %v, %d KiB were left", err, low>>10)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := Import(t.Context(), path, endless(t), ImportOptions{MaxBytes: 10 * mib}); err == nil || errors.Is(err, unix.ENOSPC) {
		t.Errorf("limit: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestExportToABrokenPipe(t *testing.T) {
	r, w := io.Pipe()
	if err := r.CloseWithError(unix.EPIPE); err != nil {
		t.Fatal(err)
	}
	if err := Export(t.Context(), filled(t), w); !errors.Is(err, unix.EPIPE) {
		t.Errorf("err = %v", err)
	}
}

// tiny is the smallest image that is a volume.
func tiny(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny")
	command(t, "mke2fs", "-q", "-b", "1024", "-O", dataFeatures, "-E", "lazy_itable_init=1,lazy_journal_init=1", path, "2M")
	return read(t, path)
}

// FuzzImport gives Import streams that are no good.
func FuzzImport(f *testing.F) {
	path := filepath.Join(memory(f, "size=64m"), "volume", "data.ext4")
	image := tiny(f)
	f.Add(compress(f, image))
	f.Add(compress(f, image[:8192]))
	f.Add([]byte("hello"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, stream []byte) { tryImport(t, path, stream) })
}

// FuzzImportImage gives Import good streams of a volume that somebody has
// written in.
func FuzzImportImage(f *testing.F) {
	path := filepath.Join(memory(f, "size=64m"), "volume", "data.ext4")
	image := tiny(f)
	f.Add([]byte{0}, uint32(superblockAt+0x3a))
	f.Add([]byte("\xff\xff\xff\xff"), uint32(superblockAt+4))
	f.Add(bytes.Repeat([]byte{0xff}, 1024), uint32(2048))
	f.Fuzz(func(t *testing.T, patch []byte, at uint32) {
		patched := bytes.Clone(image)
		copy(patched[int(at)%len(patched):], patch)
		tryImport(t, path, compress(t, patched))
	})
}

// tryImport imports a stream, or finds that nothing is left of it. What was
// taken is a sound file system.
func tryImport(t *testing.T, path string, stream []byte) {
	t.Helper()
	_, err := Import(t.Context(), path, bytes.NewReader(stream), ImportOptions{MaxBytes: 4 * mib})
	left, listErr := os.ReadDir(filepath.Dir(path))
	if listErr != nil {
		t.Fatal(listErr)
	}
	if err != nil {
		if len(left) > 0 {
			t.Errorf("%v, and it left %v", err, left)
		}
		return
	}
	if out, err := exec.Command("e2fsck", "-f", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("taken, but e2fsck says %s", out)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
