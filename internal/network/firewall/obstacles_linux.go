package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// An accept of our rules is not final: every other firewall of the host is
// asked, too, and many drop what they don't know. Packets that passed our
// rules carry Mark, so one rule that accepts the mark clears the way, and a
// packet that our rules have not seen is none the wiser. Only what would drop
// gets such a rule, and at the latest possible place, so that what the host's
// owner forbids explicitly stays forbidden.

// Obstacle is a rule or policy of another firewall that would drop what ours
// let pass.
type Obstacle struct {
	What  string // for people
	clear func(context.Context) error
}

// Clear makes the other firewall accept packets with our mark.
func (o Obstacle) Clear(ctx context.Context) error { return o.clear(ctx) }

// Obstacles finds what is in the way of b's tenants on these bridges.
func Obstacles(ctx context.Context, b Base, bridges []string) ([]Obstacle, error) {
	var all []Obstacle
	for _, suffix := range variants {
		found, err := ipt{suffix}.obstacles(ctx, b)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	found, err := nftObstacles(ctx, b)
	if err != nil {
		return nil, err
	}
	all = append(all, found...)
	found, err = firewalldObstacles(ctx, bridges)
	return append(all, found...), err
}

// Withdraw removes what Clear added, from every firewall.
func Withdraw(ctx context.Context, b Base, bridges []string) error {
	var errs []error
	for _, suffix := range variants {
		errs = append(errs, ipt{suffix}.withdraw(ctx, b))
	}
	errs = append(errs, nftWithdraw(ctx, b), firewalldWithdraw(ctx, bridges))
	return errors.Join(errs...)
}

// acceptMark is the rule for iptables, as iptables-save prints it.
func (b Base) acceptMark() string {
	return fmt.Sprintf("-m mark --mark 0x%x/0x%x -m comment --comment %s -j ACCEPT", Mark, Mark, b.Table)
}

// obstacles looks at the filter table of one variant, if the host uses it.
func (v ipt) obstacles(ctx context.Context, b Base) ([]Obstacle, error) {
	state, err := v.foreign(ctx)
	if err != nil || state.chains == nil || state.present(b) {
		return nil, err // where our own chains are, they come first
	}
	var found []Obstacle
	for _, chain := range []string{"INPUT", "FORWARD"} {
		if chain == "FORWARD" && state.docker {
			chain = "DOCKER-USER"
		}
		place, why := state.obstacle(b, chain)
		if place == 0 {
			continue
		}
		found = append(found, Obstacle{
			What:  fmt.Sprintf("iptables%s: %s", v.suffix, why),
			clear: func(ctx context.Context) error { return v.accept(ctx, b, chain, place) },
		})
	}
	return found, nil
}

// foreign reads the filter table where the command exists and the table is in
// use.
func (v ipt) foreign(ctx context.Context) (iptState, error) {
	name := "iptables" + v.suffix + "-save"
	if _, err := exec.LookPath(name); err != nil {
		return iptState{}, nil
	}
	out, err := run.Output(ctx, name, "-t", "filter")
	if err != nil {
		return iptState{}, nil // not usable here, so nobody uses it
	}
	return parseSave(string(out)), nil
}

// obstacle says whether the chain would drop marked packets, and at which
// place (from 1) a rule has to be inserted. Place 0 is for no obstacle.
func (s iptState) obstacle(b Base, chain string) (place int, why string) {
	rules, ok := s.chains["filter "+chain]
	if !ok {
		return 0, ""
	}
	ours := slices.Index(rules, b.acceptMark())
	if chain == "DOCKER-USER" {
		if ours == 0 {
			return 0, ""
		}
		return 1, "Docker's chain DOCKER-USER does not accept the tenants' packets"
	}
	last := len(rules)
	for i, r := range rules {
		if dropsAll(r) {
			last = i
			why = fmt.Sprintf("the rule %q of chain %s drops the tenants' packets", r, chain)
			break
		}
	}
	if why == "" && s.policy["filter "+chain] == "DROP" {
		why = fmt.Sprintf("the policy of chain %s drops the tenants' packets", chain)
	}
	if why == "" || ours >= 0 && ours < last {
		return 0, ""
	}
	return last + 1, why
}

// dropsAll says whether nothing gets past the rule: an unconditional drop, or
// what ufw does when none of its users' rules has matched.
func dropsAll(rule string) bool {
	target, ok := strings.CutPrefix(rule, "-j ")
	target, _, _ = strings.Cut(target, " ")
	return ok && (target == "DROP" || target == "REJECT" || strings.HasPrefix(target, "ufw-after-") || strings.HasPrefix(target, "ufw-reject-"))
}

// accept inserts our rule, and removes one that came too late.
func (v ipt) accept(ctx context.Context, b Base, chain string, place int) error {
	state, err := v.foreign(ctx)
	if err != nil {
		return err
	}
	var s script
	s.line("*filter")
	rules := state.chains["filter "+chain]
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i] == b.acceptMark() {
			s.line("-D %s %d", chain, i+1)
			if i+1 < place {
				place--
			}
		}
	}
	s.line("-I %s %d %s", chain, place, b.acceptMark())
	s.line("COMMIT")
	return v.restore(ctx, "iptables", s.String())
}

