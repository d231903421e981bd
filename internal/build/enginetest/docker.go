//go:build linux

// Package enginetest gives tests and the demo real container engines that
// leave the host alone: a dockerd with a data folder, a socket and a network
// namespace of its own, podman with its own storage, and the local builder
// image, which is made once and cached.
//
// It is test support: nothing that ships may import it.
package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/flock"
)

// Daemon is a dockerd that Start has started.
type Daemon struct {
	Host string // for DOCKER_HOST

	run   string // pid file and sockets
	lock  *os.File
	pid   int
	ended chan error
}

// startTimeout and stopTimeout bound the daemon's own work.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
)

// Start starts a dockerd whose images and volumes live in dir and outlast it.
// It waits for a dir that another process uses. The daemon ends with its
// caller, even when that is killed.
func Start(ctx context.Context, dir string) (*Daemon, error) {
	d, err := start(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start dockerd: %w", err)
	}
	return d, nil
}

func start(ctx context.Context, dir string) (d *Daemon, err error) {
	binary, err := findDaemon()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	d = &Daemon{ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			d.cleanup()
		}
	}()
	if d.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	if d.run, err = runDir(dir); err != nil {
		return nil, err
	}
	d.Host = "unix://" + filepath.Join(d.run, "docker.sock")
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := d.launch(binary, dir, log); err != nil {
		return nil, err
	}
	if err := d.waitReady(ctx); err != nil {
		said, _ := os.ReadFile(log.Name()) // the cause is err; the log only helps
		return nil, errors.Join(err, errors.New(string(lastLines(said, 10))), d.Stop())
	}
	return d, nil
}

// runDir is the daemon's volatile folder: short, because the paths of sockets
// must be, and the same for every run, so that one that was killed leaves
// nothing that the next does not clear.
func runDir(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(absolute))
	run := fmt.Sprintf("/run/mvm-engine-%x", sum[:4])
	return run, errors.Join(os.RemoveAll(run), os.Mkdir(run, 0o700))
}

func findDaemon() (string, error) {
	path, err := exec.LookPath("dockerd")
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, "dockerd")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w (apt-get install docker.io)", err)
}

// daemonArgs is dockerd's command line.
func daemonArgs(dir, run string) []string {
	return []string{
		"--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(run, "exec"),
		"--pidfile", filepath.Join(run, "docker.pid"),
		"--host", "unix://" + filepath.Join(run, "docker.sock"),
		// The namespace has no way out, so there is nothing to filter or forward.
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
		// Nor anybody to ask for a name: this server refuses at once, the host's
		// would be waited for.
		"--dns=127.0.0.1",
	}
}

func (d *Daemon) launch(binary, dir string, log *os.File) error {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	cmd := exec.Command(binary, daemonArgs(absolute, d.run)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Cloneflags: syscall.CLONE_NEWNET}
	started := make(chan error)
	go func() {
		// The parent-death signal comes when this thread ends, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			d.ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	d.pid = cmd.Process.Pid
	return nil
}

func (d *Daemon) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if Answers(ctx, d.Host) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("it ended at once: %w", err)
		case <-tick.C:
		}
	}
}

// Answers says whether a docker engine listens at host; "" is the client's
// own default.
func Answers(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	if host != "" {
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+host)
	}
	return cmd.Run() == nil
}

// Stop ends the daemon and waits for it. Its containers end with it.
func (d *Daemon) Stop() error {
	defer d.cleanup()
	if d.pid == 0 {
		return nil
	}
	if err := syscall.Kill(d.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot stop dockerd: %w", err)
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	// Its group has containerd, too.
	if err := syscall.Kill(-d.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("cannot stop dockerd: %w", err)
	}
	<-d.ended
	return errors.New("cannot stop dockerd: it had to be killed after " + stopTimeout.String())
}

func (d *Daemon) cleanup() {
	if d.run != "" {
		os.RemoveAll(d.run) // the next start clears what is left
	}
	if d.lock != nil {
		d.lock.Close()
	}
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
