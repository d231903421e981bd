package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/audit"
	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) auditCommand() *cobra.Command {
	var (
		all   bool
		since string
	)
	cmd := &cobra.Command{
		Use:   "audit [id]",
		Short: "Print the record of what was done to a tenant, or to the host",
		Long: `Print the record of what was done to a tenant, or to the host, by whom and with
which result.

WHAT is the most telling of it; --json has all: the spec, the source, every
artifact's hash. --since takes what mvm tenant logs takes.`,
		Example: `  mvm audit                     # the host
  mvm audit acme                # a tenant, also one that is gone
  mvm audit --all --since 2h    # the host and all tenants, by time
  mvm audit acme --json | jq '.[] | select(.act == "start") | .detail.artifacts'`,
		Args: oneUnlessAll(&all),
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return err
			}
			read := h.AuditAll
			if !all {
				read = func() ([]audit.Entry, error) { return h.Audit(optional(args)) }
			}
			entries, err := read()
			if err != nil {
				return err
			}
			entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return e.Time.Before(from) })
			if a.json {
				return a.printJSON(orEmpty(entries))
			}
			return a.printAudit(entries, all, !from.IsZero())
		}),
	}
	a.jsonFlag(cmd, []audit.Entry{})
	cmd.Flags().BoolVar(&all, "all", false, "the host's and all tenants', also of those that are gone")
	cmd.Flags().StringVar(&since, "since", "", "only what was done since then: a length of time, or a moment")
	cmd.AddCommand(a.auditVerify())
	return cmd
}

func (a *app) printAudit(entries []audit.Entry, all, since bool) error {
	if len(entries) == 0 {
		if since {
			a.note("nothing is on record since then")
		} else {
			a.note("nothing is on record yet")
		}
		return nil
	}
	t := &table{head: []string{"TIME", "TENANT", "WHO", "ACT", "RESULT", "WHAT"}, spare: []string{"WHO", "RESULT"}}
	if !all {
		t.head = slices.Delete(t.head, 1, 2)
	}
	for _, e := range entries {
		row := []string{e.Time.Format(time.RFC3339), dash(e.Tenant), who(e), e.Act, e.Result, what(e)}
		if !all {
			row = slices.Delete(row, 1, 2)
		}
		t.row(row...)
	}
	return a.printTable(t)
}

func who(e audit.Entry) string {
	name := e.User
	if name == "" {
		name = fmt.Sprint(e.UID)
	}
	if e.SudoBy != "" {
		return e.SudoBy + " as " + name
	}
	return name
}

// telling are the details of each act that a list shows; the record has more.
var telling = map[string][]string{
	"build": {"image"}, "start": {"image", "vmm", "tier"}, "end": {"reason"},
	"destroy": {"retained"}, "secrets set": {"key"}, "secrets rm": {"key"},
	"volume snapshot": {"name"}, "volume rm": {"name"}, "volume rollback": {"name"},
	"volume destroy": {"mount", "retained"}, "volume adopt": {"volumes"}, "retained rm": {"name"},
	"setup": {"tier", "vmm"}, "builder": {"image"}, "install firecracker": {"version"},
}

var isHash = regexp.MustCompile(`[0-9a-f]{64}`)

// what is the most telling of an act, in one line.
func what(e audit.Entry) string {
	if e.Error != "" {
		return e.Error
	}
	if from, ok := e.Detail["from"].(map[string]any); ok {
		to, _ := e.Detail["to"].(map[string]any)
		return strings.Join(changed(from, to), ", ")
	}
	var parts []string
	for _, key := range telling[e.Act] {
		value, ok := e.Detail[key].(string)
		if !ok || value == "" {
			continue
		}
		value = isHash.ReplaceAllStringFunc(value, func(hash string) string { return hash[:12] })
		if key == "image" || key == "tier" || key == "retained" {
			value = key + " " + value
		}
		parts = append(parts, value)
	}
	return strings.Join(parts, ", ")
}

// changed are the fields of a spec that a set changed.
func changed(from, to map[string]any) []string {
	both := maps.Clone(from)
	maps.Copy(both, to)
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if !reflect.DeepEqual(from[name], to[name]) {
			fields = append(fields, fmt.Sprintf("%s %s → %s", name, given(from[name]), given(to[name])))
		}
	}
	return fields
}

