package doctor

import (
	"strings"
	"testing"
)

func TestUserIDs(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		level      Level
		found      string
	}{
		"nobody else":    {"etc/subuid", "ann:100000:65536\nroot:1000000:1000000000", OK, "nobody else"},
		"containers":     {"etc/subuid", "ann:100000:65536\nbob:1879999000:65536", Warning, `"bob"`},
		"groups":         {"etc/subgid", "bob:1880000200:1", Warning, `"bob"`},
		"all there are":  {"etc/subuid", "bob:1:4294967294", Warning, `"bob"`},
		"an account":     {"etc/passwd", "root:x:0:0::/root:/bin/sh\neve:x:1880000005:100::/:/bin/sh", Warning, `"eve"`},
		"the build's":    {"etc/passwd", "mallory:x:30000:100::/:/bin/sh", Warning, "builds run as"},
		"the dev's":      {"etc/group", "dev:x:1879999999:", Warning, `"dev"`},
		"no ids at all":  {"etc/passwd", "nonsense\n\n+::::::", OK, "nobody else"},
		"no such files":  {"etc/else", "", OK, "nobody else"},
		"just below":     {"etc/passwd", "x:x:1879999998:0::/:", OK, "nobody else"},
		"another's last": {"etc/subuid", "x:1879900000:99999", OK, "nobody else"},
	} {
		f := tree(t, map[string]string{c.file: c.text}).othersIDs(ids{1_879_999_999, 1_880_000_256})
		if f.Level != c.level || !strings.Contains(f.Found, c.found) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
