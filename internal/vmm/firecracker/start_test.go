package firecracker

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
)

// standinEnv has this test binary be a jailer and the Firecracker that it
// becomes, as far as a start goes.
const standinEnv = "MVM_TEST_STANDIN_JAILER"

// standin is jailed as args say, binds its API socket, which fails where there
// is one, tells of the start, and answers that the machine runs until it is
// killed.
func standin(args []string) error {
	said := map[string]string{}
	for i := 0; i+1 < len(args) && args[i] != "--"; i += 2 {
		said[args[i]] = args[i+1]
	}
	uid, err := strconv.Atoi(said["--uid"])
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return syscall.Chroot(jail.Root(said["--chroot-base-dir"], said["--id"])) },
		func() error { return os.Chdir("/") },
		func() error { return syscall.Setgid(uid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	l, err := net.Listen("unix", filepath.Join(jail.Run, socketName))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(jail.Run, logName), append(startedWords, '\n'), 0); err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"state\":\"Running\"}"); err != nil {
			return err
		}
		conn.Close()
	}
}

// TestAStaleSocketIsRemoved: neither a stranger's socket nor that of a
// Firecracker that was killed keeps the next one from starting.
func TestAStaleSocketIsRemoved(t *testing.T) {
	d, m := standinMachine(t)
	socket := filepath.Join(m.Jail, jail.Run, socketName)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	for range 2 {
		if _, err := os.Lstat(socket); err != nil {
			t.Fatalf("there is no stale socket: %v", err)
		}
		vm, err := d.Start(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := vm.Status(t.Context()); err != nil || status != vmm.Running {
			t.Errorf("Status = %s, %v", status, err)
		}
		if err := vm.Kill(); err != nil {
			t.Error(err)
		}
		<-vm.Done()
	}
}

// standinMachine is a machine in a folder that looks like a jail, and the
// driver that starts the stand-in with it.
func standinMachine(t *testing.T) (*Driver, vmm.Machine) {
	t.Helper()
	bin := programs(t, "firecracker")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", standinEnv, self)
	if err := os.WriteFile(filepath.Join(bin, "jailer"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Binary: filepath.Join(bin, "firecracker"), AllowUnfiltered: true})
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	m := vmm.Machine{ID: "acme", UID: nobody, GID: nobody, Jail: jail.Root(t.TempDir(), "acme"), Console: io.Discard}
	run := filepath.Join(m.Jail, jail.Run)
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(run, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{jail.Kernel, jail.Rootfs, jail.Data, jail.Secrets} {
		if err := os.WriteFile(filepath.Join(m.Jail, name), nil, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	m.Config, err = fcconfig.Final(fcconfig.Base{}, fcconfig.Runtime{
		Kernel: jail.Kernel, Rootfs: jail.Rootfs, Data: jail.Data, Secrets: jail.Secrets,
		VCPUs: 1, MemMiB: 64, TAP: "lo", MAC: "02:00:00:00:00:01", // the stand-in opens no TAP
		Boot: fcconfig.BootWords{
			IP: netip.MustParseAddr("10.0.0.2"), Gateway: netip.MustParseAddr("10.0.0.1"), Bits: 24,
			Hostname: "acme", MachineID: "0123456789abcdef0123456789abcdef",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, m
}
