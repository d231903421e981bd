package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"
)

// libvirt is a libvirtd of the bench's own.
type libvirt struct {
	dir string // of its socket
	cmd *exec.Cmd

	watch   *exec.Cmd // tells what becomes of domains, as it happens
	deaf    chan struct{}
	mu      sync.Mutex
	domains map[string]chan string // to whom their names
}

// newLibvirt starts it and waits until it answers.
func newLibvirt(ctx context.Context, cache string) (_ *libvirt, err error) {
	l := &libvirt{deaf: make(chan struct{}), domains: map[string]chan string{}}
	if l.dir, err = os.MkdirTemp("", "mvm-libvirt."); err != nil { // a socket's path must be short
		return nil, err
	}
	log, err := os.Create(filepath.Join(cache, "bench", "libvirtd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	l.cmd = exec.Command("scripts/bench-libvirtd", l.dir)
	l.cmd.Stdout, l.cmd.Stderr = log, log
	if err := l.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	deadline := time.Now().Add(time.Minute)
	for {
		err := l.virsh(ctx, "version")
		if err == nil {
			err = l.listen()
		}
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("libvirtd does not answer, see %s: %w", log.Name(), err), l.close())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// listen has virsh tell of every domain. To a pipe it would not say a thing until
// it ends.
func (l *libvirt) listen() error {
	l.watch = exec.Command("stdbuf", append([]string{"-oL"}, l.command("event", "--event", "lifecycle", "--loop")...)...)
	l.watch.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := l.watch.StdoutPipe()
	if err == nil {
		err = l.watch.Start()
	}
	if err != nil {
		l.watch = nil
		return err
	}
	go func() {
		defer close(l.deaf)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if e := lifecycleEvent.FindStringSubmatch(lines.Text()); e != nil {
				l.mu.Lock()
				heard := l.domains[e[1]]
				l.mu.Unlock()
				select {
				case heard <- e[2]:
				default: // nobody asks for that many
				}
			}
		}
	}()
	return nil
}

// lifecycleEvent is a line such as: event 'lifecycle' for domain 'hand0': Stopped Shutdown
var lifecycleEvent = regexp.MustCompile(`^event 'lifecycle' for domain '(.+)': (\w+)`)

func (l *libvirt) command(args ...string) []string {
	return append([]string{"virsh", "--quiet", "--connect", "qemu+unix:///system?socket=" + filepath.Join(l.dir, "libvirt-sock")}, args...)
}

func (l *libvirt) virsh(ctx context.Context, args ...string) error {
	argv := l.command(args...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return err
}

func (l *libvirt) close() error {
	if l.watch != nil {
		l.watch.Process.Kill()
		<-l.deaf
		l.watch.Wait() // it was killed
	}
	err := l.cmd.Process.Signal(syscall.SIGTERM)
	l.cmd.Wait() // its code is nothing to us
	return errors.Join(err, os.RemoveAll(l.dir))
}

// domain is a guest of libvirt's: the same kernel, disks and devices, on the
// same machine type.
type domain struct {
	*byHand
	libvirt *libvirt
	name    string
	xml     string // a file
	heard   chan string
	up      bool
}

// On the microvm machine, disks and the like are no PCI devices: libvirt must
// be told so of each. The rest is as in mvm's command line for QEMU.
var domainXML = template.Must(template.New("domain").Funcs(template.FuncMap{"xml": template.HTMLEscapeString}).Parse(`<domain type='qemu'>
  <name>{{xml .Name}}</name>
  <memory unit='MiB'>{{.MemMiB}}</memory>
  <vcpu>1</vcpu>
  <cpu mode='maximum'><feature policy='disable' name='cx16'/></cpu>
  <os>
    <type arch='x86_64' machine='microvm'>hvm</type>
    <kernel>{{xml .Image}}/kernel</kernel>
    <initrd>{{xml .Image}}/initrd</initrd>
    <cmdline>{{xml .Words}}</cmdline>
  </os>
  <features><acpi/><tcg><tb-cache unit='MiB'>64</tb-cache></tcg></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <devices>
    <controller type='usb' model='none'/>
{{- range .Disks}}
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='{{.Cache}}' io='threads'/>
      <source file='{{xml .File}}'/>
      <target dev='{{.Dev}}' bus='virtio'/>
      {{- if .ReadOnly}}<readonly/>{{end}}
      <address type='virtio-mmio'/>
    </disk>
{{- end}}
    <interface type='ethernet'>
      <mac address='{{.MAC}}'/>
      <target dev='{{.TAP}}' managed='no'/>
      <model type='virtio'/>
      <driver name='qemu'/>
      <address type='virtio-mmio'/>
    </interface>
    <rng model='virtio'><backend model='builtin'/><address type='virtio-mmio'/></rng>
    <memballoon model='none'/>
    <serial type='file'><source path='{{xml .Console}}'/></serial>
  </devices>
</domain>
`))

// domainSpec is what differs from one domain to another.
type domainSpec struct {
	Name, Image, Words string // Image is a folder, Words the kernel's command line
	MemMiB             int
	MAC, TAP, Console  string
	Disks              []domainDisk
}

type domainDisk struct {
	Dev, File, Cache string
	ReadOnly         bool
}

func (l *libvirt) newDomain(ctx context.Context, h *host) (guest, error) {
	hand, err := h.newByHand(ctx)
	if err != nil {
		return nil, err
	}
	d := &domain{byHand: hand, libvirt: l, name: hand.tap, xml: filepath.Join(hand.dir, "domain.xml"), heard: make(chan string, 32)}
	l.mu.Lock()
	l.domains[d.name] = d.heard
	l.mu.Unlock()
	h.byHand = append(h.byHand, d)
	f, err := os.Create(d.xml)
	if err != nil {
		return nil, err
	}
	err = domainXML.Execute(f, domainSpec{
		Name: d.name, Image: hand.image, Words: hand.words.Replace(h.bootWords()), MemMiB: guestMiB,
		MAC: hand.mac, TAP: hand.tap, Console: filepath.Join(hand.dir, "console.log"),
		Disks: []domainDisk{
			{"vda", hand.rootfs(), "unsafe", true}, {"vdb", hand.data, "writeback", false}, {"vdc", hand.secrets, "unsafe", true},
		},
	})
	return d, errors.Join(err, f.Close())
}

func (d *domain) start(ctx context.Context) error {
	if err := d.libvirt.virsh(ctx, "create", d.xml); err != nil {
		return err
	}
	d.up = true
	if err := d.becomes(ctx, "Started"); err != nil {
		return err
	}
	return d.answers(ctx)
}

// becomes waits until libvirt tells of it.
func (d *domain) becomes(ctx context.Context, phase string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		select {
		case heard := <-d.heard:
			if heard == phase {
				return nil
			}
		case <-d.libvirt.deaf:
			return errors.New("libvirt tells nothing any more")
		case <-ctx.Done():
			return fmt.Errorf("libvirt does not tell that %s is %s: %w", d.name, phase, ctx.Err())
		}
	}
}

func (d *domain) stop(ctx context.Context) error {
	if err := d.powerOff(ctx); err != nil {
		return err
	}
	if err := d.becomes(ctx, "Stopped"); err != nil {
		return err
	}
	d.up = false
	return nil
}

func (d *domain) kill(ctx context.Context) error {
	if !d.up {
		return nil
	}
	d.up = false
	return d.libvirt.virsh(ctx, "destroy", d.name)
}
