package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/build"
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
	return system{root: "/"}.othersIDs(ids{base - 1, base + size}) // the dev microVM's is below
}

func (s system) othersIDs(vmms ids) Finding {
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
