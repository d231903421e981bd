package network

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/auser/mvm/internal/network/firewall"
	"github.com/auser/mvm/internal/undo"
)

// Attach puts the endpoint into the network: bridge, base rules and forwarding
// where they are missing, the tenant's rules, its TAP, and the TAP up last. It
// returns what it changed on the host beyond the endpoint itself. Where it
// fails it takes back what it made.
func Attach(ctx context.Context, cfg Config, ep Endpoint) (changes []Change, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot attach tap %s: %w", ep.TAP, err)
		}
	}()
	if err := cfg.validate(ep); err != nil {
		return nil, err
	}
	l, err := openLinks(cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var back undo.Stack
	defer back.Run(ctx, &err)

	began := time.Now()
	name := cfg.BridgeOf(ep.IP)
	bridge, changes, err := l.ensureBridge(name, func() ([]Change, error) { return cfg.clearObstacles(ctx, name) })
	if err != nil {
		return changes, err
	}
	switched, err := ensureForwarding()
	if err != nil {
		return changes, err
	}
	changes = append(changes, switched...)
	cfg.did("bridge", began)

	began = time.Now()
	tap, created, err := l.ensureTAP(ep)
	if err != nil {
		return changes, err
	}
	if created {
		back.Push("detach tap "+ep.TAP, func(ctx context.Context) error { return Detach(ctx, cfg, ep) })
	}
	cfg.did("tap", began)
	began = time.Now()
	if err := cfg.addRules(ctx, ep); err != nil {
		return changes, err
	}
	cfg.did("firewall", began)
	began = time.Now()
	if err := l.connectTAP(tap, bridge, ep); err != nil {
		return changes, err
	}
	cfg.did("connect", began)
	back.Clear()
	return changes, nil
}

// clearObstacles makes the host's other firewalls accept what ours lets pass.
// That is done once for each bridge; what they change later is Reconcile's to
// find.
func (c Config) clearObstacles(ctx context.Context, bridge string) (changes []Change, err error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	found, err := firewall.Obstacles(ctx, base, []string{bridge})
	if err != nil {
		return nil, fmt.Errorf("cannot look at the host's other firewalls: %w", err)
	}
	for _, o := range found {
		if err := o.Clear(ctx); err != nil {
			return changes, fmt.Errorf("cannot clear the way (%s): %w", o.What, err)
		}
		changes = append(changes, Change{"other firewalls", "set", o.What})
	}
	return changes, nil
}

// Update changes the policy of an endpoint, if it is attached. Live connections
// that the new policy does not permit are cut.
func Update(ctx context.Context, cfg Config, ep Endpoint) error {
	if err := cfg.validate(ep); err != nil {
		return fmt.Errorf("cannot change the policy of tap %s: %w", ep.TAP, err)
	}
	l, err := openLinks(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	if tap, err := l.link(ep.TAP); err != nil || tap == nil { // nobody would take its rules away
		return err
	}
	if err := cfg.addRules(ctx, ep); err != nil {
		return fmt.Errorf("cannot change the policy of tap %s: %w", ep.TAP, err)
	}
	resolvers, err := cfg.resolversOrNone()
	if err != nil {
		return err
	}
	if err := cutForbiddenFlows(cfg.Gateway(), resolvers, ep); err != nil {
		return fmt.Errorf("cannot cut the connections of tap %s: %w", ep.TAP, err)
	}
	return nil
}

// Detach removes everything of the endpoint: TAP, entries, rules, connections.
// Do so before its address is given back: the next tenant may get it.
func Detach(ctx context.Context, cfg Config, ep Endpoint) error {
	if err := cfg.validate(ep); err != nil {
		return fmt.Errorf("cannot detach tap %s: %w", ep.TAP, err)
	}
	if err := cfg.detach(ctx, ep); err != nil {
		return fmt.Errorf("cannot detach tap %s: %w", ep.TAP, err)
	}
	return nil
}

// detach removes links and rules at the same time: each takes the kernel a
// while, and a port without rules passes nothing.
func (c Config) detach(ctx context.Context, ep Endpoint) error {
	l, err := openLinks(c)
	if err != nil {
		return err
	}
	defer l.Close()
	base, err := c.base()
	if err != nil {
		return err
	}
	backends := c.backends()
	errs := make([]error, 1+len(backends))
	var wait sync.WaitGroup
	wait.Go(func() { errs[0] = l.disconnect(ep) })
	for i, backend := range backends {
		wait.Go(func() {
			if err := backend.Remove(ctx, base, ep.tenant()); err != nil {
				errs[1+i] = fmt.Errorf("cannot remove the firewall rules: %w", err)
			}
		})
	}
	wait.Wait()
	if err := cutAllFlows(ep.IP); err != nil {
		errs = append(errs, fmt.Errorf("cannot cut its connections: %w", err))
	}
	return errors.Join(errs...)
}

// base is what the firewall needs to know.
func (c Config) base() (firewall.Base, error) {
	resolvers, err := c.resolversOrNone()
	return firewall.Base{
		Table: c.Table, Group: c.group(),
		Gateway: c.Gateway(), GatewayMAC: c.gatewayMAC(), Subnet: c.Subnet.Masked(),
		DNS: resolvers, Services: c.GatewayPorts, Open: c.GatewayOpen,
	}, err
}

func (ep Endpoint) tenant() firewall.Tenant {
	return firewall.Tenant{TAP: ep.TAP, MAC: ep.MAC, IP: ep.IP, Policy: ep.Policy}
}
