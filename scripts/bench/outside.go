package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// outsideAddr is beyond the host, and one that every tenant may reach.
const outsideAddr = "203.0.113.9"

// outside is a network namespace beyond the host, with a listener in it.
type outside struct {
	*net.TCPListener
	keeper *exec.Cmd // holds the namespace
}

func newOutside(ctx context.Context) (_ *outside, err error) {
	o := &outside{keeper: exec.Command("sleep", "infinity")}
	o.keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := o.keeper.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make an outside: %w", err), o.Close())
		}
	}()
	pid := o.keeper.Process.Pid
	inside := fmt.Sprintf("nsenter --net --target %d ", pid)
	if err := commands(ctx,
		fmt.Sprintf("ip link add outside type veth peer name eth0 netns %d", pid),
		"ip addr add 203.0.113.1/24 dev outside", "ip link set outside up",
		inside+"ip addr add "+outsideAddr+"/24 dev eth0", inside+"ip link set eth0 up",
		inside+"ip route add default via 203.0.113.1"); err != nil {
		return nil, err
	}
	o.TCPListener, err = listenIn(fmt.Sprintf("/proc/%d/ns/net", pid))
	return o, err
}

// listenIn listens in another network namespace.
func listenIn(namespace string) (*net.TCPListener, error) {
	runtime.LockOSThread()
	back, err1 := os.Open("/proc/thread-self/ns/net")
	there, err2 := os.Open(namespace)
	defer back.Close()
	defer there.Close()
	if err := errors.Join(err1, err2); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	at, err := listenHere()
	if backErr := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); backErr != nil {
		return nil, errors.Join(err, backErr) // and this thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return at, err
}

func listenHere() (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
}

// Close takes it away, and with the namespace its link.
func (o *outside) Close() error {
	var err error
	if o.TCPListener != nil {
		err = o.TCPListener.Close()
	}
	err = errors.Join(err, o.keeper.Process.Kill())
	o.keeper.Wait() // it was killed
	return err
}
