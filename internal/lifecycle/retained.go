package lifecycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auser/mvm/internal/tenant"
)

// Kept are volumes that were destroyed, a tenant's all or one, and kept aside.
type Kept struct {
	Name      string   `json:"name"`
	Volumes   []string `json:"volumes"` // by where they were mounted
	Allocated int64    `json:"allocated_bytes"`
}

// RetainedVolumes lists what destroy kept, oldest first for each tenant.
func (h *Host) RetainedVolumes() ([]Kept, error) {
	names, err := h.Retained("")
	if err != nil {
		return nil, err
	}
	list := make([]Kept, len(names))
	for i, name := range names {
		list[i].Name = name
		dir := filepath.Join(h.Store.RetainedDir(), name)
		if list[i].Volumes, err = mountsIn(dir); err != nil {
			return nil, err
		}
		list[i].Allocated = imageBytes(dir)
	}
	return list, nil
}

// RetainedRemains says whether a volume of that name is kept. One of a tenant
// that once was may have been removed before; another is unknown.
func (h *Host) RetainedRemains(name string) (bool, error) {
	id, _, ok := cutLast(name, "-")
	if ok && tenant.CheckID(id) == nil {
		names, err := h.Retained(id)
		if err != nil || slices.Contains(names, name) {
			return err == nil, err
		}
		if h.Store.Known(id) {
			return false, nil
		}
	}
	return false, &tenant.InputError{Msg: fmt.Sprintf("no volume %q is retained", name), Hint: "mvm retained list shows them"}
}

// RemoveRetained removes one of them, for good.
func (h *Host) RemoveRetained(ctx context.Context, name string) (already bool, err error) {
	if _, err := h.RetainedRemains(name); err != nil {
		return false, err
	}
	id, _, _ := cutLast(name, "-")
	lock, err := h.Store.LockTenant(ctx, id, h.Wait) // nobody adopts it meanwhile
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	there, err := h.RetainedRemains(name)
	if err != nil || !there {
		return err == nil, err
	}
	if err := h.checkAdoptionEnded(id, name); err != nil {
		return false, err
	}
	detail := map[string]any{"name": name}
	if err := h.record("", "retained rm", detail, nil); err != nil {
		return false, err
	}
	err = os.RemoveAll(filepath.Join(h.Store.RetainedDir(), name))
	return false, h.recordFailure("", "retained rm", detail, err)
}

// Retained lists the data volumes that destroying tenants of this id kept, by
// the names of their folders, oldest first; with an empty id those of all.
func (h *Host) Retained(id string) ([]string, error) {
	entries, err := os.ReadDir(h.Store.RetainedDir())
	if err != nil {
		return nil, fmt.Errorf("cannot list retained volumes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if owner, _, ok := cutLast(e.Name(), "-"); ok && (id == "" || owner == id) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// retainedTime is when what is kept was put aside, at the end of its name.
const retainedTime = "20060102T150405.000Z"

// retainedDir is a new name for what is kept of a tenant.
func (h *Host) retainedDir(id string) (string, error) {
	names, err := h.Retained(id)
	return filepath.Join(h.Store.RetainedDir(), retainedName(id, names, time.Now())), err
}

// retainedName comes after all of the names: the newest is what --adopt-volumes
// takes, also where two are kept within one instant of the clock, or the clock
// was set back.
func retainedName(id string, names []string, now time.Time) string {
	for _, name := range names {
		_, stamp, _ := cutLast(name, "-")
		if last, err := time.Parse(retainedTime, stamp); err == nil && now.Before(last.Add(time.Millisecond)) {
			now = last.Add(time.Millisecond)
		}
	}
	return id + "-" + now.UTC().Format(retainedTime)
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
