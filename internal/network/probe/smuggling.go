package probe

import (
	"net"
	"net/netip"
	"time"
)

// ICMP errors that a guest can forge.
const (
	unreachable    = 3
	portClosed     = 3
	fragNeeded     = 4
	looseRouting   = 131 // the option "loose source route"
	firstUnsafeTCP = 80
)

// linkLocalMAC is one of the addresses that a bridge never forwards: it hands
// the frame to the host in the port's own name, past the bridge's filters.
var linkLocalMAC = mustMAC("01:80:c2:00:00:0e")

// forgedErrors are ICMP errors about connections that are not the attacker's.
func forgedErrors() []Attack {
	// about is an error that quotes a datagram from one to the other.
	about := func(s *Scene, to netip.Addr, code byte, from, dest netip.AddrPort) []byte {
		return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4,
			ICMP(s.Attacker.IP, to, unreachable, code, 576, UDP(from, dest, s.Nonce)))
	}
	server := func(s *Scene) netip.AddrPort { return netip.AddrPortFrom(s.Outside, somePort) }
	connected := func(s *Scene) bool { return s.Outside.IsValid() && s.VictimSends != nil }
	// connect has the victim talk to a server.
	connect := func(s *Scene) error {
		hello := UDP(netip.AddrPortFrom(s.Victim.IP, somePort), server(s), []byte("hello"))
		return s.VictimSends(Ethernet(s.Gateway.MAC, s.Victim.MAC, typeIPv4, hello))
	}
	return []Attack{
		// Quoted as the internet would see it, the error finds its way to the
		// neighbour by the host's NAT.
		{Number: 56, Name: "ICMP error to a neighbour by way of NAT", Needs: connected, First: connect, Frames: func(s *Scene) [][]byte {
			if as := s.Translated(netip.AddrPortFrom(s.Victim.IP, somePort)); as.IsValid() {
				return [][]byte{about(s, as.Addr(), fragNeeded, as, server(s))}
			}
			return nil
		}},
		{Number: 57, Name: "ICMP error to a server about a neighbour's connection", Needs: connected, First: connect, Frames: one(func(s *Scene) []byte {
			return about(s, s.Outside, portClosed, server(s), netip.AddrPortFrom(s.Victim.IP, somePort))
		})},
		{Number: 58, Name: "ICMP error to the host about its own connection", First: func(s *Scene) (err error) {
			to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.Victim.IP, somePort))
			if s.own, err = net.DialUDP("udp4", nil, to); err == nil {
				_, err = s.own.Write([]byte("hello"))
			}
			return err
		}, Frames: one(func(s *Scene) []byte {
			local := s.own.LocalAddr().(*net.UDPAddr).AddrPort()
			return about(s, s.Gateway.IP, portClosed, netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), netip.AddrPortFrom(s.Victim.IP, somePort))
		}), Success: func(s *Scene, _ []Sighting) bool {
			defer s.own.Close()
			return refused(s.own)
		}},
	}
}

// refused says whether the socket was told that nobody listens.
func refused(c *net.UDPConn) bool {
	if c.SetReadDeadline(time.Now().Add(10*time.Millisecond)) != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// detours take a way that filters may not look at.
func detours() []Attack {
	wrapped := func(s *Scene, packet []byte) []byte { return Ethernet(linkLocalMAC, s.Attacker.MAC, typeIPv4, packet) }
	toService := func(s *Scene, dst netip.Addr) []byte {
		return UDP(netip.AddrPortFrom(s.Attacker.IP, somePort), netip.AddrPortFrom(dst, s.UDPPort), s.Nonce)
	}
	syn := func(s *Scene, dst netip.Addr) []byte {
		return TCP(netip.AddrPortFrom(s.Attacker.IP, somePort), netip.AddrPortFrom(dst, firstUnsafeTCP), SYN, 1, 0, s.Nonce)
	}
	each := func(list func(*Scene) []netip.Addr, frame func(*Scene, netip.Addr) []byte) func(*Scene) [][]byte {
		return func(s *Scene) (frames [][]byte) {
			for _, a := range list(s) {
				frames = append(frames, frame(s, a))
			}
			return frames
		}
	}
	viaGateway := func(packet func(*Scene, netip.Addr) []byte) func(*Scene, netip.Addr) []byte {
		return func(s *Scene, a netip.Addr) []byte {
			return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, packet(s, a))
		}
	}
	hosts := func(s *Scene) []netip.Addr { return s.HostAddrs }
	private := func(s *Scene) []netip.Addr { return s.Private }
	broadcasts := func(s *Scene) []netip.Addr { return s.Broadcasts }
	servers := func(s *Scene) []netip.Addr { return s.DNS }
	has := func(list func(*Scene) []netip.Addr) func(*Scene) bool {
		return func(s *Scene) bool { return len(list(s)) > 0 }
	}
	reached := func(list func(*Scene) []netip.Addr) func(*Scene, []Sighting) bool {
		return func(s *Scene, seen []Sighting) bool { return s.reached(seen, list(s)...) }
	}
	return []Attack{
		{Number: 59, Name: "IPv4 to the host in a link-local frame", Needs: has(hosts),
			Frames: each(hosts, func(s *Scene, a netip.Addr) []byte { return wrapped(s, toService(s, a)) })},
		{Number: 60, Name: "ARP in a link-local frame", Frames: one(func(s *Scene) []byte {
			return Ethernet(linkLocalMAC, s.Attacker.MAC, typeARP, ARP(arpRequest, s.Attacker.MAC, s.Attacker.IP, noMAC, s.Gateway.IP))
		}), Success: func(s *Scene, seen []Sighting) bool {
			return contains(seen, join(s.Gateway.IP.AsSlice(), s.Attacker.MAC, s.Attacker.IP.AsSlice()), AtAttacker)
		}},
		{Number: 61, Name: "source routing by way of the gateway", Needs: has(private), Success: reached(private),
			Frames: each(private, viaGateway(func(s *Scene, a netip.Addr) []byte {
				option := join([]byte{looseRouting, 7, 4}, a.AsSlice(), []byte{0})
				return ipWithOptions(s.Attacker.IP, s.Gateway.IP, 17, option, udp(somePort, somePort, s.Nonce))
			}))},
		{Number: 62, Name: "broadcast addresses of the host's networks", Needs: has(broadcasts), Frames: each(broadcasts, viaGateway(toService))},
		{Number: 63, Name: "multicast to the host's services", Frames: one(func(s *Scene) []byte {
			return Ethernet(mustMAC("01:00:5e:00:00:01"), s.Attacker.MAC, typeIPv4, toService(s, netip.AddrFrom4([4]byte{224, 0, 0, 1})))
		})},
		{Number: 64, Name: "other ports of a private DNS server", Needs: has(servers), Success: reached(servers), Frames: each(servers, viaGateway(syn))},
		// IP in IP, 6in4, GRE, SCTP and one that nobody knows: the host answers
		// what gets as far as its tunnels with an error that quotes it.
		{Number: 65, Name: "tunnels to the gateway", Needs: func(s *Scene) bool { return !s.GatewayOpen }, Frames: func(s *Scene) (frames [][]byte) {
			for _, proto := range []byte{4, 41, 47, 132, 253} {
				frames = append(frames, Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, IP(s.Attacker.IP, s.Gateway.IP, proto, 0, s.Nonce)))
			}
			return frames
		}, Success: nonceAtAttacker},
	}
}
