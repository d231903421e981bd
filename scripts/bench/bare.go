package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/vmm/jail"
	"github.com/auser/mvm/internal/volume"
)

// bare is the first tenant's VMM as a person would start it by hand: the same
// program, command line, kernel and disks, with a TAP that is there already,
// on a bridge without rules.
type bare struct {
	argv   []string
	target ssh.Target
	dir    string
	memory string // a folder in memory, for the secrets
	tap    string
	cmd    *exec.Cmd
}

const bareBridge = "br-bare"

// newBare makes another bare VM's disks and TAP. The first tenant must run:
// its VMM's command line is the model.
func (h *host) newBare(ctx context.Context) (_ *bare, err error) {
	n := len(h.bare)
	state, err := h.state(ctx, first)
	if err != nil {
		return nil, err
	}
	model, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", state.FirecrackerPID))
	if err != nil {
		return nil, fmt.Errorf("cannot read the model's command line: %w", err)
	}
	exe, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, err
	}
	t := h.store.Tenant(first)
	b := &bare{tap: fmt.Sprintf("bare%d", n), dir: filepath.Join(filepath.Dir(h.root), fmt.Sprintf("bare%d", n))}
	ip := fmt.Sprintf("10.60.0.%d", 10+n)
	b.target = ssh.Target{ID: first, Addr: ip, Dir: t.SSHDir()}
	b.memory = fmt.Sprintf("/dev/shm/mvm-bench-%s-%d", h.store.Scope, n)
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o700), os.MkdirAll(b.memory, 0o700)); err != nil {
		return nil, err
	}
	data, secrets := filepath.Join(b.dir, "data.ext4"), filepath.Join(b.memory, "secrets.ext4")
	if err := command(ctx, "cp", "--sparse=always", t.DataVolume(), data); err != nil {
		return nil, err
	}
	keys, err := ssh.GuestFiles(t.SSHDir())
	if err != nil {
		return nil, err
	}
	var files []volume.File
	for _, k := range keys {
		files = append(files, volume.File{Path: "ssh/" + k.Name, Data: k.Data})
	}
	if err := volume.MakeSecrets(ctx, secrets, files, 0, 0); err != nil {
		return nil, err
	}
	h.bare = append(h.bare, b)
	if len(h.bare) == 1 {
		if err := commands(ctx, "ip link add "+bareBridge+" type bridge", "ip addr add 10.60.0.1/16 dev "+bareBridge, "ip link set "+bareBridge+" up"); err != nil {
			return nil, err
		}
	}
	mac := fmt.Sprintf("02:be:00:00:00:%02x", n)
	err = commands(ctx, "ip tuntap add "+b.tap+" mode tap vnet_hdr", "ip link set "+b.tap+" master "+bareBridge+" up",
		"ip neigh replace "+ip+" lladdr "+mac+" dev "+bareBridge+" nud permanent")
	if err != nil {
		return nil, err
	}
	images := filepath.Join(h.store.ImagesDir(), state.Artifacts.Image)
	words := strings.NewReplacer(
		state.Net.IP+"::", ip+"::", "::10.50.0.1:", "::10.60.0.1:",
		"file="+jail.Rootfs, "file="+filepath.Join(images, "rootfs.ext4"),
		"file="+jail.Data, "file="+data, "file="+jail.Secrets, "file="+secrets,
		state.Net.MAC, mac, "fd=4", "ifname="+b.tap+",script=no,downscript=no",
	)
	args := strings.Split(strings.TrimSuffix(string(model), "\x00"), "\x00")[1:]
	b.argv = []string{exe}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-S": // mvm bounds the VMM before it lets the guest go
		case args[i] == "-mon", args[i] == "-chardev" && strings.Contains(args[i+1], "id=qmp"):
			i++
		case args[i] == jail.Kernel || args[i] == jail.Initrd:
			b.argv = append(b.argv, filepath.Join(images, filepath.Base(args[i])))
		default:
			b.argv = append(b.argv, words.Replace(args[i]))
		}
	}
	return b, nil
}

func (b *bare) start(ctx context.Context) error {
	log, err := os.Create(filepath.Join(b.dir, "console.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.cmd = exec.Command(b.argv[0], b.argv[1:]...)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		return err
	}
	return answers(ctx, b.target)
}

// answers waits as mvm tenant run does.
func answers(ctx context.Context, t ssh.Target) error {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		err := ssh.Probe(ctx, t)
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// stop asks the guest as mvm tenant stop does.
func (b *bare) stop(ctx context.Context) error {
	if _, err := ssh.Exec(ctx, b.target, "poweroff"); err != nil && !errors.Is(err, ssh.ErrNoStatus) {
		return err
	}
	defer context.AfterFunc(ctx, func() { b.cmd.Process.Kill() })()
	err := b.cmd.Wait()
	b.cmd = nil
	return err
}

// end takes all of it away.
func (b *bare) end() error {
	if b.cmd != nil {
		b.cmd.Process.Kill()
		b.cmd.Wait() // it was killed
	}
	return errors.Join(command(context.Background(), "ip", "link", "del", b.tap), os.RemoveAll(b.dir), os.RemoveAll(b.memory))
}

func commands(ctx context.Context, lines ...string) error {
	for _, l := range lines {
		words := strings.Fields(l)
		if err := command(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
