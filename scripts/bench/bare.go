package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/auser/mvm/internal/vmm/jail"
)

// bare is the first tenant's VMM as a person would start it: the same program
// with the same command line, but for what serves mvm alone.
type bare struct {
	*byHand
	argv []string
	cmd  *exec.Cmd
}

func (h *host) newBare(ctx context.Context) (guest, error) {
	hand, err := h.newByHand(ctx)
	if err != nil {
		return nil, err
	}
	exe, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, err
	}
	b := &bare{byHand: hand, argv: []string{exe}}
	h.byHand = append(h.byHand, b)
	files := strings.NewReplacer("file="+jail.Rootfs, "file="+hand.rootfs(), "file="+jail.Data, "file="+hand.data, "file="+jail.Secrets, "file="+hand.secrets,
		"fd=4", "ifname="+hand.tap+",script=no,downscript=no")
	for i := 1; i < len(h.argv); i++ {
		switch word := h.argv[i]; {
		case word == "-S": // mvm bounds the VMM before it lets the guest go
		case word == "-mon", word == "-chardev" && strings.Contains(h.argv[i+1], "id=qmp"):
			i++
		case word == jail.Kernel || word == jail.Initrd:
			b.argv = append(b.argv, filepath.Join(hand.image, word))
		default:
			b.argv = append(b.argv, hand.words.Replace(files.Replace(word)))
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
	return b.answers(ctx)
}

func (b *bare) stop(ctx context.Context) error {
	if err := b.powerOff(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { b.cmd.Process.Kill() })()
	err := b.cmd.Wait()
	b.cmd = nil
	return err
}

func (b *bare) kill(context.Context) error {
	if b.cmd == nil {
		return nil
	}
	err := b.cmd.Process.Kill()
	var killed *exec.ExitError
	if waitErr := b.cmd.Wait(); !errors.As(waitErr, &killed) {
		err = errors.Join(err, waitErr)
	}
	b.cmd = nil
	return err
}