func count(list []string, s string) (n int) {
	for _, l := range list {
		if l == s {
			n++
		}
	}
	return n
}

func (v ipt) withdraw(ctx context.Context, b Base) error {
	state, err := v.foreign(ctx)
	if err != nil {
		return err
	}
	var s script
	s.line("*filter")
	for key, rules := range state.chains {
		_, chain, _ := strings.Cut(key, " ")
		for range count(rules, b.acceptMark()) {
			s.line("-D %s %s", chain, b.acceptMark())
		}
	}
	s.line("COMMIT")
	if strings.Count(s.String(), "\n") == 2 {
		return nil
	}
	return v.restore(ctx, "iptables", s.String())
}

// nftChain is a base chain of somebody else's.
type nftChain struct {
	Family, Table, Name, Hook, Policy string
	ours                              []int // handles of our rules in it
	drop                              int   // handle of the first rule that drops everything
	blocked                           bool  // that rule comes before ours
}

func (c nftChain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// nftChains are the input and forward chains of other nft firewalls. Those of
// iptables and firewalld are theirs to change.
func nftChains(ctx context.Context, b Base) ([]*nftChain, error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil, nil
	}
	out, err := NFT{}.run(ctx, "", "-j", "list", "ruleset")
	if err != nil {
		return nil, nil // not usable here, so nobody uses it
	}
	return parseChains(out, b)
}

