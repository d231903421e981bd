package lifecycle

import (
	"fmt"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/store"
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

// LogFile is where a tenant's log of the given source is.
func (h *Host) LogFile(id, source string) (string, error) {
	if err := h.exists(id); err != nil {
		return "", err
	}
	t := h.Store.Tenant(id)
	switch source {
	case "console":
		return t.ConsoleLog(), nil
	case "vmm":
		return t.VMMLog(), nil
	case "supervisor":
		return t.SupervisorLog(), nil
	case "build":
		return t.BuildLog(), nil
	}
	return "", &tenant.InputError{Msg: fmt.Sprintf("%q is no source of logs", source), Hint: "use console, vmm, supervisor or build"}
}
