package volume

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// yardstick is the time for one round of what a benchmark is compared with.
type yardstick time.Duration

func (y *yardstick) measure(b *testing.B) { *y = yardstick(b.Elapsed()) / yardstick(b.N) }

// compare reports the time for one round as a multiple of the yardstick.
func (y yardstick) compare(b *testing.B) {
	if y > 0 { // it was not left out by -bench
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(y), "times-bare")
	}
}

// BenchmarkVolumes makes what a first run needs: a data volume of 2 GiB and a
// secrets volume. Bare is mkfs.ext4 with its defaults, twice; ours is also given
// as a multiple of it.
func BenchmarkVolumes(b *testing.B) {
	files := []File{{"token", []byte("x")}, {"db/password", []byte("y")}, {"ssh/authorized_keys", make([]byte, 100)}, {"ssh/ssh_host_ed25519_key", make([]byte, 400)}}
	var bare yardstick
	b.Run("bare", func(b *testing.B) {
		defer bare.measure(b)
		dir, mem := b.TempDir(), memory(b, "size=64m")
		for i := range b.N {
			command(b, "mkfs.ext4", "-q", filepath.Join(dir, fmt.Sprint(i)), "2G")
			command(b, "mkfs.ext4", "-q", "-F", filepath.Join(mem, "secrets.ext4"), "1M")
		}
	})
	b.Run("ours", func(b *testing.B) {
		defer bare.compare(b)
		dir, mem := b.TempDir(), memory(b, "size=64m")
		for i := range b.N {
			if _, err := CreateData(b.Context(), filepath.Join(dir, fmt.Sprint(i)), 2048, vmUser, vmUser); err != nil {
				b.Fatal(err)
			}
			if err := MakeSecrets(b.Context(), filepath.Join(mem, "secrets.ext4"), files, vmUser, vmUser); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPrepare is what each later run does with the data volume.
func BenchmarkPrepare(b *testing.B) {
	path := data(b, 2048)
	for b.Loop() {
		if _, err := PrepareData(b.Context(), path); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy moves a volume of 4 GiB that holds 1 GiB, half of it text.
func BenchmarkCopy(b *testing.B) {
	dir := b.TempDir()
	path := dataIn(b, dir, 4096)
	inside, unmount := mounted(b, path)
	rnd := rand.New(rand.NewSource(1))
	random := make([]byte, 16*mib)
	rnd.Read(random)
	for i := range 32 {
		rnd.Read(random[:mib])
		write(b, filepath.Join(inside, fmt.Sprint("random", i)), random)
		write(b, filepath.Join(inside, fmt.Sprint("text", i)), bytes.Repeat(fmt.Appendf(nil, "line %d of a log that goes on and on\n", i), 16*mib/40))
	}
	unmount()
	stream, to := filepath.Join(dir, "stream"), filepath.Join(dir, "to.ext4")
	exportTo := func(b *testing.B) {
		f, err := os.Create(stream)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := Export(b.Context(), path, f); err != nil {
			b.Fatal(err)
		}
	}
	var cp yardstick
	b.Run("cp", func(b *testing.B) {
		defer cp.measure(b)
		b.SetBytes(1 << 30)
		for b.Loop() {
			command(b, "cp", "--sparse=always", "--reflink=never", path, to)
			command(b, "rm", to)
		}
	})
	b.Run("export", func(b *testing.B) {
		defer cp.compare(b)
		b.SetBytes(1 << 30)
		for b.Loop() {
			exportTo(b)
		}
	})
	exportTo(b)
	b.Run("import", func(b *testing.B) {
		defer cp.compare(b)
		b.SetBytes(1 << 30)
		for b.Loop() {
			f, err := os.Open(stream)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Import(b.Context(), to, f, vm); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(to); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}
