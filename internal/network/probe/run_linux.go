package probe

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// Result is what became of one attack.
type Result struct {
	Number  int    `json:"number"`
	Name    string `json:"name"`
	Blocked bool   `json:"blocked"`
	Skipped string `json:"skipped,omitempty"` // why it was not tried
}

// patience is how long the sign that everything before it has passed may take.
const patience = 3 * time.Second

// Run tries every attack of the list from the attacker's port. An attack is
// judged after a legitimate ping and a legitimate datagram to the victim that
// were sent behind it have come through, so that nothing is still on its way.
func Run(ctx context.Context, scene *Scene, attacker *TAP, watch *Watcher, attacks []Attack) ([]Result, error) {
	var results []Result
	for _, a := range attacks {
		if err := ctx.Err(); err != nil {
			return results, err
		}
		result := Result{Number: a.Number, Name: a.Name}
		if !a.Possible(scene) {
			result.Skipped = "this host has nothing to attack in that way"
			results = append(results, result)
			continue
		}
		through, err := try(scene, attacker, watch, a)
		if err != nil {
			return results, fmt.Errorf("attack %d (%s): %w", a.Number, a.Name, err)
		}
		result.Blocked = !through
		results = append(results, result)
	}
	return results, nil
}

func try(scene *Scene, attacker *TAP, watch *Watcher, a Attack) (through bool, err error) {
	scene.Nonce = nonce()
	if scene.Reset != nil {
		if err := scene.Reset(); err != nil {
			return false, err
		}
	}
	watch.Reset()
	if a.First != nil {
		if err := a.First(scene); err != nil {
			return false, err
		}
	}
	if a.Frames != nil {
		for _, frame := range a.Frames(scene) {
			if err := attacker.Send(frame); err != nil {
				return false, fmt.Errorf("cannot send: %w", err)
			}
		}
	}
	if a.Then != nil {
		if err := a.Then(scene); err != nil {
			return false, err
		}
	}
	if err := settle(scene, attacker, watch); err != nil {
		return false, err
	}
	return a.Succeeded(scene, watch.Seen()), nil
}

// settle returns when a ping of the attacker's has been answered, a datagram of
// the host's to the victim has come out, and one to the host's own service has
// been taken in.
func settle(scene *Scene, attacker *TAP, watch *Watcher) error {
	ping, hello, last := nonce(), nonce(), nonce()
	echo := ICMP(scene.Attacker.IP, scene.Gateway.IP, 8, 0, 1, ping)
	if err := attacker.Send(Ethernet(scene.Gateway.MAC, scene.Attacker.MAC, typeIPv4, echo)); err != nil {
		return fmt.Errorf("cannot send: %w", err)
	}
	if !watch.Await(func(seen []Sighting) bool { return contains(seen, ping, AtAttacker) }, patience) {
		return fmt.Errorf("the gateway does not answer the attacker's ping")
	}
	if err := scene.HostSends(hello); err != nil {
		return err
	}
	if !watch.Await(func(seen []Sighting) bool { return contains(seen, hello, AtVictim, AtAttacker) }, patience) {
		return fmt.Errorf("the host's datagram to the victim does not come out")
	}
	if err := watch.poke(last); err != nil {
		return err
	}
	if !watch.Await(func(seen []Sighting) bool { return contains(seen, last, AtHost) }, patience) {
		return fmt.Errorf("the host's own service does not take in a datagram")
	}
	return nil
}

// nonce marks the frames of one attack. Its length is even, for checksums.
func nonce() []byte { return []byte("mvm-probe-" + rand.Text()[:14]) }
