package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/volume"
)

// SetSecret sets one secret. It reaches the guest at the next run.
func (h *Host) SetSecret(ctx context.Context, id, key string, value []byte) error {
	return h.changeSecrets(ctx, id, "secrets set", key, func(s volume.Secrets) (volume.Secrets, error) {
		return s, badSecret(s.Set(key, value), "keys become file names below /run/secrets; see docs/volumes.md")
	})
}

// ImportSecrets replaces all secrets by those of a JSON document.
func (h *Host) ImportSecrets(ctx context.Context, id string, data []byte) error {
	return h.changeSecrets(ctx, id, "secrets import", "", func(volume.Secrets) (volume.Secrets, error) {
		s, err := volume.DecodeSecrets(data)
		return s, badSecret(err, "it is a JSON object, whose keys become file names below /run/secrets; see docs/volumes.md")
	})
}

// RemoveSecret removes one secret, if it is there.
func (h *Host) RemoveSecret(ctx context.Context, id, key string) (removed bool, err error) {
	err = h.changeSecrets(ctx, id, "secrets rm", key, func(s volume.Secrets) (volume.Secrets, error) {
		removed = s.Remove(key)
		return s, nil
	})
	return removed, err
}

// SecretNames lists the secrets, without their values.
func (h *Host) SecretNames(id string) ([]string, error) {
	if err := h.MustExist(id); err != nil {
		return nil, err
	}
	s, err := h.loadSecrets(id)
	return s.List(), err
}

// PushSecrets gives the guest of a tenant that runs its secrets as they are
// now.
func (h *Host) PushSecrets(ctx context.Context, id string) error {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	status, err := h.Observe(id)
	if err != nil {
		return err
	}
	if status.Running && status.Phase == tenant.Paused {
		return pausedError(id)
	}
	err = h.askVM(ctx, status, supervisor.Client.PushSecrets)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrState) {
		err = &Error{
			Kind: ErrState, Msg: err.Error(),
			Hint: fmt.Sprintf("it has them after a restart: mvm tenant stop %s; mvm tenant run %s", id, id),
		}
	}
	return h.record(id, "secrets push", nil, err)
}

func (h *Host) changeSecrets(ctx context.Context, id, act, key string, change func(volume.Secrets) (volume.Secrets, error)) error {
	lock, err := h.Store.LockTenant(ctx, id, h.Wait)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := h.MustExist(id); err != nil {
		return err
	}
	s, err := h.loadSecrets(id)
	if err != nil {
		return err
	}
	if s, err = change(s); err != nil {
		return err
	}
	sealer, err := supervisor.Sealer(h.Config)
	if err != nil {
		return err
	}
	data, err := s.Encode()
	if err != nil {
		return err
	}
	if data, err = sealer.Seal(data); err != nil {
		return err
	}
	err = atomicfile.Write(h.Store.Tenant(id).SecretsFile(), data, 0o600)
	return h.record(id, act, map[string]any{"key": key}, err)
}

func (h *Host) loadSecrets(id string) (volume.Secrets, error) {
	path := h.Store.Tenant(id).SecretsFile()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return volume.Secrets{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the secrets: %w", err)
	}
	sealer, err := supervisor.Sealer(h.Config)
	if err != nil {
		return nil, err
	}
	if data, err = sealer.Open(data); err != nil {
		return nil, err
	}
	s, err := volume.DecodeSecrets(data)
	if err != nil {
		return nil, &store.DamagedError{Path: path, Err: err}
	}
	return s, nil
}

// badSecret makes what a person gave wrongly an input error.
func badSecret(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &tenant.InputError{Msg: err.Error(), Hint: hint}
}
