package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// contest measures ways to do the same in turn, round by round, so that
// whatever else the machine does slows all of them, and compares the medians.
type contest struct {
	names []string // the first is what the others are compared with
	ways  map[string]func(round int)
	took  map[string][]time.Duration
}

func (c *contest) add(name string, way func(round int)) {
	if c.ways == nil {
		c.ways, c.took = map[string]func(int){}, map[string][]time.Duration{}
	}
	c.names = append(c.names, name)
	c.ways[name] = way
}

// run reports each way's median, in ms, and how many times the first's it is.
func (c *contest) run(b *testing.B) {
	for round := 0; b.Loop(); round++ {
		for i := range c.names {
			name := c.names[(i+round)%len(c.names)] // none is always the first
			began := time.Now()
			c.ways[name](round)
			c.took[name] = append(c.took[name], time.Since(began))
		}
	}
	first := median(c.took[c.names[0]])
	for _, name := range c.names {
		m := median(c.took[name])
		b.ReportMetric(float64(m)/float64(time.Millisecond), name+"-ms")
		if name != c.names[0] {
			b.ReportMetric(float64(m)/float64(first), name+"/"+c.names[0])
		}
	}
}

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// BenchmarkVolumes makes what a first run needs: a data volume of 2 GiB and a
// secrets volume. Bare is mkfs.ext4 with its defaults, twice.
func BenchmarkVolumes(b *testing.B) {
	files := []File{{"token", []byte("x")}, {"db/password", []byte("y")}, {"ssh/authorized_keys", make([]byte, 100)}, {"ssh/ssh_host_ed25519_key", make([]byte, 400)}}
	dir, mem := b.TempDir(), memory(b, "size=64m")
	at := func(name string, round int) string { return filepath.Join(dir, fmt.Sprint(name, round)) }
	var c contest
	c.add("bare", func(round int) {
		command(b, "mkfs.ext4", "-q", at("bare", round), "2G")
		command(b, "mkfs.ext4", "-q", "-F", filepath.Join(mem, "bare"), "1M")
	})
	c.add("ours", func(round int) {
		if _, err := CreateData(b.Context(), at("ours", round), 2048, vmUser, vmUser); err != nil {
			b.Fatal(err)
		}
		if err := MakeSecrets(b.Context(), filepath.Join(mem, "ours"), files, vmUser, vmUser); err != nil {
			b.Fatal(err)
		}
	})
	c.run(b)
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
// cp compresses nothing and checks nothing: what an export and an import do is
// what the zstd program does.
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
	at := func(name string) string { return filepath.Join(dir, name) }
	exportTo := func(file string) {
		f, err := os.Create(file)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(Export(b.Context(), path, f), f.Sync(), f.Close()); err != nil {
			b.Fatal(err)
		}
	}
	importFrom := func(file string) {
		f, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		o := vm
		o.Replace = true
		if _, err := Import(b.Context(), at("imported"), f, o); err != nil {
			b.Fatal(err)
		}
	}
	// All of them end with what they wrote on the disk.
	copied := func(int) {
		command(b, "cp", "--sparse=always", "--reflink=never", path, at("copied"))
		command(b, "sync", at("copied"))
	}
	b.Run("export", func(b *testing.B) {
		var c contest
		c.add("cp", copied)
		c.add("zstd", func(int) {
			command(b, "zstd", "-q", "-f", "-1", "-T2", path, "-o", at("packed"))
			command(b, "sync", at("packed"))
		})
		c.add("export", func(int) { exportTo(at("exported")) })
		c.run(b)
	})
	exportTo(at("exported"))
	b.Run("import", func(b *testing.B) {
		var c contest
		c.add("cp", copied)
		c.add("zstd", func(int) {
			command(b, "zstd", "-q", "-f", "-d", "--sparse", at("exported"), "-o", at("unpacked"))
			command(b, "sync", at("unpacked"))
		})
		c.add("import", func(int) { importFrom(at("exported")) })
		c.run(b)
	})
}
