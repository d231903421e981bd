// Package probe proves isolation by packets: it sends the frames that a
// hostile guest would send and watches where they come out.
//
// It owns the list of attacks, the building of their frames and the watching.
// It knows nothing of how the isolation is made: the same list runs against
// mvm's network, where each attack must fail, and against a plain bridge,
// where each must succeed.
package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Ethernet types.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	typeIPv6 = 0x86dd
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	noMAC     = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Ethernet is a frame; tags go between the source and the type.
func Ethernet(dst, src net.HardwareAddr, etherType int, payload []byte, tags ...int) []byte {
	frame := join(dst, src)
	for i := 0; i+1 < len(tags); i += 2 {
		frame = join(frame, be16(tags[i]), be16(tags[i+1]))
	}
	frame = join(frame, be16(etherType), payload)
	for len(frame) < 60 {
		frame = append(frame, 0)
	}
	return frame
}

// IP is an IPv4 packet. fragment is the field of flags and offset.
func IP(src, dst netip.Addr, proto byte, fragment int, payload []byte) []byte {
	return ipHeader(src, dst, proto, fragment, nil, payload)
}

// ipWithOptions is one with options, of which the length is a multiple of 4.
func ipWithOptions(src, dst netip.Addr, proto byte, options, payload []byte) []byte {
	return ipHeader(src, dst, proto, 0, options, payload)
}

func ipHeader(src, dst netip.Addr, proto byte, fragment int, options, payload []byte) []byte {
	words := byte(5 + len(options)/4)
	h := join([]byte{0x40 | words, 0}, be16(int(words)*4+len(payload)), be16(0x4d56), be16(fragment), []byte{64, proto, 0, 0}, src.AsSlice(), dst.AsSlice(), options)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return join(h, payload)
}

// UDP is an IPv4 packet without a UDP checksum, which IPv4 permits.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	return IP(src.Addr(), dst.Addr(), 17, 0, udp(src.Port(), dst.Port(), payload))
}

func udp(sport, dport uint16, payload []byte) []byte {
	return join(be16(int(sport)), be16(int(dport)), be16(8+len(payload)), be16(0), payload)
}

// TCP flags.
const (
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// TCP is an IPv4 packet with a TCP segment.
func TCP(src, dst netip.AddrPort, flags byte, seq, ack uint32, payload []byte) []byte {
	seg := join(be16(int(src.Port())), be16(int(dst.Port())),
		binary.BigEndian.AppendUint32(nil, seq), binary.BigEndian.AppendUint32(nil, ack),
		[]byte{5 << 4, flags}, be16(65535), be16(0), be16(0), payload)
	pseudo := join(src.Addr().AsSlice(), dst.Addr().AsSlice(), []byte{0, 6}, be16(len(seg)), seg)
	binary.BigEndian.PutUint16(seg[16:], checksum(pseudo))
	return IP(src.Addr(), dst.Addr(), 6, 0, seg)
}

// ICMP is an IPv4 packet with an ICMP message; rest is the header's second word.
func ICMP(src, dst netip.Addr, kind, code byte, rest uint32, payload []byte) []byte {
	m := join([]byte{kind, code, 0, 0}, binary.BigEndian.AppendUint32(nil, rest), payload)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return IP(src, dst, 1, 0, m)
}

// ARP operations.
const (
	arpRequest = 1
	arpReply   = 2
)

// ARP is the body of an ARP packet.
func ARP(op int, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	return join(be16(1), be16(typeIPv4), []byte{6, 4}, be16(op), senderMAC, sender.AsSlice(), targetMAC, target.AsSlice())
}

// IPv6 is a packet with the given next header.
func IPv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	return join([]byte{0x60, 0, 0, 0}, be16(len(payload)), []byte{next, 255}, src.AsSlice(), dst.AsSlice(), payload)
}

// ICMPv6 is an IPv6 packet with an ICMPv6 message.
func ICMPv6(src, dst netip.Addr, kind byte, body []byte) []byte {
	return IPv6(src, dst, 58, sum6(src, dst, 58, 2, join([]byte{kind, 0, 0, 0}, body)))
}

// UDPv6 is an IPv6 packet with a UDP datagram.
func UDPv6(src, dst netip.AddrPort, payload []byte) []byte {
	return IPv6(src.Addr(), dst.Addr(), 17, sum6(src.Addr(), dst.Addr(), 17, 6, udp(src.Port(), dst.Port(), payload)))
}

// sum6 sets the checksum at offset, which covers a pseudo header.
func sum6(src, dst netip.Addr, next byte, offset int, m []byte) []byte {
	pseudo := join(src.AsSlice(), dst.AsSlice(), []byte{0, 0}, be16(len(m)), []byte{0, 0, 0, next}, m)
	binary.BigEndian.PutUint16(m[offset:], checksum(pseudo))
	return m
}

// LinkLocal is the IPv6 address that a MAC gives its owner (EUI-64).
func LinkLocal(m net.HardwareAddr) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}
	return netip.AddrFrom16(a)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
