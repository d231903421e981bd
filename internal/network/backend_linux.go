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

// backends are the firewalls this host may hold rules of, the preferred first.
func (c Config) backends() []firewall.Backend {
	var out []firewall.Backend
	for _, b := range []firewall.Backend{firewall.NFT{}, firewall.IPTables{}} {
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
	errs := []error{ErrNoFirewall}
	for _, b := range c.backends() {
		err := b.Check(ctx, base)
		if err == nil {
			return b, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", b.Name(), err))
	}
	return nil, errors.Join(errs...)
}

// BackendStatus is whether this host can use a firewall.
type BackendStatus struct {
	Name   string
	Usable bool
	Err    error // why not
}

// Backends tries all firewalls, for people who ask what this host can do.
func Backends(ctx context.Context, cfg Config) ([]BackendStatus, error) {
	base, err := cfg.base()
	if err != nil {
		return nil, err
	}
	var out []BackendStatus
	for _, b := range []firewall.Backend{firewall.NFT{}, firewall.IPTables{}} {
		err := b.Check(ctx, base)
		out = append(out, BackendStatus{Name: b.Name(), Usable: err == nil, Err: err})
	}
	return out, nil
}

// addRules makes the endpoint part of the rules. It asks whether a firewall is
// usable only after it has failed, because asking takes as long as doing.
func (c Config) addRules(ctx context.Context, ep Endpoint) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	errs := []error{ErrNoFirewall}
	for _, b := range c.backends() {
		err := b.Add(ctx, base, ep.tenant())
		if err == nil {
			return nil
		}
		if b.Check(ctx, base) == nil || ctx.Err() != nil {
			return fmt.Errorf("cannot load the firewall rules: %w", err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", b.Name(), err))
	}
	return errors.Join(errs...)
}
