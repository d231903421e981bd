package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// Party is somebody on the tenants' bridge.
type Party struct {
	MAC net.HardwareAddr
	IP  netip.Addr
}

// Scene is who and what there is to attack.
type Scene struct {
	Attacker, Victim, Gateway Party
	Subnet                    netip.Prefix
	Outside                   netip.Addr   // somewhere on the internet; invalid without a way there
	Metadata                  netip.Addr   // the cloud's metadata service; invalid without a way there
	Allowed                   netip.Addr   // only its tcp/443 is on the allowlist; invalid without one
	HostAddrs                 []netip.Addr // the host's addresses other than the gateway
	Private                   []netip.Addr // in private ranges
	Containers                []netip.AddrPort
	Published                 []netip.AddrPort // ports of the host that lead to containers
	Broadcasts                []netip.Addr     // of the networks that the host is on
	DNS                       []netip.Addr     // servers that only port 53 is open of
	TCPPort, UDPPort          uint16           // services that the host runs on all addresses
	GatewayOpen               bool             // the gateway is meant to be reached on every port

	Nonce []byte // in the payload of this attack's frames

	// Neighbours are what the host has learned about the bridge's neighbours.
	Neighbours func() map[netip.Addr]string
	// Learned are the MACs that the bridge has learned.
	Learned func() int
	// Redirects is how many ICMP redirects the host has taken in.
	Redirects func() int
	// VictimSends puts a frame on the wire at the victim's port.
	VictimSends func(frame []byte) error
	// Translated is what the host's NAT has made of the sender of a connection;
	// invalid for one that does not exist.
	Translated func(from netip.AddrPort) netip.AddrPort
	// HostSends makes the host send payload to the victim.
	HostSends func(payload []byte) error
	// Forget makes the host forget the victim's MAC address, if it can.
	Forget func() error
	// Reset undoes the traces of the attack before, if that is needed.
	Reset func() error

	own *net.UDPConn // a connection of the host's
}

// Place is where a frame was seen.
type Place string

// Places.
const (
	AtAttacker Place = "attacker" // leaving the bridge by the attacker's own port
	AtVictim   Place = "victim"   // leaving by the victim's port
	Out        Place = "outside"  // leaving by another interface
	AtHost     Place = "host"     // taken in by a service of the host
)

// Sighting is a frame, or for AtHost its payload, that came out somewhere.
type Sighting struct {
	Place Place
	Frame []byte
}

// Attack is one thing that a hostile guest can try.
type Attack struct {
	Number int
	Name   string
	// First is what others do before, if anything.
	First func(s *Scene) error
	// Frames are what the attacker's port sends.
	Frames func(s *Scene) [][]byte
	// Then is what the host does after that, if anything.
	Then func(s *Scene) error
	// Success says whether the attack got through. Without it, any sight of
	// the nonce away from the attacker's own port is success.
	Success func(s *Scene, seen []Sighting) bool
	// Needs says whether the scene has what the attack is about.
	Needs func(s *Scene) bool
}

// Succeeded says whether the attack got through.
func (a Attack) Succeeded(s *Scene, seen []Sighting) bool {
	if a.Success != nil {
		return a.Success(s, seen)
	}
	return contains(seen, s.Nonce, AtVictim, Out, AtHost)
}

// Possible says whether the scene has what the attack is about.
func (a Attack) Possible(s *Scene) bool { return a.Needs == nil || a.Needs(s) }

// reached says whether a packet to one of the addresses has left the host, or
// would have, had anybody answered the host's ARP for it.
func (s *Scene) reached(seen []Sighting, targets ...netip.Addr) bool {
	for _, a := range targets {
		if contains(seen, join(noMAC, a.AsSlice()), Out) {
			return true
		}
	}
	return contains(seen, s.Nonce, Out, AtVictim, AtHost)
}

func contains(seen []Sighting, part []byte, places ...Place) bool {
	for _, sight := range seen {
		for _, p := range places {
			if sight.Place == p && bytes.Contains(sight.Frame, part) {
				return true
			}
		}
	}
	return false
}

