package firewall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// table is what "nft -j list table" tells of one of our tables.
type table struct {
	objects map[string]string            // "chain raw", "set ident": definition, and the rules of a chain
	elems   map[string][]json.RawMessage // by set or map
}

// list reads our two tables; a table that is not there is empty.
func (n NFT) list(ctx context.Context, b Base) (frames, packets *table, err error) {
	for family, t := range map[string]**table{"bridge": &frames, "inet": &packets} {
		out, err := n.run(ctx, "", "-j", "list", "table", family, b.Table)
		if absent(err) {
			out, err = []byte(`{"nftables":[]}`), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if *t, err = parseTable(bytes.NewReader(out)); err != nil {
			return nil, nil, err
		}
	}
	return frames, packets, nil
}

// Present says whether one of the tables is there.
func (n NFT) Present(ctx context.Context, b Base) (bool, error) {
	frames, packets, err := n.list(ctx, b)
	return err == nil && len(frames.objects)+len(packets.objects) > 0, err
}

// expected is what list returns after Replace, as this host's nft puts it: the
// rules are loaded in a network namespace that ends with the call.
func (n NFT) expected(ctx context.Context, b Base, tenants []Tenant) (frames, packets *table, err error) {
	err = inOwnNamespace(func() error {
		if err := n.apply(ctx, b.replacement(&table{}, &table{}, tenants)); err != nil {
			return err
		}
		frames, packets, err = n.list(ctx, b)
		return err
	})
	return frames, packets, err
}

// parseTable reads one JSON document of nft's.
func parseTable(in io.Reader) (*table, error) {
	type object struct {
		Name  string            `json:"name"`
		Chain string            `json:"chain"`
		Expr  json.RawMessage   `json:"expr"`
		Elem  []json.RawMessage `json:"elem"`
	}
	var doc struct{ Nftables []map[string]json.RawMessage }
	if err := json.NewDecoder(in).Decode(&doc); err != nil {
		return nil, fmt.Errorf("cannot read the answer of nft: %w", err)
	}
	t := &table{objects: map[string]string{}, elems: map[string][]json.RawMessage{}}
	for _, entry := range doc.Nftables {
		for kind, raw := range entry {
			var o object
			if err := json.Unmarshal(raw, &o); err != nil {
				return nil, fmt.Errorf("cannot read the answer of nft: %w", err)
			}
			switch kind {
			case "rule":
				t.objects["chain "+o.Chain] += "\n" + string(o.Expr)
			case "set", "map":
				t.elems[o.Name] = o.Elem
				fallthrough
			case "chain":
				definition, err := withoutKeys(raw, "handle", "elem")
				if err != nil {
					return nil, err
				}
				t.objects[kind+" "+o.Name] = definition
			}
		}
	}
	return t, nil
}

func withoutKeys(raw json.RawMessage, keys ...string) (string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", err
	}
	for _, k := range keys {
		delete(fields, k)
	}
	out, err := json.Marshal(fields)
	return string(out), err
}

// chains are the names of all chains.
func (t *table) chains() []string {
	var out []string
	for name := range t.objects {
		if chain, ok := strings.CutPrefix(name, "chain "); ok {
			out = append(out, chain)
		}
	}
	slices.Sort(out)
	return out
}

// identities are the elements of the ident set.
func (t *table) identities() ([]Tenant, error) {
	var out []Tenant
	for _, raw := range t.elems["ident"] {
		var e struct{ Concat []string }
		if err := json.Unmarshal(raw, &e); err != nil || len(e.Concat) != 3 {
			return nil, fmt.Errorf("cannot read the element %s of nft's answer", raw)
		}
		mac, err := net.ParseMAC(e.Concat[1])
		if err != nil {
			return nil, err
		}
		ip, err := netip.ParseAddr(e.Concat[2])
		if err != nil {
			return nil, err
		}
		out = append(out, Tenant{TAP: e.Concat[0], MAC: mac, IP: ip})
	}
	return out, nil
}

// verdicts are the elements of the egress map: the chain for each address.
func (t *table) verdicts() (map[netip.Addr]string, error) {
	out := map[netip.Addr]string{}
	for _, raw := range t.elems["egress"] {
		var pair [2]json.RawMessage
		var addr netip.Addr
		if err := json.Unmarshal(raw, &pair); err != nil {
			return nil, fmt.Errorf("cannot read the element %s of nft's answer: %w", raw, err)
		}
		if err := json.Unmarshal(pair[0], &addr); err != nil {
			return nil, fmt.Errorf("cannot read the element %s of nft's answer: %w", raw, err)
		}
		out[addr] = string(pair[1])
	}
	return out, nil
}

