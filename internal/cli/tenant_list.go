package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantList() *cobra.Command {
	var (
		watch, ids bool
		states     []string
	)
	cmd := &cobra.Command{
		Use:     "list [id]…",
		Aliases: []string{"ls"},
		Short:   "List tenants and their state, as observed now",
		Long: `List tenants and their state, as observed now.

DISK is what the data volume takes of the host's disk, of what it may take;
SINCE is how long ago the state was entered. On a narrow terminal, columns are
left out; a pipe gets all.`,
		Example: `  mvm tenant list
  mvm tenant list --state failed,stopped
  mvm tenant list --state failed --ids | xargs -r mvm tenant run
  mvm tenant list --watch
  mvm tenant list --json | jq -r '.[] | select(.running) | .tenant_id'`,
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if ids && a.json {
				return &tenant.InputError{Msg: "--ids and --json print the same list in two ways", Hint: "say one of them"}
			}
			wanted, err := parseStates(states)
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := h.MustExist(id); err != nil {
					return err
				}
			}
			show := func() error {
				list, err := h.List()
				if err != nil {
					return err
				}
				all := len(list)
				list = slices.DeleteFunc(list, func(l lifecycle.Listed) bool {
					return len(args) > 0 && !slices.Contains(args, l.ID) || len(wanted) > 0 && !slices.Contains(wanted, l.Phase)
				})
				switch {
				case a.json:
					return a.printJSON(list)
				case ids:
					for _, l := range list {
						a.result("%s", l.ID)
					}
					return nil
				case len(list) == 0 && all > 0:
					a.note("no tenant matches, of %d", all)
					return nil
				}
				return a.printTenants(list, time.Now())
			}
			if watch {
				return a.watch(ctx, time.Second, show)
			}
			return show()
		}),
	}
	a.jsonFlag(cmd, []lifecycle.Listed{})
	f := cmd.Flags()
	f.StringSliceVar(&states, "state", nil, "only tenants in one of these states")
	f.BoolVar(&ids, "ids", false, "print the ids alone, a line each")
	f.BoolVarP(&watch, "watch", "w", false, "print it again every second, until interrupted")
	return cmd
}

func parseStates(words []string) ([]tenant.Phase, error) {
	var states []tenant.Phase
	for _, w := range words {
		if !slices.Contains(tenant.Phases, tenant.Phase(w)) {
			return nil, &tenant.InputError{Msg: fmt.Sprintf("%q is no state", w), Hint: "--state takes " + strings.Join(phaseWords(), ", ")}
		}
		states = append(states, tenant.Phase(w))
	}
	return states, nil
}

func phaseWords() []string {
	words := make([]string, len(tenant.Phases))
	for i, p := range tenant.Phases {
		words[i] = string(p)
	}
	return words
}

func (a *app) printTenants(list []lifecycle.Listed, now time.Time) error {
	if len(list) == 0 {
		a.note("no tenants; mvm tenant create <id> makes one")
		return nil
	}
	t := tenantTable(list, now)
	if a.colored() {
		t.style = func(column int, text string) string {
			if column != 1 {
				return text
			}
			return phaseColor(tenant.Phase(text)).Styled(text)
		}
	}
	return a.printTable(t)
}

func tenantTable(list []lifecycle.Listed, now time.Time) *table {
	t := &table{
		head:  []string{"TENANT", "STATE", "PROFILE", "TIER", "VCPU", "MEM", "ADDRESS", "DISK", "UPTIME", "RESTARTS", "SINCE", "REASON"},
		spare: []string{"TIER", "PROFILE", "UPTIME", "RESTARTS", "VCPU", "MEM", "DISK", "SINCE", "ADDRESS"},
	}
	t.rows = make([][]string, 0, len(list))
	for i := range list {
		s := &list[i]
		reason, uptime, disk := s.Reason, "-", "-"
		if s.Error != "" {
			reason = s.Error
		}
		if s.Running {
			uptime = span(time.Duration(s.UptimeSeconds * float64(time.Second)))
		}
		if s.Spec.DataMiB > 0 {
			disk = byteSize(s.DiskBytes) + " of " + byteSize(s.Spec.DiskBytes())
		}
		t.row(s.ID, string(s.Phase), s.Spec.Profile, dash(s.State.Tier), strconv.Itoa(s.Spec.VCPUs), strconv.Itoa(s.Spec.MemMiB)+" MiB",
			dash(s.State.Net.IP), disk, uptime, strconv.Itoa(s.State.Restarts), ago(now, s.Since), reason)
	}
	return t
}

func phaseColor(p tenant.Phase) ansi.Style {
	switch p {
	case tenant.Running:
		return green
	case tenant.Failed:
		return red
	case tenant.Starting, tenant.Stopping, tenant.Restarting, tenant.Paused:
		return yellow
	}
	return dim
}
