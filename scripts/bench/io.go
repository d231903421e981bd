package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/auser/mvm/internal/ssh"
)

const (
	port    = 5001     // of the bench's listeners
	payload = 16 << 20 // bytes, of each transfer
	trips   = 200      // round trips in a row
)

// ioPart compares one guest's network and disk with the bare VM's.
func (b *bench) ioPart(ctx context.Context) (err error) {
	defer b.removeByHand(&err)
	vm, err := b.newBare(ctx)
	if err != nil {
		return err
	}
	ours := &tenantGuest{h: b.host, program: b.mvm, id: first}
	defer func() { err = errors.Join(err, ours.kill(context.WithoutCancel(ctx))) }()
	if err := errors.Join(vm.start(ctx), ours.start(ctx)); err != nil {
		return err
	}
	state, err := b.state(ctx, first)
	if err != nil {
		return err
	}
	here, err := listenHere()
	if err != nil {
		return err
	}
	defer here.Close()
	out, err := newOutside(ctx)
	if err != nil {
		return err
	}
	defer out.Close()
	bareTarget := vm.(*bare).target
	sides := []struct {
		name, gateway string
		guest         ssh.Target
		took          results
	}{
		{"bare", handGateway, bareTarget, results{}},
		{"mvm", gateway, ssh.Target{ID: first, Addr: state.Net.IP, Dir: bareTarget.Dir}, results{}},
	}
	for range b.runs {
		for i := range sides {
			s := &sides[i]
			for _, m := range []struct {
				name string
				do   func() (time.Duration, error)
			}{
				{"guest → host, 16 MiB", func() (time.Duration, error) { return receive(ctx, s.guest, here, s.gateway) }},
				{"host → guest, 16 MiB", func() (time.Duration, error) { return send(ctx, s.guest, here, s.gateway) }},
				{"guest ↔ host, 200 round trips", func() (time.Duration, error) { return pingPong(ctx, s.guest, here, s.gateway) }},
				{"guest → outside, 16 MiB", func() (time.Duration, error) { return receive(ctx, s.guest, out.TCPListener, outsideAddr) }},
				{"outside → guest, 16 MiB", func() (time.Duration, error) { return send(ctx, s.guest, out.TCPListener, outsideAddr) }},
				{"guest ↔ outside, 200 round trips", func() (time.Duration, error) { return pingPong(ctx, s.guest, out.TCPListener, outsideAddr) }},
				{"write 24 MiB to data.ext4", func() (time.Duration, error) {
					return timed(ctx, s.guest, "dd if=/dev/zero of=/data/bench bs=1M count=24 conv=fsync")
				}},
				{"read them", func() (time.Duration, error) {
					return timed(ctx, s.guest, "echo 3 >/proc/sys/vm/drop_caches; dd if=/data/bench of=/dev/null bs=1M")
				}},
			} {
				took, err := m.do()
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, m.name, err)
				}
				s.took.add(m.name, took)
			}
		}
	}
	rows := [][]string{rowHead}
	for _, name := range sides[0].took.names {
		for _, s := range sides {
			rows = append(rows, s.took.of(name).row(name+": "+s.name, "ms", sides[0].took.of(name)))
		}
	}
	printTable(rows...)
	return nil
}

// timed has the guest run a script.
func timed(ctx context.Context, guest ssh.Target, script string) (time.Duration, error) {
	began := time.Now()
	out, err := ssh.Exec(ctx, guest, "sh", "-c", script)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return time.Since(began), err
}

// receive has the guest send, and times what is received from the first byte on.
func receive(ctx context.Context, guest ssh.Target, at *net.TCPListener, addr string) (took time.Duration, err error) {
	err = converse(ctx, guest, at, fmt.Sprintf("dd if=/dev/zero bs=64k count=%d | nc %s %d", payload>>16, addr, port), func(c net.Conn) error {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		began := time.Now()
		n, err := io.Copy(io.Discard, c)
		took = time.Since(began)
		if err == nil && n != payload-1 {
			err = fmt.Errorf("%d bytes arrived", n+1)
		}
		return err
	})
	return took, err
}

// send has the guest receive, and times it until the guest confirms the last
// byte.
func send(ctx context.Context, guest ssh.Target, at *net.TCPListener, addr string) (took time.Duration, err error) {
	err = converse(ctx, guest, at, fmt.Sprintf("nc %s %d >/dev/null", addr, port), func(c net.Conn) error {
		began := time.Now()
		if _, err := c.Write(make([]byte, payload)); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c)
		took = time.Since(began)
		return err
	})
	return took, err
}

// pingPong has the guest echo one byte after another.
func pingPong(ctx context.Context, guest ssh.Target, at *net.TCPListener, addr string) (took time.Duration, err error) {
	err = converse(ctx, guest, at, fmt.Sprintf("nc %s %d -e cat", addr, port), func(c net.Conn) error {
		ball := []byte{0}
		began := time.Now()
		for range trips {
			if _, err := c.Write(ball); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, ball); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	return took, err
}

// converse runs a script in the guest that connects to the listener, and talks
// to it.
func converse(ctx context.Context, guest ssh.Target, at *net.TCPListener, script string, talk func(net.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := at.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() {
		_, err := timed(ctx, guest, script)
		ran <- err
	}()
	c, err := at.Accept()
	if err != nil {
		cancel()
		return errors.Join(err, <-ran)
	}
	err = errors.Join(c.SetDeadline(time.Now().Add(time.Minute)), talk(c), c.Close())
	return errors.Join(err, <-ran)
}
