package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/store"
)

// ids are uids and gids in a row.
type ids struct{ first, last int }

func (i ids) overlaps(o ids) bool { return i.first <= o.last && o.first <= i.last }

// idFiles say who has which ids: accounts, and the ids that accounts may give
// their own containers.
var idFiles = []string{"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"}

// userIDs looks whether anybody else may become the user of a VMM or of a build.
func (h host) userIDs(context.Context) Finding {
	size := 1 << (32 - netip.MustParsePrefix(h.Config.Network.Subnet).Bits())
	base := h.Config.Limits.UIDBase
	own, err := ownIDs(h.Store)
	if err != nil {
		return failure("make it readable for root", "cannot look for the tenants' users: %v", err)
	}
	return system{root: "/"}.othersIDs(ids{base - 1, base + size}, own) // the dev microVM's is below
}

// ownIDs are the users that tenants and the dev microVM have, which settings
// that were changed meanwhile do not name. One whose state cannot be read is
// told of elsewhere.
func ownIDs(s *store.Store) ([]ids, error) {
	var own []ids
	names, err := s.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range names {
		if state, err := s.LoadState(id); err == nil {
			own = append(own, ids{state.UID, state.UID})
		}
	}
	dev := store.DevRoot(s.Root)
	if _, err := os.Stat(dev); err != nil {
		return own, nil // there is none
	}
	below, err := store.Open(dev)
	if err != nil {
		return nil, err
	}
	devs, err := ownIDs(below)
	return append(own, devs...), err
}

// othersIDs looks for those of the range of VMMs, and for those that tenants
// have, wherever they are.
func (s system) othersIDs(vmms ids, own []ids) Finding {
	for _, file := range idFiles {
		text, missing, err := s.read(file)
		switch {
		case missing:
			continue
		case err != nil:
			return failure("make it readable for root", "cannot read %s: %v", file, err)
		}
		for line := range strings.Lines(text) {
			name, has, known := idsOf(file, line)
			if !known {
				continue
			}
			if has.overlaps(vmms) {
				return warning("give limits.uid_base in config.toml a range of its own before there are tenants, or change "+file,
					"%s gives %s ids that are VMMs', %d to %d: who is that can read guests' memory", file, name, vmms.first, vmms.last)
			}
			if at := slices.IndexFunc(own, has.overlaps); at >= 0 {
				return warning("change "+file+", or destroy that tenant and create it again: its volume is kept",
					"%s gives %s id %d, which a tenant has from other settings: who is that can read its guest's memory", file, name, own[at].first)
			}
			if has.overlaps(ids{build.UID, build.UID}) {
				return warning("give that account another id", "%s gives %s id %d, which builds run as", file, name, build.UID)
			}
		}
	}
	return ok("nobody else has those of VMMs, %d to %d, or of builds, %d", vmms.first, vmms.last, build.UID)
}

// idsOf reads one line of one of idFiles.
func idsOf(file, line string) (name string, has ids, known bool) {
	words := strings.Split(strings.TrimSpace(line), ":")
	at, count := 2, 1 // name, password, id
	if strings.HasPrefix(file, "/etc/sub") {
		at = 1 // name, first id, how many
	}
	if len(words) < 3 {
		return "", ids{}, false
	}
	first, err := strconv.Atoi(words[at])
	if err == nil && at == 1 {
		count, err = strconv.Atoi(words[2])
	}
	if err != nil || first < 0 || count < 1 {
		return "", ids{}, false
	}
	return fmt.Sprintf("%q", words[0]), ids{first, first + count - 1}, true
}
