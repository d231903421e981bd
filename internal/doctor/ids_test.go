package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
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
		"a tenant's":     {"etc/passwd", "eve:x:4242:100::/:/bin/sh", Warning, `id 4242, which a tenant has`},
		"a range of its": {"etc/subuid", "eve:4000:1000", Warning, `id 4242, which a tenant has`},
		"another's last": {"etc/subuid", "x:1879900000:99999", OK, "nobody else"},
	} {
		f := tree(t, map[string]string{c.file: c.text}).othersIDs(ids{1_879_999_999, 1_880_000_256}, []ids{{1_880_000_010, 1_880_000_010}, {4242, 4242}})
		if f.Level != c.level || !strings.Contains(f.Found, c.found) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestOwnIDs: those of all that there are, whatever the settings say now.
func TestOwnIDs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	var want []ids
	for _, dir := range []string{root, store.DevRoot(root)} {
		s := openStore(t, dir)
		for i, id := range []string{"acme", "beta"} {
			uid := 4000 + len(dir) + i
			spec := tenant.Spec{TenantID: id}
			spec.Defaults()
			if err := os.MkdirAll(s.Tenant(id).Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			err := s.CreateState(id, tenant.State{SchemaVersion: tenant.SchemaVersion, Spec: spec, UID: uid, Phase: tenant.Created})
			if err == nil {
				err = s.SaveSpec(spec)
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, ids{uid, uid})
		}
	}
	if own, err := ownIDs(openStore(t, root)); err != nil || !slices.Equal(own, want) {
		t.Errorf("%v, %v, want %v", own, err, want)
	}
}

func openStore(t *testing.T, root string) *store.Store {
	t.Helper()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.RunDir) })
	return s
}
