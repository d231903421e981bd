package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// vnetHeader is the length of the header before each frame on a TAP that was
// opened as Firecracker does. All zero, it asks for nothing.
const vnetHeader = 10

// TAP is the guest's end of a TAP device: what a VMM holds.
type TAP struct{ f *os.File }

// OpenTAP takes the place of the VMM at an existing TAP device.
func OpenTAP(name string) (*TAP, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot open tap %s: %w", name, err)
	}
	return &TAP{os.NewFile(uintptr(fd), name)}, nil
}

// Send puts one frame on the wire. The kernel has dealt with it when Send
// returns, but for what it queues behind other work.
func (t *TAP) Send(frame []byte) error {
	_, err := t.f.Write(append(make([]byte, vnetHeader), frame...))
	return err
}

// Receive returns the next frame that arrives within the time.
func (t *TAP) Receive(wait time.Duration) ([]byte, error) {
	if err := t.f.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	buf := make([]byte, 70_000)
	n, err := t.f.Read(buf)
	if err != nil {
		return nil, err
	}
	return buf[min(n, vnetHeader):n], nil
}

// Close lets go of the device; it stays.
func (t *TAP) Close() error { return t.f.Close() }

// Watcher sees every frame that leaves the host's network namespace by any
// interface, and every datagram that reaches its own service.
type Watcher struct {
	places  func(ifindex int) Place
	packets int // AF_PACKET socket
	service *net.UDPConn
	tcp     net.Listener

	mu      sync.Mutex
	seen    []Sighting
	changed chan struct{} // closed and replaced at each sighting
	done    sync.WaitGroup
}

// Watch starts watching. places tells interfaces apart; frames that leave by
// an interface with an empty place are of no interest.
func Watch(places func(ifindex int) Place) (*Watcher, error) {
	w := &Watcher{places: places, changed: make(chan struct{})}
	var err error
	if w.packets, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(hton(unix.ETH_P_ALL))); err != nil {
		return nil, fmt.Errorf("cannot watch the host's interfaces: %w", err)
	}
	const buffer = 16 << 20
	_ = unix.SetsockoptInt(w.packets, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) // the default holds a few hundred frames, too
	timeout := unix.NsecToTimeval(int64(20 * time.Millisecond))
	if err := unix.SetsockoptTimeval(w.packets, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(w.packets)
		return nil, err
	}
	if w.service, err = net.ListenUDP("udp", nil); err == nil {
		w.tcp, err = net.Listen("tcp", ":0")
	}
	if err != nil {
		unix.Close(w.packets)
		return nil, errors.Join(fmt.Errorf("cannot listen: %w", err), closeIf(w.service))
	}
	return w, nil
}

func closeIf(c *net.UDPConn) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// Ports are the UDP and TCP service that stand for those of the host.
func (w *Watcher) Ports() (udp, tcp uint16) {
	return uint16(w.service.LocalAddr().(*net.UDPAddr).Port), uint16(w.tcp.Addr().(*net.TCPAddr).Port)
}

// poke sends a datagram to the watcher's own service.
func (w *Watcher) poke(payload []byte) error {
	udp, _ := w.Ports()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(udp)})
	if err != nil {
		return fmt.Errorf("cannot reach the watcher's own service: %w", err)
	}
	defer conn.Close()
	_, err = conn.Write(payload)
	return err
}

// Run watches until ctx ends, and closes everything.
func (w *Watcher) Run(ctx context.Context) {
	w.done.Go(func() {
		<-ctx.Done()
		w.service.Close()
		w.tcp.Close()
	})
	w.done.Go(func() {
		buf := make([]byte, 70_000)
		for {
			n, _, err := w.service.ReadFromUDP(buf)
			if err != nil {
				return
			}
			w.note(Sighting{AtHost, append([]byte(nil), buf[:n]...)})
		}
	})
	buf := make([]byte, 70_000)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(w.packets, buf, 0)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || link.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		if place := w.places(link.Ifindex); place != "" {
			w.note(Sighting{place, append([]byte(nil), buf[:n]...)})
		}
	}
	unix.Close(w.packets)
	w.done.Wait()
}

func (w *Watcher) note(s Sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
	close(w.changed)
	w.changed = make(chan struct{})
}

// Seen are the sightings since the last Reset.
func (w *Watcher) Seen() []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Sighting(nil), w.seen...)
}

// Reset forgets the sightings so far.
func (w *Watcher) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

// Await waits until match holds for the sightings, at most for the time.
func (w *Watcher) Await(match func([]Sighting) bool, wait time.Duration) bool {
	deadline := time.After(wait)
	for {
		w.mu.Lock()
		seen, changed := w.seen, w.changed
		w.mu.Unlock()
		if match(seen) {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

func hton(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// Name is the device's name.
func (t *TAP) Name() string { return t.f.Name() }

// Control calls fn with the device's descriptor.
func (t *TAP) Control(fn func(fd uintptr)) error {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(fn)
}

// AnswerARP does for a guest what every guest does: it tells its MAC address
// to who asks. It returns when the TAP is closed.
func (t *TAP) AnswerARP(self Party) {
	for {
		frame, err := t.Receive(time.Hour)
		if err != nil {
			return
		}
		if len(frame) < 42 || binary.BigEndian.Uint16(frame[12:]) != typeARP || binary.BigEndian.Uint16(frame[20:]) != arpRequest {
			continue
		}
		asker := Party{MAC: net.HardwareAddr(frame[22:28])}
		asker.IP, _ = netip.AddrFromSlice(frame[28:32])
		if target, _ := netip.AddrFromSlice(frame[38:42]); target == self.IP {
			if t.Send(Ethernet(asker.MAC, self.MAC, typeARP, ARP(arpReply, self.MAC, self.IP, asker.MAC, asker.IP))) != nil {
				return
			}
		}
	}
}
