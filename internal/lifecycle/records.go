package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/logfile"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

// Audit returns the record of the tenant, or with an empty id that of the
// host. A tenant's record outlives it.
func (h *Host) Audit(id string) ([]audit.Entry, error) {
	path, err := h.auditFile(id)
	if err != nil {
		return nil, err
	}
	return audit.Read(path)
}

// AuditAll returns the records of the host and of all tenants, also of those
// that are gone, as one, by time.
func (h *Host) AuditAll() ([]audit.Entry, error) {
	ids, err := h.Store.Recorded()
	if err != nil {
		return nil, err
	}
	var all []audit.Entry
	for _, id := range append([]string{""}, ids...) {
		entries, err := audit.Read(h.Store.AuditFile(id))
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	slices.SortStableFunc(all, func(a, b audit.Entry) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// Verified is what the chain of one record shows.
type Verified struct {
	Tenant  string `json:"tenant,omitempty"` // empty: the host's
	Records int    `json:"records"`          // how many there are
	Last    string `json:"last,omitempty"`   // SHA-256 of the last record's line
	Error   string `json:"error,omitempty"`  // why the chain does not hold
}

// VerifyAudit checks the chain of a record. With had, a hash that was the last
// once, it also checks that it is still in there.
func (h *Host) VerifyAudit(id, had string) (Verified, error) {
	v := Verified{Tenant: id}
	path, err := h.auditFile(id)
	if err != nil {
		return v, err
	}
	v.Records, v.Last, err = audit.Verify(path)
	if err != nil || had == "" {
		return v, err
	}
	found, err := audit.Has(path, had)
	if err == nil && !found {
		err = fmt.Errorf("%s: no record has the hash %s: it was written anew since, or this is another's", path, had)
	}
	return v, err
}

// VerifyAllAudits checks the chains of the host and of all tenants, also of
// those that are gone.
func (h *Host) VerifyAllAudits() ([]Verified, error) {
	ids, err := h.Store.Recorded()
	if err != nil {
		return nil, err
	}
	var all []Verified
	var broken error
	for _, id := range append([]string{""}, ids...) {
		v, err := h.VerifyAudit(id, "")
		if err != nil {
			v.Error = err.Error()
			broken = errors.Join(broken, err)
		}
		all = append(all, v)
	}
	return all, broken
}

func (h *Host) auditFile(id string) (string, error) {
	if id == "" {
		return h.Store.AuditFile(""), nil
	}
	if err := tenant.CheckID(id); err != nil {
		return "", err
	}
	if !h.Store.Known(id) {
		return "", fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	return h.Store.AuditFile(id), nil
}

// Logs are the sources that ReadLog knows.
var Logs = []string{"console", "vmm", "supervisor", "build"}

// ReadLog copies a tenant's log of the given source to w.
func (h *Host) ReadLog(ctx context.Context, id, source string, o logfile.Options, w io.Writer) error {
	if err := h.MustExist(id); err != nil {
		return err
	}
	t := h.Store.Tenant(id)
	path, ok := map[string]string{
		"console": t.ConsoleLog(), "vmm": t.VMMLog(), "supervisor": t.SupervisorLog(), "build": t.BuildLog(),
	}[source]
	if !ok {
		return &tenant.InputError{Msg: fmt.Sprintf("%q is no source of logs", source), Hint: "use " + strings.Join(Logs, ", ")}
	}
	if source == "supervisor" {
		o.Stamp = supervisor.LogTime
	}
	return logfile.Read(ctx, path, o, w)
}