// somePort is one that nobody listens on.
const somePort = 40000

// datagram is an IPv4 one with the nonce.
func (s *Scene) datagram(src, dst netip.Addr) []byte {
	return UDP(netip.AddrPortFrom(src, somePort), netip.AddrPortFrom(dst, somePort), s.Nonce)
}

// viaGateway is a datagram as a routed one would leave the guest.
func (s *Scene) viaGateway(src, dst netip.Addr) []byte {
	return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, s.datagram(src, dst))
}

func one(frame func(s *Scene) []byte) func(*Scene) [][]byte {
	return func(s *Scene) [][]byte { return [][]byte{frame(s)} }
}

// arpSeen is success by a sight of the very ARP body.
func arpSeen(body func(s *Scene) []byte, place Place) func(*Scene, []Sighting) bool {
	return func(s *Scene, seen []Sighting) bool { return contains(seen, body(s), place) }
}

// answered is success by a TCP answer to the attacker's SYN: the host's side
// of the connection is visible in the segment's ports.
func answered(seen []Sighting, port uint16) bool {
	ports := join(be16(int(port)), be16(somePort))
	for _, sight := range seen {
		f := sight.Frame
		if sight.Place == AtAttacker && len(f) >= 54 && f[23] == 6 && bytes.Equal(f[34:38], ports) && f[47]&SYN != 0 {
			return true
		}
	}
	return false
}

// Attacks are all of them. The numbers are those of the documentation.
func Attacks() []Attack {
	var all []Attack
	for _, part := range [][]Attack{neighbourAttacks(), oddFrames(), spoofing(), arpAttacks(), hostAttacks(), egressAttacks(), forgedErrors(), detours()} {
		all = append(all, part...)
	}
	return all
}

// neighbourAttacks try to reach or mislead another tenant.
func neighbourAttacks() []Attack {
	poison := func(s *Scene) []byte {
		return ARP(arpReply, s.Attacker.MAC, s.Gateway.IP, s.Victim.MAC, s.Victim.IP)
	}
	whoHas := func(s *Scene) []byte {
		return ARP(arpRequest, s.Attacker.MAC, s.Attacker.IP, noMAC, s.Victim.IP)
	}
	gratuitous := func(s *Scene) []byte {
		return ARP(arpRequest, s.Attacker.MAC, s.Victim.IP, noMAC, s.Victim.IP)
	}
	multicast := func(group string, mac string, port uint16) func(*Scene) [][]byte {
		return one(func(s *Scene) []byte {
			dst := netip.AddrPortFrom(netip.MustParseAddr(group), port)
			return Ethernet(mustMAC(mac), s.Attacker.MAC, typeIPv4, UDP(netip.AddrPortFrom(s.Attacker.IP, port), dst, s.Nonce))
		})
	}
	return []Attack{
		{Number: 1, Name: "unicast IPv4 to a neighbour", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Victim.MAC, s.Attacker.MAC, typeIPv4, s.datagram(s.Attacker.IP, s.Victim.IP))
		})},
		{Number: 2, Name: "hairpin through the gateway's MAC", Frames: one(func(s *Scene) []byte {
			return s.viaGateway(s.Attacker.IP, s.Victim.IP)
		})},
		{Number: 3, Name: "broadcast ARP seen by a neighbour", Frames: one(func(s *Scene) []byte {
			return Ethernet(broadcast, s.Attacker.MAC, typeARP, whoHas(s))
		}), Success: arpSeen(whoHas, AtVictim)},
		{Number: 4, Name: "ARP poisoning of a neighbour", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Victim.MAC, s.Attacker.MAC, typeARP, poison(s))
		}), Success: arpSeen(poison, AtVictim)},
		{Number: 5, Name: "subnet broadcast", Frames: one(func(s *Scene) []byte {
			return Ethernet(broadcast, s.Attacker.MAC, typeIPv4, s.datagram(s.Attacker.IP, lastAddr(s.Subnet)))
		})},
		{Number: 6, Name: "mDNS", Frames: multicast("224.0.0.251", "01:00:5e:00:00:fb", 5353)},
		{Number: 10, Name: "DHCP offer to neighbours", Frames: one(func(s *Scene) []byte {
			all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
			return Ethernet(broadcast, s.Attacker.MAC, typeIPv4, UDP(netip.AddrPortFrom(s.Attacker.IP, 67), netip.AddrPortFrom(all, 68), s.Nonce))
		})},
		{Number: 18, Name: "unknown unicast", Frames: one(func(s *Scene) []byte {
			return Ethernet(mustMAC("02:aa:aa:aa:aa:aa"), s.Attacker.MAC, typeIPv4, s.datagram(s.Attacker.IP, s.Victim.IP))
		})},
		{Number: 19, Name: "IGMP report", Frames: one(func(s *Scene) []byte {
			group := netip.MustParseAddr("224.0.0.22")
			return Ethernet(mustMAC("01:00:5e:00:00:16"), s.Attacker.MAC, typeIPv4, IP(s.Attacker.IP, group, 2, 0, join([]byte{0x16, 0, 0, 0}, s.Nonce)))
		})},
		{Number: 20, Name: "host-to-neighbour frames at the attacker's port", Then: hostSendsNonce, Success: nonceAtAttacker},
		{Number: 21, Name: "host's ARP at the attacker's port", Then: func(s *Scene) error {
			return errors.Join(s.Forget(), s.HostSends(s.Nonce))
		}, Success: func(s *Scene, seen []Sighting) bool {
			return contains(seen, join(be16(arpRequest), s.Gateway.MAC, s.Gateway.IP.AsSlice(), noMAC, s.Victim.IP.AsSlice()), AtAttacker)
		}},
		{Number: 28, Name: "gratuitous ARP for a neighbour's address", Frames: one(func(s *Scene) []byte {
			return Ethernet(broadcast, s.Attacker.MAC, typeARP, gratuitous(s))
		}), Success: arpSeen(gratuitous, AtVictim)},
	}
}

