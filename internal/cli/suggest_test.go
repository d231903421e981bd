package cli

import (
	"strings"
	"testing"
)

// TestOtherWords holds the words of other tools to mvm's: each leads to a
// command, and none hides one.
func TestOtherWords(t *testing.T) {
	root := Command()
	for word, path := range otherWords {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 || cmd.CommandPath() != "mvm "+path {
			t.Errorf("%s: there is no command %s", word, path)
		}
		if find(find(root, "tenant"), word) != nil {
			t.Errorf("%s is a verb of mvm tenant", word)
		}
	}
}
