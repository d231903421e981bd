package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/ssh"
)

// ioPart compares one guest's disk and round trip with the bare VM's.
func (b *bench) ioPart(ctx context.Context) error {
	if _, err := b.do(ctx, "tenant", "run", first); err != nil {
		return err
	}
	vm, err := b.newBare(ctx)
	if err != nil {
		return err
	}
	if err := vm.start(ctx); err != nil {
		return err
	}
	t := b.store.Tenant(first)
	state, err := b.state(ctx, first)
	if err != nil {
		return err
	}
	targets := []ssh.Target{vm.target, {ID: first, Addr: state.Net.IP, Dir: t.SSHDir()}}
	var writes, reads, trips [2]series
	for range b.runs {
		for i, target := range targets {
			for _, m := range []struct {
				to   *series
				argv string
			}{
				{&writes[i], "dd if=/dev/zero of=/data/bench bs=1M count=24 conv=fsync"},
				{&reads[i], "echo 3 >/proc/sys/vm/drop_caches; dd if=/data/bench of=/dev/null bs=1M"},
			} {
				began := time.Now()
				if out, err := ssh.Exec(ctx, target, "sh", "-c", m.argv); err != nil {
					return fmt.Errorf("%s: %w: %s", m.argv, err, out)
				}
				m.to.add(time.Since(began))
			}
			trip, err := ping(ctx, target.Addr)
			if err != nil {
				return err
			}
			trips[i] = append(trips[i], trip)
		}
	}
	printTable(rowHead,
		writes[0].row("write 24 MiB to data.ext4: bare QEMU", "ms", writes[0]), writes[1].row("write: mvm", "ms", writes[0]),
		reads[0].row("read them: bare QEMU", "ms", reads[0]), reads[1].row("read: mvm", "ms", reads[0]),
		trips[0].row("round trip: bare TAP", "µs", trips[0]), trips[1].row("round trip: mvm", "µs", trips[0]))
	if err := vm.stop(ctx); err != nil {
		return err
	}
	_, err = b.do(ctx, "tenant", "stop", first)
	return err
}

// ping is the average round trip in microseconds.
func ping(ctx context.Context, addr string) (float64, error) {
	out, err := exec.CommandContext(ctx, "ping", "-n", "-q", "-c", "100", "-i", "0.01", addr).Output()
	if err != nil {
		return 0, fmt.Errorf("cannot ping %s: %w", addr, err)
	}
	_, figures, _ := strings.Cut(string(out), "min/avg/max/mdev = ")
	words := strings.Split(figures, "/")
	if len(words) < 2 {
		return 0, fmt.Errorf("ping says %q", out)
	}
	var ms float64
	_, err = fmt.Sscan(words[1], &ms)
	return ms * 1000, err
}

// blocks is what a file takes of the disk, in bytes.
func blocks(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return 0
}