func hostSendsNonce(s *Scene) error { return s.HostSends(s.Nonce) }

func nonceAtAttacker(s *Scene, seen []Sighting) bool { return contains(seen, s.Nonce, AtAttacker) }

// oddFrames are neither plain IPv4 nor ARP.
func oddFrames() []Attack {
	tagged := func(tags ...int) func(*Scene) [][]byte {
		return one(func(s *Scene) []byte {
			return Ethernet(s.Victim.MAC, s.Attacker.MAC, typeIPv4, s.datagram(s.Attacker.IP, s.Victim.IP), tags...)
		})
	}
	typed := func(dst func(*Scene) net.HardwareAddr, etherType int, head ...byte) func(*Scene) [][]byte {
		return one(func(s *Scene) []byte { return Ethernet(dst(s), s.Attacker.MAC, etherType, join(head, s.Nonce)) })
	}
	victim := func(s *Scene) net.HardwareAddr { return s.Victim.MAC }
	allNodes := netip.MustParseAddr("ff02::1")
	allNodesMAC := mustMAC("33:33:00:00:00:01")
	return []Attack{
		{Number: 7, Name: "IPv6 unicast to a neighbour", Frames: one(func(s *Scene) []byte {
			src, dst := netip.AddrPortFrom(LinkLocal(s.Attacker.MAC), somePort), netip.AddrPortFrom(LinkLocal(s.Victim.MAC), somePort)
			return Ethernet(s.Victim.MAC, s.Attacker.MAC, typeIPv6, UDPv6(src, dst, s.Nonce))
		})},
		{Number: 8, Name: "router advertisement", Frames: one(func(s *Scene) []byte {
			body := join([]byte{64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2, 0, 0}, s.Nonce) // a router for 30 minutes
			return Ethernet(allNodesMAC, s.Attacker.MAC, typeIPv6, ICMPv6(LinkLocal(s.Attacker.MAC), allNodes, 134, body))
		})},
		{Number: 9, Name: "neighbour advertisement", Frames: one(func(s *Scene) []byte {
			body := join([]byte{0x20, 0, 0, 0}, LinkLocal(s.Victim.MAC).AsSlice(), []byte{2, 1}, s.Attacker.MAC, s.Nonce)
			return Ethernet(allNodesMAC, s.Attacker.MAC, typeIPv6, ICMPv6(LinkLocal(s.Attacker.MAC), allNodes, 136, body))
		})},
		{Number: 11, Name: "VLAN 5", Frames: tagged(typeVLAN, 5)},
		{Number: 12, Name: "VLAN 0", Frames: tagged(typeVLAN, 0)},
		{Number: 13, Name: "QinQ", Frames: tagged(typeQinQ, 5, typeVLAN, 6)},
		{Number: 14, Name: "odd ethertype", Frames: typed(victim, 0x88b5)},
		{Number: 15, Name: "LLC/SNAP", Frames: typed(victim, 46, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0)},
		{Number: 16, Name: "PPPoE discovery", Frames: typed(victim, 0x8863, 0x11, 9, 0, 0)},
		{Number: 17, Name: "BPDU", Frames: typed(func(*Scene) net.HardwareAddr { return mustMAC("01:80:c2:00:00:00") }, 46, 0x42, 0x42, 3, 0, 0, 0, 0)},
	}
}

