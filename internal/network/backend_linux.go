package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/auser/mvm/internal/network/firewall"
)

// ErrNoFirewall says that neither nftables nor iptables works on this host.
var ErrNoFirewall = errors.New("this host has no usable firewall: neither nft nor iptables with ipset works")

// resolversOrNone are the resolvers for the rules: a host without any is no
// error here, since only guests that resolve names miss them.
func (c Config) resolversOrNone() ([]netip.Addr, error) {
	list, err := c.Resolvers()
	if errors.Is(err, ErrNoResolver) {
		return nil, nil
	}
	return list, err
}

// backends are the firewalls this host may hold rules of.
func (c Config) backends() []firewall.Backend {
	var out []firewall.Backend
	for _, b := range []firewall.Backend{firewall.NFT{}} {
		if c.Firewall != "" && c.Firewall != b.Name() {
			continue
		}
		if _, err := exec.LookPath(b.Name()); err == nil {
			out = append(out, b)
		}
	}
	return out
}

// backend chooses by trying.
func (c Config) backend(ctx context.Context, base firewall.Base) (firewall.Backend, error) {
	list := c.backends()
	if len(list) == 0 {
		return nil, ErrNoFirewall
	}
	if len(list) == 1 {
		return list[0], nil
	}
	var errs []error
	for _, b := range list {
		err := b.Check(ctx, base)
		if err == nil {
			return b, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", b.Name(), err))
	}
	return nil, fmt.Errorf("%w: %w", ErrNoFirewall, errors.Join(errs...))
}
