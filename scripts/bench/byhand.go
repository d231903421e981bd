package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/volume"
)

// byHand is what somebody makes for one VM who starts it without mvm: disks as
// the first tenant's, with its keys, and a TAP on a bridge without rules. It is
// there before the VM starts.
type byHand struct {
	target        ssh.Target
	tap, mac      string
	image         string // the folder of the kernel, the initrd and the root disk
	data, secrets string
	dir, memory   string            // memory is a folder there, for the secrets
	words         *strings.Replacer // puts its addresses into the model's words
}

const (
	handBridge  = "br-hand"
	handGateway = "10.60.0.1"
)

// model learns the command line of the first tenant's VMM.
func (h *host) model(ctx context.Context) error {
	if h.argv != nil {
		return nil
	}
	if _, err := h.do(ctx, "tenant", "run", first, "--no-wait"); err != nil {
		return err
	}
	state, err := h.state(ctx, first)
	if err != nil {
		return err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", state.FirecrackerPID))
	if err != nil {
		return fmt.Errorf("cannot read the model's command line: %w", err)
	}
	h.argv = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	_, err = h.do(ctx, "tenant", "stop", first, "--force")
	return err
}

// bootWords is the kernel's command line in the model.
func (h *host) bootWords() string { return h.argv[slices.Index(h.argv, "-append")+1] }

// newByHand makes the disks and the TAP of one more VM.
func (h *host) newByHand(ctx context.Context) (*byHand, error) {
	if err := h.model(ctx); err != nil {
		return nil, err
	}
	state, err := h.state(ctx, first)
	if err != nil {
		return nil, err
	}
	n := h.made
	h.made++
	t := h.store.Tenant(first)
	ip := fmt.Sprintf("10.60.%d.%d", n/200, 10+n%200)
	b := &byHand{
		target: ssh.Target{ID: first, Addr: ip, Dir: t.SSHDir()},
		tap:    fmt.Sprintf("hand%d", n), mac: fmt.Sprintf("02:be:00:00:%02x:%02x", n>>8, n&255),
		image:  filepath.Join(h.store.ImagesDir(), state.Artifacts.Image),
		dir:    filepath.Join(filepath.Dir(h.root), fmt.Sprintf("hand%d", n)),
		memory: fmt.Sprintf("/dev/shm/mvm-bench-%s-%d", h.store.Scope, n),
	}
	b.data, b.secrets = filepath.Join(b.dir, "data.ext4"), filepath.Join(b.memory, "secrets.ext4")
	b.words = strings.NewReplacer(state.Net.IP+"::"+gateway+":", ip+"::"+handGateway+":", state.Net.MAC, b.mac)
	if err := b.makeDisks(ctx, t.DataVolume()); err != nil {
		return nil, err
	}
	return b, b.plug(ctx)
}

func (b *byHand) makeDisks(ctx context.Context, data string) error {
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o700), os.MkdirAll(b.memory, 0o700)); err != nil {
		return err
	}
	if err := command(ctx, "cp", "--sparse=always", data, b.data); err != nil {
		return err
	}
	keys, err := ssh.GuestFiles(b.target.Dir)
	if err != nil {
		return err
	}
	var files []volume.File
	for _, k := range keys {
		files = append(files, volume.File{Path: "ssh/" + k.Name, Data: k.Data})
	}
	return volume.MakeSecrets(ctx, b.secrets, files, 0, 0)
}

func (b *byHand) rootfs() string { return filepath.Join(b.image, "rootfs.ext4") }

// plug puts the TAP on the bridge, which the first one brings along.
func (b *byHand) plug(ctx context.Context) error {
	if _, err := net.InterfaceByName(handBridge); err != nil {
		if err := commands(ctx, "ip link add "+handBridge+" type bridge", "ip addr add "+handGateway+"/16 dev "+handBridge, "ip link set "+handBridge+" up"); err != nil {
			return err
		}
	}
	return commands(ctx, "ip tuntap add "+b.tap+" mode tap vnet_hdr", "ip link set "+b.tap+" master "+handBridge+" up",
		"ip neigh replace "+b.target.Addr+" lladdr "+b.mac+" dev "+handBridge+" nud permanent")
}

// remove takes all of it away, once.
func (b *byHand) remove(ctx context.Context) error {
	if b.tap == "" {
		return nil
	}
	err := errors.Join(command(ctx, "ip", "link", "del", b.tap), os.RemoveAll(b.dir), os.RemoveAll(b.memory))
	b.tap = ""
	return err
}

// removeByHand ends and removes what a part made without mvm.
func (h *host) removeByHand(err *error) {
	ctx := context.Background()
	for _, g := range h.byHand {
		*err = errors.Join(*err, g.kill(ctx), g.remove(ctx))
	}
	h.byHand = nil
}

// answers waits as mvm tenant run does.
func (b *byHand) answers(ctx context.Context) error { return ssh.Await(ctx, b.target, nil) }

// powerOff asks the guest as mvm tenant stop does.
func (b *byHand) powerOff(ctx context.Context) error {
	if _, err := ssh.Exec(ctx, b.target, "poweroff"); err != nil && !errors.Is(err, ssh.ErrNoStatus) {
		return err
	}
	return nil
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
