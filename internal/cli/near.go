package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

func unknownCommand(cmd *cobra.Command, word string) error {
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if other := meant(cmd, word); other != "" {
		hint = fmt.Sprintf("did you mean %s?", other)
	}
	return &tenant.InputError{Msg: fmt.Sprintf("%s has no command %q", cmd.CommandPath(), word), Hint: hint}
}

// nearTenant is the id that was probably meant where there is no such tenant.
func (a *app) nearTenant(err error) string {
	if !errors.Is(err, store.ErrNotFound) {
		return ""
	}
	ids := a.tenantIDs()
	for _, word := range slices.Backward(a.args) {
		if near := nearest(word, ids); near != "" && !slices.Contains(ids, word) {
			return near
		}
	}
	return ""
}

// tenantIDs is for help only: where the state directory cannot be read, there
// is nothing to suggest, and it is not made.
func (a *app) tenantIDs() []string {
	if _, err := os.Stat(a.root); err != nil {
		return nil
	}
	h, err := lifecycle.Open(a.root)
	if err != nil {
		return nil
	}
	ids, err := h.Store.IDs()
	if err != nil {
		return nil
	}
	return ids
}

// nearest is the one of names that word was probably meant to be, or "". The two
// have something in common.
func nearest(word string, names []string) string {
	best, found := min(len(word), max(1, len(word)/3)+1), ""
	for _, name := range names {
		if name == word {
			continue
		}
		if d := distance(word, name); d < best {
			best, found = d, name
		}
	}
	return found
}

// distance is how many letters must be added, removed, changed or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
