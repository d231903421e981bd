package lima

import "strings"

// passed are the variables that a command inside sees. Anything else of this
// host's environment means something else there, or is nobody's business.
var passed = []string{"TERM", "COLORTERM", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LANG", "LC_*", "TZ", "COLUMNS", "LINES", "MVM_*"}

// kept are variables of mvm's that are about this side.
var kept = []string{"MVM_LIMA", "MVM_LIMA_VM", "MVM_LIMACTL", "MVM_RELEASE_URL"}

// Env picks from environ what goes inside.
func Env(environ []string) []string {
	var env []string
	for _, kv := range environ {
		name, _, ok := strings.Cut(kv, "=")
		if ok && matches(passed, name) && !matches(kept, name) {
			env = append(env, kv)
		}
	}
	return env
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, wild := strings.CutSuffix(p, "*"); wild && strings.HasPrefix(name, prefix) || p == name {
			return true
		}
	}
	return false
}
