// Package bootstrap installs the Linux programs that mvm runs and a host
// lacks, with the host's own package manager.
//
// It decides by the programs themselves, not by the package database: what was
// installed in another way is as good.
package bootstrap

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/auser/mvm/internal/run"
)

// need is a program and the package that brings it. Any one of several
// programs will do; the first is what gets installed.
type need struct {
	programs         []string
	apt, dnf, pacman string
}

func needs(arch string) []need {
	qemu := need{[]string{"qemu-system-x86_64"}, "qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"}
	if arch == "arm64" {
		qemu = need{[]string{"qemu-system-aarch64"}, "qemu-system-arm", "qemu-system-aarch64-core", "qemu-system-aarch64"}
	}
	return []need{
		qemu,
		{[]string{"mkfs.ext4"}, "e2fsprogs", "e2fsprogs", "e2fsprogs"},
		{[]string{"nft"}, "nftables", "nftables", "nftables"},
		{[]string{"ssh"}, "openssh-client", "openssh-clients", "openssh"},
		{[]string{"git"}, "git", "git", "git"},
		{[]string{"podman", "dockerd", "nerdctl"}, "podman", "podman", "podman"},
	}
}

// manager is a package manager.
type manager struct {
	program string
	pkg     func(need) string
	before  []string // what must run first, if anything
	install []string
	mend    []string // what may make install work after one that was cut short
}

// waiting has apt wait for one that still runs, as that of a killed bootstrap
// may; for this many seconds.
const waiting = "DPkg::Lock::Timeout=300"

var managers = []manager{
	{
		"apt-get", func(n need) string { return n.apt }, []string{"apt-get", "update", "-q", "-o", waiting},
		[]string{"apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", waiting}, []string{"dpkg", "--configure", "-a"},
	},
	{"dnf", func(n need) string { return n.dnf }, nil, []string{"dnf", "install", "-y"}, nil},
	{"pacman", func(n need) string { return n.pacman }, nil, []string{"pacman", "-S", "--noconfirm", "--needed"}, nil},
}

// Host is what bootstrap needs to know of a host.
type Host struct {
	Arch string                 // as Go names it
	Has  func(name string) bool // whether a program is in PATH
}

// This is the running host.
func This(arch string) Host {
	return Host{Arch: arch, Has: func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}}
}

// NoManagerError means that what is missing has to be installed by hand.
type NoManagerError struct{ Missing []string }

func (e *NoManagerError) Error() string {
	return "there is none of apt-get, dnf and pacman to install what is missing: " + strings.Join(e.Missing, ", ")
}

func (h Host) manager() (m manager, there bool) {
	i := slices.IndexFunc(managers, func(m manager) bool { return h.Has(m.program) })
	if i < 0 {
		return manager{}, false
	}
	return managers[i], true
}

// Plan returns the command lines that install what the host lacks, none where
// nothing is missing, and the programs that are missing.
func Plan(h Host) (commands [][]string, missing []string, err error) {
	var lacking []need
	for _, n := range needs(h.Arch) {
		if !slices.ContainsFunc(n.programs, h.Has) {
			lacking = append(lacking, n)
			missing = append(missing, n.programs[0])
		}
	}
	if len(lacking) == 0 {
		return nil, nil, nil
	}
	m, there := h.manager()
	if !there {
		return nil, missing, &NoManagerError{missing}
	}
	if m.before != nil {
		commands = append(commands, m.before)
	}
	install := slices.Clone(m.install)
	for _, n := range lacking {
		install = append(install, m.pkg(n))
	}
	return append(commands, install), missing, nil
}

// grace is how long an interrupted package manager may take to come to an end.
// Killed, it may leave packages half installed, and others locked out.
const grace = time.Minute

// Install makes the host have every program. say tells what is being done;
// what the package manager says goes to out. Cut short at any instant, it does
// the rest when it is called again.
func Install(ctx context.Context, h Host, say func(format string, args ...any), out io.Writer) error {
	commands, missing, err := Plan(h)
	if err != nil || len(missing) == 0 {
		return err
	}
	say("installing what is missing: %s", strings.Join(missing, ", "))
	do := func(argv []string) error {
		say("  %s", run.Quote(argv))
		env := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return run.Run(ctx, run.Command{Name: argv[0], Args: argv[1:], Env: env, Stdout: out, Stderr: out, Grace: grace})
	}
	m, _ := h.manager()
	for i, argv := range commands {
		err := do(argv)
		if err != nil && ctx.Err() == nil && !run.Interrupted(err) && m.mend != nil && i == len(commands)-1 && do(m.mend) == nil {
			err = do(argv)
		}
		if err != nil {
			return err
		}
	}
	if _, missing, _ = Plan(h); len(missing) > 0 {
		return fmt.Errorf("the packages are installed, and still there is no %s in PATH", strings.Join(missing, ", "))
	}
	return nil
}
