package lifecycle

import (
	"context"
	"fmt"
	"io"
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

// VerifyAudit checks the chain of a record.
func (h *Host) VerifyAudit(id string) (n int, head string, err error) {
	path, err := h.auditFile(id)
	if err != nil {
		return 0, "", err
	}
	return audit.Verify(path)
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