func parseChains(out []byte, b Base) ([]*nftChain, error) {
	var doc struct {
		Nftables []struct {
			Chain *nftChain
			Rule  *struct {
				Family, Table, Chain, Comment string
				Handle                        int
				Expr                          []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the answer of nft: %w", err)
	}
	var chains []*nftChain
	find := func(family, table, name string) *nftChain {
		for _, c := range chains {
			if c.Family == family && c.Table == table && c.Name == name {
				return c
			}
		}
		return nil
	}
	for _, o := range doc.Nftables {
		if c := o.Chain; c != nil && (c.Hook == "input" || c.Hook == "forward") && (c.Family == "ip" || c.Family == "inet") &&
			!strings.HasPrefix(c.Table, "mvm") && c.Table != b.Table && c.Table != "firewalld" && !byIPTables(c) {
			chains = append(chains, c)
		}
		if r := o.Rule; r != nil {
			c := find(r.Family, r.Table, r.Chain)
			switch {
			case c == nil:
			case r.Comment == b.Table:
				c.ours = append(c.ours, r.Handle)
				c.blocked = c.blocked || c.drop != 0
			case c.drop == 0 && onlyDrops(r.Expr):
				c.drop = r.Handle
			}
		}
	}
	return chains, nil
}

// byIPTables says whether the chain is one of iptables-nft's.
func byIPTables(c *nftChain) bool {
	return c.Family == "ip" && c.Table == "filter" && (c.Name == "INPUT" || c.Name == "FORWARD")
}

// onlyDrops says whether a rule drops whatever it sees.
func onlyDrops(expr []map[string]json.RawMessage) bool {
	drops := false
	for _, e := range expr {
		for kind := range e {
			switch kind {
			case "drop", "reject":
				drops = true
			case "counter", "log":
			default:
				return false
			}
		}
	}
	return drops
}

func nftObstacles(ctx context.Context, b Base) ([]Obstacle, error) {
	chains, err := nftChains(ctx, b)
	if err != nil {
		return nil, err
	}
	var found []Obstacle
	for _, c := range chains {
		drops := c.drop != 0 || c.Policy == "drop"
		if !drops || len(c.ours) > 0 && !c.blocked {
			continue
		}
		found = append(found, Obstacle{
			What:  fmt.Sprintf("nftables: chain %s drops the tenants' packets", c),
			clear: func(ctx context.Context) error { return NFT{}.apply(ctx, c.acceptMark(b)) },
		})
	}
	return found, nil
}

// acceptMark renders a rule before the one that drops everything, or at the
// end where the policy does.
func (c *nftChain) acceptMark(b Base) string {
	s := c.withoutOurs()
	rule := fmt.Sprintf("meta mark & 0x%08x != 0 accept comment %q", Mark, b.Table)
	if c.drop != 0 {
		return s + fmt.Sprintf("insert rule %s handle %d %s\n", c, c.drop, rule)
	}
	return s + fmt.Sprintf("add rule %s %s\n", c, rule)
}

func (c *nftChain) withoutOurs() string {
	var s script
	for _, handle := range c.ours {
		s.line("delete rule %s handle %d", c, handle)
	}
	return s.String()
}

func nftWithdraw(ctx context.Context, b Base) error {
	chains, err := nftChains(ctx, b)
	if err != nil {
		return err
	}
	var s script
	for _, c := range chains {
		s.WriteString(c.withoutOurs())
	}
	if s.Len() == 0 {
		return nil
	}
	return NFT{}.apply(ctx, s.String())
}

// firewalld keeps its rules to itself, but can be told to leave an interface
// alone: that is its zone trusted. Our own rules are the ones that hold.

// firewalldRuns looks for traces first: asking firewall-cmd takes a third of a
// second.
func firewalldRuns(ctx context.Context) bool {
	if _, err := exec.LookPath("firewall-cmd"); err != nil {
		return false
	}
	tables, _ := NFT{}.run(ctx, "", "list", "tables") // without nft there is none
	_, err := os.Stat("/run/firewalld.pid")
	if err != nil && !strings.Contains(string(tables), "firewalld") {
		return false
	}
	_, err = run.Output(ctx, "firewall-cmd", "--state")
	return err == nil
}

// firewalldPlaces are its running and its permanent configuration.
var firewalldPlaces = []struct {
	name string
	args []string
}{{"now", nil}, {"permanently", []string{"--permanent"}}}

// trusted lists the interfaces of the zone trusted.
func trusted(ctx context.Context, args []string) ([]string, error) {
	out, err := run.Output(ctx, "firewall-cmd", append(slices.Clone(args), "--zone=trusted", "--list-interfaces")...)
	return strings.Fields(string(out)), err
}

func firewalldObstacles(ctx context.Context, bridges []string) ([]Obstacle, error) {
	if len(bridges) == 0 || !firewalldRuns(ctx) {
		return nil, nil
	}
	var found []Obstacle
	for _, place := range firewalldPlaces {
		known, err := trusted(ctx, place.args)
		if err != nil {
			return nil, err
		}
		for _, bridge := range bridges {
			if slices.Contains(known, bridge) {
				continue
			}
			found = append(found, Obstacle{
				What: fmt.Sprintf("firewalld: bridge %s is not in its zone trusted (%s)", bridge, place.name),
				clear: func(ctx context.Context) error {
					_, err := run.Output(ctx, "firewall-cmd", append(slices.Clone(place.args), "--zone=trusted", "--change-interface="+bridge)...)
					return err
				},
			})
		}
	}
	return found, nil
}

func firewalldWithdraw(ctx context.Context, bridges []string) error {
	if !firewalldRuns(ctx) {
		return nil
	}
	for _, place := range firewalldPlaces {
		known, err := trusted(ctx, place.args)
		if err != nil {
			return err
		}
		for _, bridge := range known {
			if !slices.Contains(bridges, bridge) {
				continue
			}
			if _, err := run.Output(ctx, "firewall-cmd", append(slices.Clone(place.args), "--zone=trusted", "--remove-interface="+bridge)...); err != nil {
				return err
			}
		}
	}
	return nil
}
