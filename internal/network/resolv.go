package network

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// resolvConfs are where a host names its DNS servers. The first may name only
// a stub on the loopback, which no guest can reach; systemd-resolved writes
// its real upstreams to the second, NetworkManager to the third.
var resolvConfs = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"}

// maxResolvers is how many servers a guest is told of: the kernel's ip=
// parameter takes two.
const maxResolvers = 2

// ErrNoResolver says that the host names no DNS server that guests can reach.
var ErrNoResolver = errors.New("this host names no DNS server that a guest can reach")

// Resolvers are the DNS servers that guests use: the configured ones, else the
// host's own upstreams.
func (c Config) Resolvers() ([]netip.Addr, error) {
	if len(c.DNS) > 0 {
		return c.DNS, nil
	}
	return hostResolvers(resolvConfs)
}

func hostResolvers(files []string) ([]netip.Addr, error) {
	for _, file := range files {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the host's DNS servers: %w", err)
		}
		var found []netip.Addr
		for lines := bufio.NewScanner(f); lines.Scan() && len(found) < maxResolvers; {
			words := strings.Fields(lines.Text())
			if len(words) < 2 || words[0] != "nameserver" {
				continue
			}
			if a, err := netip.ParseAddr(words[1]); err == nil && reachable(a) && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
		f.Close()
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, ErrNoResolver
}

// reachable says whether a guest can send to a.
func reachable(a netip.Addr) bool {
	return a.Is4() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast()
}