// spoofing sends in somebody else's name.
func spoofing() []Attack {
	foreign := netip.MustParseAddr("192.0.2.99")
	routed := func(s *Scene) bool { return s.Outside.IsValid() }
	return []Attack{
		{Number: 22, Name: "foreign source address", Needs: routed, Frames: one(func(s *Scene) []byte { return s.viaGateway(foreign, s.Outside) })},
		{Number: 23, Name: "neighbour's source address", Needs: routed, Frames: one(func(s *Scene) []byte { return s.viaGateway(s.Victim.IP, s.Outside) })},
		{Number: 24, Name: "gateway's source address", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Victim.MAC, s.Attacker.MAC, typeIPv4, s.datagram(s.Gateway.IP, s.Victim.IP))
		})},
		{Number: 25, Name: "stolen MAC address", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Gateway.MAC, s.Victim.MAC, typeIPv4, s.datagram(s.Victim.IP, s.Gateway.IP))
		}), Then: hostSendsNonce, Success: nonceAtAttacker},
		{Number: 26, Name: "gateway's MAC address", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Victim.MAC, s.Gateway.MAC, typeIPv4, s.datagram(s.Attacker.IP, s.Victim.IP))
		})},
		{Number: 27, Name: "flood of MAC addresses", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for i := range 2000 {
				src := net.HardwareAddr{0x02, 0xbb, 0, 0, byte(i >> 8), byte(i)}
				frames = append(frames, Ethernet(s.Gateway.MAC, src, typeIPv4, s.datagram(s.Attacker.IP, s.Gateway.IP)))
			}
			return frames
		}, Success: func(s *Scene, _ []Sighting) bool { return s.Learned() > 100 }},
		{Number: 32, Name: "foreign source address behind VLAN 0", Needs: routed, Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, s.datagram(foreign, s.Outside), typeVLAN, 0)
		})},
	}
}

