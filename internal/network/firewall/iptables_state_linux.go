package firewall

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// sets are the elements of our sets: the rest of the line by address.
type sets map[string]map[netip.Addr]string

func readSets(ctx context.Context, b Base) (sets, error) {
	out := sets{}
	names, err := ownSets(ctx, b)
	if err != nil || len(names) == 0 {
		return out, err
	}
	for _, name := range names {
		out[name] = map[netip.Addr]string{}
	}
	text, err := run.Output(ctx, "ipset", "save")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.SplitN(line, " ", 4)
		if len(words) < 3 || words[0] != "add" || out[words[1]] == nil {
			continue
		}
		addr, rest, _ := strings.Cut(words[2], ",")
		if len(words) == 4 {
			rest += words[3]
		}
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, fmt.Errorf("cannot read the element %q of ipset's answer", line)
		}
		out[words[1]][ip] = rest
	}
	return out, nil
}

// Present says whether any chain or set of ours is there.
func (p IPTables) Present(ctx context.Context, b Base) (bool, error) {
	names, err := ownSets(ctx, b)
	if err != nil || len(names) > 0 {
		return len(names) > 0, err
	}
	for _, suffix := range variants {
		if state, err := (ipt{suffix}).save(ctx); err == nil && state.present(b) {
			return true, nil
		}
	}
	return false, nil
}