func given(value any) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprint(value)
}

func (a *app) auditVerify() *cobra.Command {
	var (
		all bool
		had string
	)
	cmd := &cobra.Command{
		Use: "verify [id]",
		Example: `  mvm audit verify acme
  mvm audit verify --all --json > /mnt/elsewhere/$(date -I).json
  mvm audit verify acme --had 598d35a75ff80a3ee6cbdfaa697ae199e48d563e9f9c840962c20114dffa6e2f`,
		Short: "Check that no record was changed or cut; prints the last hash, to be kept elsewhere",
		Long: `Check that no record was changed or cut; prints the last hash, to be kept
elsewhere.

A hash that was kept elsewhere is given back with --had: the record must still
have it, and so all that came before.`,
		Args: oneUnlessAll(&all),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("had") {
				return checkHad(had, all)
			}
			return nil
		},
		RunE: a.onHost(func(_ context.Context, h *lifecycle.Host, args []string) error {
			verify, broken := h.VerifyAllAudits, "not every audit record holds"
			if !all {
				broken = "the audit record does not hold"
				verify = func() ([]lifecycle.Verified, error) { return verifyOne(h, optional(args), had) }
			}
			list, err := verify()
			switch {
			case list == nil:
				return err
			case a.json:
				if err := a.printJSON(list); err != nil {
					return err
				}
			case all || err == nil:
				a.printVerified(list, all)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", broken, err)
			}
			return nil
		}),
	}
	a.jsonFlag(cmd, []lifecycle.Verified{})
	cmd.Flags().BoolVar(&all, "all", false, "the host's and all tenants', also of those that are gone")
	cmd.Flags().StringVar(&had, "had", "", "a hash that was the last one once")
	return cmd
}

// verifyOne looks at one record; there is none of a tenant that never was.
func verifyOne(h *lifecycle.Host, id, had string) ([]lifecycle.Verified, error) {
	v, err := h.VerifyAudit(id, had)
	var wrong *tenant.InputError
	switch {
	case errors.Is(err, store.ErrNotFound), errors.As(err, &wrong):
		return nil, err
	case err != nil:
		v.Error = err.Error()
	}
	return []lifecycle.Verified{v}, err
}

// checkHad refuses what is no hash: where a script found none to give, nothing
// would be looked for.
func checkHad(had string, all bool) error {
	switch {
	case all:
		return &tenant.InputError{Msg: "--had is a hash of one record", Hint: "leave out --all, and name the tenant whose hash it is"}
	case had == "" || isHash.FindString(had) != had:
		return &tenant.InputError{Msg: fmt.Sprintf("--had: %q is no SHA-256 in hexadecimal digits", had), Hint: "give the hash that mvm audit verify printed as the last"}
	}
	return nil
}

func (a *app) printVerified(list []lifecycle.Verified, all bool) {
	for _, v := range list {
		whose := ""
		switch {
		case all && v.Tenant == "":
			whose = "host: "
		case all:
			whose = "tenant " + v.Tenant + ": "
		}
		switch {
		case v.Error != "":
			fmt.Fprintf(a.plain(), "%sDOES NOT HOLD: %s\n", whose, v.Error)
		case v.Records == 0:
			a.result("%snothing is on record yet", whose)
		default:
			hold := "records hold"
			if v.Records == 1 {
				hold = "record holds"
			}
			a.result("%s%d %s, the last is %s", whose, v.Records, hold, v.Last)
		}
	}
}

// oneUnlessAll takes one tenant id, or none.
func oneUnlessAll(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return &tenant.InputError{Msg: fmt.Sprintf("%s takes one tenant id or none, got %d", cmd.CommandPath(), len(args)), Hint: fmt.Sprintf("see %s --help", cmd.CommandPath())}
		case len(args) == 1 && *all:
			return &tenant.InputError{Msg: cmd.CommandPath() + " takes a tenant id or --all, not both", Hint: fmt.Sprintf("see %s --help", cmd.CommandPath())}
		}
		return nil
	}
}