// arpAttacks try to fill or mislead the host's neighbour table.
func arpAttacks() []Attack {
	fake := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	malformed := func(s *Scene) []byte {
		return join(be16(1), be16(typeIPv4), []byte{8, 4}, be16(arpReply), s.Nonce, s.Nonce)
	}
	return []Attack{
		{Number: 29, Name: "fake ARP senders", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for i := range 40 {
				sender := s.Subnet.Masked().Addr().As4()
				sender[3] = byte(150 + i)
				mac := net.HardwareAddr{0x02, 0xcc, 0, 0, 0, byte(i)}
				frames = append(frames, Ethernet(broadcast, mac, typeARP, ARP(arpRequest, mac, netip.AddrFrom4(sender), noMAC, s.Gateway.IP)))
			}
			return frames
		}, Success: func(s *Scene, _ []Sighting) bool {
			for _, mac := range s.Neighbours() {
				if mac[:5] == "02:cc" {
					return true
				}
			}
			return false
		}},
		{Number: 30, Name: "ARP sender other than the frame's", Frames: one(func(s *Scene) []byte {
			return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeARP, ARP(arpRequest, mustMAC("02:dd:00:00:00:01"), s.Attacker.IP, noMAC, s.Gateway.IP))
		}), Success: func(s *Scene, _ []Sighting) bool { return s.Neighbours()[s.Attacker.IP] == "02:dd:00:00:00:01" }},
		{Number: 33, Name: "ARP for another address of the host", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for _, a := range s.HostAddrs {
				frames = append(frames, Ethernet(broadcast, s.Attacker.MAC, typeARP, ARP(arpRequest, s.Attacker.MAC, s.Attacker.IP, noMAC, a)))
			}
			return frames
		}, Success: func(s *Scene, seen []Sighting) bool {
			for _, a := range s.HostAddrs {
				if contains(seen, join(be16(arpReply), s.Gateway.MAC, a.AsSlice()), AtAttacker) {
					return true
				}
			}
			return false
		}, Needs: func(s *Scene) bool { return len(s.HostAddrs) > 0 }},
		{Number: 33, Name: "malformed ARP", Frames: one(func(s *Scene) []byte {
			return Ethernet(broadcast, s.Attacker.MAC, typeARP, malformed(s))
		}), Success: arpSeen(malformed, AtVictim)},
		{Number: 52, Name: "ARP burst", Frames: func(s *Scene) [][]byte {
			frames := make([][]byte, 300)
			for i := range frames {
				frames[i] = Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeARP, ARP(arpRequest, s.Attacker.MAC, s.Attacker.IP, noMAC, s.Gateway.IP))
			}
			return frames
		}, Success: func(s *Scene, seen []Sighting) bool {
			answer := ARP(arpReply, s.Gateway.MAC, s.Gateway.IP, s.Attacker.MAC, s.Attacker.IP)
			n := 0
			for _, sight := range seen {
				if sight.Place == AtAttacker && bytes.Contains(sight.Frame, answer) {
					n++
				}
			}
			return n > 100
		}},
		{Number: 29, Name: "neighbour table filled from one port", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for i := range 40 {
				frames = append(frames, Ethernet(broadcast, s.Attacker.MAC, typeARP, ARP(arpRequest, s.Attacker.MAC, fake(i+1), noMAC, s.Gateway.IP)))
			}
			return frames
		}, Success: func(s *Scene, _ []Sighting) bool {
			_, found := s.Neighbours()[fake(1)]
			return found
		}},
	}
}

// hostAttacks go for the host's own services.
func hostAttacks() []Attack {
	toHost := func(s *Scene, dst netip.Addr) []byte {
		return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4,
			UDP(netip.AddrPortFrom(s.Attacker.IP, somePort), netip.AddrPortFrom(dst, s.UDPPort), s.Nonce))
	}
	hasHostAddr := func(s *Scene) bool { return len(s.HostAddrs) > 0 }
	return []Attack{
		{Number: 31, Name: "DHCPDISCOVER", Frames: one(func(s *Scene) []byte {
			src := netip.AddrPortFrom(netip.IPv4Unspecified(), 68)
			dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), s.UDPPort)
			return Ethernet(broadcast, s.Attacker.MAC, typeIPv4, UDP(src, dst, s.Nonce))
		})},
		{Number: 34, Name: "TCP service on every address of the host", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			targets := s.HostAddrs
			if !s.GatewayOpen {
				targets = append([]netip.Addr{s.Gateway.IP}, targets...)
			}
			for _, a := range targets {
				syn := TCP(netip.AddrPortFrom(s.Attacker.IP, somePort), netip.AddrPortFrom(a, s.TCPPort), SYN, 1, 0, nil)
				frames = append(frames, Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, syn))
			}
			return frames
		}, Success: func(s *Scene, seen []Sighting) bool { return answered(seen, s.TCPPort) }},
		{Number: 35, Name: "UDP service on the uplink's address", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for _, a := range s.HostAddrs {
				frames = append(frames, toHost(s, a))
			}
			return frames
		}, Needs: hasHostAddr},
		{Number: 36, Name: "the host's loopback address", Frames: one(func(s *Scene) []byte {
			return toHost(s, netip.MustParseAddr("127.0.0.1"))
		})},
		{Number: 37, Name: "the host's IPv6 address", Frames: one(func(s *Scene) []byte {
			dst := netip.AddrPortFrom(LinkLocal(s.Gateway.MAC), s.UDPPort)
			return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv6, UDPv6(netip.AddrPortFrom(LinkLocal(s.Attacker.MAC), somePort), dst, s.Nonce))
		})},
		{Number: 46, Name: "ICMP redirect to the host", Frames: one(func(s *Scene) []byte {
			about := s.datagram(s.Gateway.IP, s.Outside)
			return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4,
				ICMP(s.Attacker.IP, s.Gateway.IP, 5, 1, binary.BigEndian.Uint32(s.Attacker.IP.AsSlice()), about[:28]))
		}), Success: func(s *Scene, _ []Sighting) bool { return s.Redirects() > 0 }},
	}
}