// counts are a reason's packets by key, a TAP or an address.
func (t *table) counts(r Reason) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, raw := range t.elems[r.set()] {
		var e struct {
			Elem struct {
				Val     string
				Counter struct{ Packets uint64 }
			}
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("cannot read the counter %s of nft's answer: %w", raw, err)
		}
		if e.Elem.Counter.Packets > 0 {
			out[e.Elem.Val] = e.Elem.Counter.Packets
		}
	}
	return out, nil
}

// Drops reads the counters.
func (n NFT) Drops(ctx context.Context, b Base) (map[string]Drops, error) {
	frames, packets, err := n.list(ctx, b)
	if err != nil {
		return nil, err
	}
	tenants, err := frames.identities()
	if err != nil {
		return nil, err
	}
	out := map[string]Drops{}
	collect := func(t *table, reasons []Reason, key func(Tenant) string) error {
		for _, r := range reasons {
			counts, err := t.counts(r)
			if err != nil {
				return err
			}
			for _, tenant := range tenants {
				if n := counts[key(tenant)]; n > 0 {
					if out[tenant.TAP] == nil {
						out[tenant.TAP] = Drops{}
					}
					out[tenant.TAP][r] = n
				}
			}
		}
		return nil
	}
	if err := collect(frames, frameReasons, func(t Tenant) string { return t.TAP }); err != nil {
		return nil, err
	}
	return out, collect(packets, packetReasons, func(t Tenant) string { return t.IP.String() })
}

// Diff compares the tables with what they should be.
func (n NFT) Diff(ctx context.Context, b Base, tenants []Tenant) ([]Difference, error) {
	wantFrames, wantPackets, err := n.expected(ctx, b, tenants)
	if err != nil {
		return nil, err
	}
	frames, packets, err := n.list(ctx, b)
	if err != nil {
		return nil, err
	}
	diffs := slices.Concat(diffObjects("bridge", frames, wantFrames), diffObjects("inet", packets, wantPackets))
	byIP, err := diffTenants(frames, packets, wantFrames, wantPackets, tenants)
	return append(diffs, byIP...), err
}

// diffObjects compares sets and chains, except those of single tenants.
func diffObjects(family string, got, want *table) []Difference {
	if len(got.objects) == 0 { // one line, not one for each of the dozens in it
		return []Difference{{What: "the " + family + " table is missing"}}
	}
	names := maps.Clone(want.objects)
	maps.Copy(names, got.objects)
	var diffs []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if strings.HasPrefix(name, "chain "+allowPrefix) {
			continue
		}
		_, is := got.objects[name]
		_, shouldBe := want.objects[name]
		switch what := family + " " + name; {
		case !is:
			diffs = append(diffs, Difference{What: what + " is missing"})
		case !shouldBe:
			diffs = append(diffs, Difference{What: what + " should not be there"})
		case got.objects[name] != want.objects[name]:
			diffs = append(diffs, Difference{What: what + " differs"})
		}
	}
	return diffs
}

// diffTenants compares what belongs to single tenants.
func diffTenants(frames, packets, wantFrames, wantPackets *table, tenants []Tenant) ([]Difference, error) {
	is, err := frames.identities()
	if err != nil {
		return nil, err
	}
	verdicts, err := packets.verdicts()
	if err != nil {
		return nil, err
	}
	wantVerdicts, err := wantPackets.verdicts()
	if err != nil {
		return nil, err
	}
	var diffs []Difference
	known := map[string]bool{}
	for _, t := range is {
		known[identity(t)] = true
	}
	wanted, wantedIP := map[string]bool{}, map[netip.Addr]bool{}
	for _, t := range tenants {
		wanted[identity(t)], wantedIP[t.IP] = true, true
		chain := "chain " + allowChain(t.IP)
		switch {
		case !known[identity(t)]:
			diffs = append(diffs, Difference{t, "its addresses are not in the set of senders"})
		case verdicts[t.IP] == "":
			diffs = append(diffs, Difference{t, "its policy is missing"})
		case verdicts[t.IP] != wantVerdicts[t.IP] || packets.objects[chain] != wantPackets.objects[chain]:
			diffs = append(diffs, Difference{t, "its policy differs"})
		}
	}
	stale := map[netip.Addr]bool{}
	for _, t := range is {
		if !wanted[identity(t)] {
			stale[t.IP] = true
			diffs = append(diffs, Difference{t, "there is no such tenant"})
		}
	}
	for ip := range verdicts {
		if !wantedIP[ip] && !stale[ip] {
			diffs = append(diffs, Difference{What: "there is no tenant with the address " + ip.String()})
		}
	}
	return diffs, nil
}