// Drops reads the counters. ARP is not told apart from other spoofing.
func (p IPTables) Drops(ctx context.Context, b Base) (map[string]Drops, error) {
	all, err := readSets(ctx, b)
	if err != nil {
		return nil, err
	}
	taps, err := p.taps(ctx, b)
	if err != nil {
		return nil, err
	}
	out := map[string]Drops{}
	add := func(tap string, r Reason, n uint64) {
		if n == 0 {
			return
		}
		if out[tap] == nil {
			out[tap] = Drops{}
		}
		out[tap][r] += n
	}
	for _, r := range packetReasons {
		for ip, rest := range all[b.dropSet(r)] {
			words := strings.Fields(rest)
			if len(words) < 2 || words[0] != "packets" || taps[ip] == "" {
				continue
			}
			n, err := strconv.ParseUint(words[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("cannot read the counter %q of ipset's answer", rest)
			}
			add(taps[ip], r, n)
		}
	}
	arp, err := readARP(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, tap := range taps {
		for _, rule := range arp.of(tap) {
			var n uint64
			if rule, counts, ok := strings.Cut(rule, ", pcnt = "); ok && strings.HasSuffix(strings.TrimSpace(rule), "-j DROP") {
				if _, err := fmt.Sscan(counts, &n); err != nil {
					return nil, fmt.Errorf("cannot read the counter %q of ebtables' answer", counts)
				}
			}
			add(tap, ARP, n)
		}
	}
	return out, nil
}

// taps are the TAPs by address, as the kernel's forwarding tables know them:
// the sets hold no names of interfaces.
func (p IPTables) taps(ctx context.Context, b Base) (map[netip.Addr]string, error) {
	all, err := readSets(ctx, b)
	if err != nil {
		return nil, err
	}
	byMAC, err := portsByMAC(b.Group)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for ip, mac := range all[b.ipset(setID)] {
		if hw, err := net.ParseMAC(mac); err == nil {
			out[ip] = byMAC[hw.String()]
		}
	}
	return out, nil
}

// Diff compares what is there with what should be.
func (p IPTables) Diff(ctx context.Context, b Base, tenants []Tenant) ([]Difference, error) {
	v, is, err := p.variant(ctx, b)
	if err != nil {
		return nil, err
	}
	is = is.own(b)
	var want iptState
	err = inOwnNamespace(func() error {
		if err := v.load(ctx, b, nil); err != nil {
			return err
		}
		want, err = v.save(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var diffs []Difference
	for _, what := range is.badHooks(b) {
		diffs = append(diffs, Difference{What: what})
	}
	diffs = append(diffs, diffChains(b, is, want)...)
	have, err := readSets(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, name := range b.ipsetNames() {
		if have[name] == nil {
			diffs = append(diffs, Difference{What: "ipset " + name + " is missing"})
		}
	}
	arp, err := readARP(ctx, b)
	if err != nil {
		return nil, err
	}
	if arp.exists && !arp.hooked {
		diffs = append(diffs, Difference{What: "ebtables: the jump to " + b.ipt(chainARP) + " is missing"})
	}
	return append(diffs, diffIPTTenants(b, is, have, arp, tenants)...), nil
}

// diffChains compares our chains, except those of single tenants.
func diffChains(b Base, is, want iptState) []Difference {
	keys := map[string]bool{}
	for _, s := range []iptState{is, want} {
		for key := range s.chains {
			_, name, _ := strings.Cut(key, " ")
			if strings.HasPrefix(name, b.prefix()) && !strings.HasPrefix(name, b.prefix()+"A-") && name != b.ipt(chainAllow) {
				keys[key] = true
			}
		}
	}
	var diffs []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		got, there := is.chains[key]
		expected, should := want.chains[key]
		switch {
		case !there:
			diffs = append(diffs, Difference{What: "chain " + key + " is missing"})
		case !should:
			diffs = append(diffs, Difference{What: "chain " + key + " should not be there"})
		case !slices.Equal(got, expected):
			diffs = append(diffs, Difference{What: "chain " + key + " differs"})
		}
	}
	return diffs
}

// diffIPTTenants compares what belongs to single tenants.
func diffIPTTenants(b Base, is iptState, have sets, arp arpChain, tenants []Tenant) []Difference {
	var diffs []Difference
	wanted, taps := map[netip.Addr]bool{}, map[string]bool{}
	for _, t := range tenants {
		wanted[t.IP], taps[t.TAP] = true, true
		if what := iptFault(b, is, have, arp, t); what != "" {
			diffs = append(diffs, Difference{t, what})
		}
	}
	gone := map[netip.Addr]string{}
	for _, name := range []string{b.ipset(setID), b.ipset(setOpen), b.ipset(setAllow)} {
		for ip, rest := range have[name] {
			if !wanted[ip] && gone[ip] == "" {
				gone[ip] = rest
			}
		}
	}
	for _, ip := range slices.SortedFunc(maps.Keys(gone), netip.Addr.Compare) {
		mac, _ := net.ParseMAC(gone[ip])
		diffs = append(diffs, Difference{Tenant{TAP: "unknown", MAC: mac, IP: ip}, "there is no tenant with the address " + ip.String()})
	}
	for _, rule := range arp.rules {
		words := strings.Fields(rule)
		if i := slices.Index(words, "-i"); i >= 0 && i+1 < len(words) && !taps[words[i+1]] {
			taps[words[i+1]] = true
			diffs = append(diffs, Difference{Tenant{TAP: words[i+1], IP: netip.IPv4Unspecified()}, "there is no such tenant"})
		}
	}
	return diffs
}

// iptFault says what is wrong with the tenant's part of the rules.
func iptFault(b Base, is iptState, have sets, arp arpChain, t Tenant) string {
	_, open := have[b.ipset(setOpen)][t.IP]
	_, allow := have[b.ipset(setAllow)][t.IP]
	mac, known := have[b.ipset(setID)][t.IP]
	hw, _ := net.ParseMAC(mac)
	chain := is.chains["raw "+b.iptAllowChain(t.IP)]
	want := parseSave(b.iptTenant(t, false)).chains["raw "+b.iptAllowChain(t.IP)]
	switch {
	case !known || !slices.Equal(hw, t.MAC):
		return "its addresses are not in the set of senders"
	case open != (t.Policy.Mode == Open) || allow != (t.Policy.Mode == Allow),
		allow && !slices.Equal(normal(chain), normal(want)),
		allow && !slices.Contains(is.chains["raw "+b.ipt(chainAllow)], fmt.Sprintf("-s %s/32 -g %s", t.IP, b.iptAllowChain(t.IP))):
		return "its policy differs"
	case arp.exists && !arp.right(b, t):
		return "its ARP rules differ"
	}
	return ""
}

// normal removes what iptables-save does not print of a rule.
func normal(rules []string) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = strings.ReplaceAll(r, "-d 0.0.0.0/0 ", "")
	}
	return out
}
