package firewall

import (
	"fmt"
	"slices"
	"strings"
)

// iptState is what iptables-save tells.
type iptState struct {
	chains map[string][]string // by table and name, such as "raw PREROUTING"
	hooks  []hook              // every jump from a chain that is not ours to one that is; see own
	docker bool                // there is a DOCKER-USER chain
	policy map[string]string   // of the kernel's chains, such as ACCEPT
}

func parseSave(out string) iptState {
	s := iptState{chains: map[string][]string{}, policy: map[string]string{}}
	table := ""
	for _, line := range strings.Split(out, "\n") {
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			name, policy, _ := strings.Cut(line[1:], " ")
			s.policy[table+" "+name], _, _ = strings.Cut(policy, " ")
			s.chains[table+" "+name] = nil
			s.docker = s.docker || table+" "+name == "filter DOCKER-USER"
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[3:], " ")
			s.chains[table+" "+name] = append(s.chains[table+" "+name], rule)
		}
	}
	return s
}

// own returns the state with the hooks of b filled in.
func (s iptState) own(b Base) iptState {
	s.hooks = nil
	for key, rules := range s.chains {
		table, from, _ := strings.Cut(key, " ")
		for _, rule := range rules {
			to, ok := strings.CutPrefix(rule, "-j ")
			if ok && strings.HasPrefix(to, b.prefix()) && !strings.HasPrefix(from, b.prefix()) {
				s.hooks = append(s.hooks, hook{table, from, to})
			}
		}
	}
	return s
}

// present says whether there is anything of b's.
func (s iptState) present(b Base) bool {
	for key := range s.chains {
		if _, name, _ := strings.Cut(key, " "); strings.HasPrefix(name, b.prefix()) {
			return true
		}
	}
	return false
}

// intact says whether the base rules of b are loaded and in force.
func (s iptState) intact(b Base) bool {
	raw := s.chains["raw "+b.ipt(chainRaw)]
	return len(raw) > 0 && raw[0] == b.iptStamp() && len(s.badHooks(b)) == 0
}

// badHooks names the hooks that are missing, doubled or not first.
func (s iptState) badHooks(b Base) []string {
	var bad []string
	for _, h := range b.hooks(s.docker) {
		rules := s.chains[h.table+" "+h.from]
		n := 0
		for _, found := range s.hooks {
			if found.to == h.to {
				n++
			}
		}
		switch {
		case n == 0:
			bad = append(bad, fmt.Sprintf("table %s: the jump from %s to %s is missing", h.table, h.from, h.to))
		case n > 1 || h.table != "nat" && !leads(rules, "-j "+h.to):
			bad = append(bad, fmt.Sprintf("table %s: the jump to %s is not the first rule of %s", h.table, h.to, h.from))
		}
	}
	return bad
}

// leads says whether the rule is the first one but for other scopes' hooks.
func leads(rules []string, rule string) bool {
	for _, r := range rules {
		if r == rule {
			return true
		}
		if !strings.HasPrefix(r, "-j MVM") {
			return false
		}
	}
	return false
}

// removal renders the removal of everything of ours.
func (s iptState) removal(b Base) string {
	tables := map[string][]string{}
	for key := range s.chains {
		if table, name, _ := strings.Cut(key, " "); strings.HasPrefix(name, b.prefix()) {
			tables[table] = append(tables[table], name)
		}
	}
	var out script
	for table, chains := range tables {
		slices.Sort(chains)
		out.line("*%s", table)
		for _, h := range s.hooks {
			if h.table == table {
				out.line("-D %s -j %s", h.from, h.to)
			}
		}
		for _, act := range []string{"-F", "-X"} {
			for _, name := range chains {
				out.line("%s %s", act, name)
			}
		}
		out.line("COMMIT")
	}
	return out.String()
}
