package tenant

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// EgressMode is what a tenant may reach beyond its gateway.
type EgressMode string

const (
	EgressOpen  EgressMode = "open"  // the internet; neither link-local nor private ranges
	EgressNone  EgressMode = "none"  // nothing but the gateway and the DNS servers
	EgressAllow EgressMode = "allow" // only what the rules name
)

// Egress is a parsed egress policy.
type Egress struct {
	Mode  EgressMode
	Rules []EgressRule // with EgressAllow
}

// EgressRule allows one destination. Without Proto every protocol is allowed,
// without Port every port of it.
type EgressRule struct {
	Prefix netip.Prefix
	Proto  string // "", "tcp" or "udp"
	Port   uint16
}

var linkLocal = netip.MustParsePrefix("169.254.0.0/16")

const egressHint = "use open, none or allow:<cidr>[:<tcp|udp>/<port>],… such as allow:198.51.100.0/24:tcp/443"

// ParseEgress reads "open", "none" or "allow:<cidr>[:proto/port],…".
func ParseEgress(s string) (Egress, error) {
	switch s {
	case "open", "none":
		return Egress{Mode: EgressMode(s)}, nil
	}
	list, ok := strings.CutPrefix(s, "allow:")
	if !ok {
		return Egress{}, &InputError{Msg: fmt.Sprintf("%q is no egress policy", s), Hint: egressHint}
	}
	e := Egress{Mode: EgressAllow}
	for _, item := range strings.Split(list, ",") {
		rule, err := parseEgressRule(item)
		if err != nil {
			return Egress{}, &InputError{Msg: fmt.Sprintf("egress rule %q: %v", item, err), Hint: egressHint}
		}
		e.Rules = append(e.Rules, rule)
	}
	return e, nil
}

func parseEgressRule(item string) (EgressRule, error) {
	cidr, service, hasService := strings.Cut(item, ":")
	prefix, err := parsePrefix(cidr)
	if err != nil {
		return EgressRule{}, err
	}
	if prefix.Overlaps(linkLocal) && prefix.Bits() >= linkLocal.Bits() {
		return EgressRule{}, fmt.Errorf("link-local addresses (cloud metadata) can never be allowed")
	}
	rule := EgressRule{Prefix: prefix}
	if !hasService {
		return rule, nil
	}
	proto, port, ok := strings.Cut(service, "/")
	if proto != "tcp" && proto != "udp" || !ok {
		return EgressRule{}, fmt.Errorf("%q is not tcp/<port> or udp/<port>", service)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return EgressRule{}, fmt.Errorf("%q is no port", port)
	}
	rule.Proto, rule.Port = proto, uint16(n)
	return rule, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is4() {
		return netip.PrefixFrom(addr, 32), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is no IPv4 network", s)
	}
	return p.Masked(), nil
}

// RestartMode is when a tenant that ended is started again.
type RestartMode string

const (
	RestartNo            RestartMode = "no"
	RestartOnFailure     RestartMode = "on-failure"
	RestartAlways        RestartMode = "always"
	RestartUnlessStopped RestartMode = "unless-stopped"
)

// Restart is a parsed restart policy.
type Restart struct {
	Mode RestartMode
	Max  int // with RestartOnFailure: how often in a row; 0 is the default limit
}

// ParseRestart reads "no", "on-failure[:n]", "always" or "unless-stopped".
func ParseRestart(s string) (Restart, error) {
	mode, count, counted := strings.Cut(s, ":")
	r := Restart{Mode: RestartMode(mode)}
	switch r.Mode {
	case RestartNo, RestartAlways, RestartUnlessStopped:
		if !counted {
			return r, nil
		}
	case RestartOnFailure:
		if !counted {
			return r, nil
		}
		n, err := strconv.Atoi(count)
		if err == nil && n > 0 && n <= 1000 {
			r.Max = n
			return r, nil
		}
	}
	return Restart{}, &InputError{Msg: fmt.Sprintf("%q is no restart policy", s), Hint: "use no, on-failure, on-failure:<1 to 1000>, always or unless-stopped"}
}
