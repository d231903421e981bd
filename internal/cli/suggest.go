package cli

import "github.com/spf13/cobra"

// otherWords are those by which other tools call what mvm can do, with mvm's.
var otherWords = map[string]string{
	"attach":    "tenant console",
	"backup":    "tenant volume export",
	"boot":      "tenant run",
	"config":    "tenant set",
	"connect":   "tenant ssh",
	"copy":      "tenant cp",
	"delete":    "tenant destroy",
	"describe":  "tenant show",
	"disk":      "tenant volume",
	"edit":      "tenant set",
	"events":    "audit",
	"forward":   "tenant port-forward",
	"freeze":    "tenant pause",
	"get":       "tenant show",
	"halt":      "tenant stop",
	"history":   "audit",
	"image":     "builder",
	"images":    "builder",
	"info":      "tenant show",
	"init":      "setup",
	"inspect":   "tenant show",
	"kill":      "tenant stop",
	"launch":    "tenant create",
	"login":     "tenant ssh",
	"ls":        "tenant list",
	"modify":    "tenant set",
	"monitor":   "audit",
	"network":   "net",
	"new":       "tenant create",
	"port":      "tenant port-forward",
	"poweroff":  "tenant stop",
	"prune":     "gc",
	"ps":        "tenant list",
	"publish":   "tenant port-forward",
	"reboot":    "tenant restart",
	"remove":    "tenant destroy",
	"restore":   "tenant volume rollback",
	"rm":        "tenant destroy",
	"scp":       "tenant cp",
	"shell":     "tenant ssh",
	"shutdown":  "tenant stop",
	"snapshot":  "tenant volume snapshot",
	"snapshots": "tenant volume show",
	"start":     "tenant run",
	"suspend":   "tenant pause",
	"unfreeze":  "tenant resume",
	"unpause":   "tenant resume",
	"update":    "tenant set",
	"volumes":   "tenant volume",
}

// meant is the command that was probably meant by a word that cmd has no verb
// of, or "": the same verb elsewhere, what other tools call so, or a near miss.
func meant(cmd *cobra.Command, word string) string {
	root, tenant := cmd.Root(), find(cmd.Root(), "tenant")
	if cmd == root || cmd == tenant {
		if c := find(tenant, word); c != nil {
			return c.CommandPath()
		}
		if other, ok := otherWords[word]; ok {
			return root.Name() + " " + other
		}
		if c := find(root, word); c != nil {
			return c.CommandPath()
		}
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := nearest(word, names); near != "" {
		return cmd.CommandPath() + " " + near
	}
	return ""
}

// find is cmd's verb of that name, or nil.
func find(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name && c.IsAvailableCommand() {
			return c
		}
	}
	return nil
}