// egressAttacks go where no policy, or not this one, lets a tenant go.
func egressAttacks() []Attack {
	tcp := func(s *Scene, dst netip.AddrPort, payload []byte) []byte {
		return TCP(netip.AddrPortFrom(s.Attacker.IP, somePort), dst, SYN, 1, 0, payload)
	}
	route := func(s *Scene, packet []byte) []byte {
		return Ethernet(s.Gateway.MAC, s.Attacker.MAC, typeIPv4, packet)
	}
	allowed := func(s *Scene) bool { return s.Allowed.IsValid() }
	return []Attack{
		{Number: 38, Name: "a container's address", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for _, c := range s.Containers {
				frames = append(frames, route(s, tcp(s, c, s.Nonce)))
			}
			return frames
		}, Needs: func(s *Scene) bool { return len(s.Containers) > 0 }},
		{Number: 39, Name: "a published port", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for _, p := range s.Published {
				frames = append(frames, route(s, tcp(s, p, s.Nonce)))
			}
			return frames
		}, Needs: func(s *Scene) bool { return len(s.Published) > 0 }},
		{Number: 40, Name: "cloud metadata", Frames: one(func(s *Scene) []byte {
			return route(s, tcp(s, netip.AddrPortFrom(s.Metadata, 80), s.Nonce))
		}), Needs: func(s *Scene) bool { return s.Metadata.IsValid() }, Success: func(s *Scene, seen []Sighting) bool {
			return s.reached(seen, s.Metadata)
		}},
		{Number: 41, Name: "private ranges", Frames: func(s *Scene) [][]byte {
			var frames [][]byte
			for _, a := range s.Private {
				frames = append(frames, route(s, tcp(s, netip.AddrPortFrom(a, 443), s.Nonce)))
			}
			return frames
		}, Needs: func(s *Scene) bool { return len(s.Private) > 0 }, Success: func(s *Scene, seen []Sighting) bool {
			return s.reached(seen, s.Private...)
		}},
		{Number: 42, Name: "a port that is not on the allowlist", Frames: one(func(s *Scene) []byte {
			return route(s, tcp(s, netip.AddrPortFrom(s.Allowed, 80), s.Nonce))
		}), Needs: allowed},
		{Number: 43, Name: "the same in fragments", Frames: func(s *Scene) [][]byte {
			// The first fragment holds the ports alone; the second would
			// complete a datagram to a port that is not allowed.
			whole := udp(somePort, 80, join(s.Nonce, s.Nonce, s.Nonce, s.Nonce))
			const more = 0x2000
			return [][]byte{
				route(s, IP(s.Attacker.IP, s.Allowed, 17, more, whole[:8])),
				route(s, IP(s.Attacker.IP, s.Allowed, 17, 1, whole[8:])),
			}
		}, Needs: allowed},
		{Number: 44, Name: "IP in IP", Frames: one(func(s *Scene) []byte {
			return route(s, IP(s.Attacker.IP, s.Allowed, 4, 0, s.datagram(s.Attacker.IP, s.Allowed)))
		}), Needs: allowed},
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | (1<<(32-p.Bits()) - 1)
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func mustMAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return m
}
