package main

import (
	"context"
	"path/filepath"
	"time"
)

// guest is one guest, had in one way. What it needs is there before it starts.
type guest interface {
	start(context.Context) error  // until it answers on SSH
	stop(context.Context) error   // asks it, until it is gone
	kill(context.Context) error   // ends it at once
	remove(context.Context) error // takes all away that is its own
}

// tenantGuest is a guest of mvm's.
type tenantGuest struct {
	h       *host
	program string // the mvm
	id      string
	steps   *results // if not nil, takes the steps of each start
}

func (t *tenantGuest) start(ctx context.Context) error {
	if t.steps == nil {
		return t.do(ctx, "run")
	}
	file, began := filepath.Join(t.h.root, "trace.json"), time.Now()
	if err := t.do(ctx, "run", "--trace", file); err != nil {
		return err
	}
	return readTrace(file, time.Since(began), t.steps)
}

func (t *tenantGuest) stop(ctx context.Context) error { return t.do(ctx, "stop") }
func (t *tenantGuest) kill(ctx context.Context) error { return t.do(ctx, "stop", "--force") }
func (t *tenantGuest) remove(ctx context.Context) error {
	return t.do(ctx, "destroy", "--wipe-volumes", "--yes")
}

func (t *tenantGuest) do(ctx context.Context, verb string, flags ...string) error {
	_, err := t.h.with(ctx, t.program, append([]string{"tenant", verb, t.id}, flags...)...)
	return err
}

// tenant makes one more tenant that boots the first one's image.
func (h *host) tenant(ctx context.Context, id string) (*tenantGuest, error) {
	return &tenantGuest{h: h, program: h.mvm, id: id}, h.another(ctx, id)
}
