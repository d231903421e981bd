package build

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/goldenfile"
	"github.com/auser/mvm/internal/source"
)

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenfile.Check(t, filepath.Join("testdata", name), got)
}

// testBuilder is a builder as it is just before it starts its container.
func testBuilder(engine string) *builder {
	return &builder{
		req: Request{
			Tenant: "acme", Instance: "0123456789abcdef", Profile: "minimal", FlakeRef: "/work/app", System: "x86_64-linux",
			CacheDir: "/var/cache/a,b", Scope: "5ca1ab1e",
			Limits: Limits{MemMiB: 2048, CPUs: 1.5, Pids: 512, Timeout: time.Hour},
		},
		ref:      source.Ref{Local: true},
		engine:   Engine{Name: engine},
		image:    Image{Ref: "mvm-builder:0123456789ab", ID: "sha256:0123456789abcdef"},
		snapshot: source.Snapshot{Path: "/var/lib/mvm/src/cafe", FlakeDir: "nix"},
	}
}

// render writes one argument a line; the scripts are cut to their first word.
func render(args []string) string {
	args = append([]string(nil), args...)
	for i, a := range args {
		switch {
		case a == builderScript:
			args[i] = "<builder.sh>"
		case strings.Contains(a, strings.TrimSpace(pickNix)):
			args[i] = strings.Replace(a, strings.TrimSpace(pickNix), "<pick.nix>", 1)
		}
		args[i] = strings.ReplaceAll(args[i], "\n", "⏎")
	}
	return strings.Join(args, "\n") + "\n"
}

func TestRunArgs(t *testing.T) {
	for _, engine := range Engines {
		b := testBuilder(engine)
		c := b.container("/var/lib/mvm/build/acme/out")
		if engine == "podman" {
			c.nofile, c.nproc = 1024, 2048 // depends on the machine
		}
		golden(t, "run-"+engine+".txt", render(runArgs(engine, c)))
	}
	b := testBuilder("docker")
	b.req.Offline, b.req.NoSandbox, b.req.CacheDir = true, true, ""
	golden(t, "run-offline-nosandbox.txt", render(runArgs("docker", b.container("/out"))))
	golden(t, "prepare.txt", render(runArgs("docker", b.preparation())))
}

func TestEngineArgs(t *testing.T) {
	var lines []string
	for _, args := range [][]string{
		versionArgs("docker"), versionArgs("nerdctl"), versionArgs("podman"),
		listArgs(""), listArgs("5ca1ab1e"),
		removeArgs(containerName("", "acme")),
		volumeCreateArgs(storeVolume{"acme", "0123456789abcdef", "sha256:0123456789abcdef"}.name("5ca1ab1e"), [][2]string{{"a", "b"}}),
		volumePathArgs("v"), volumeRemoveArgs("v"), volumeListArgs("5ca1ab1e"), imageInspectArgs("x"),
	} {
		lines = append(lines, strings.Join(args, " "))
	}
	golden(t, "engine.txt", strings.Join(lines, "\n")+"\n")
}

func TestBootstrapArgs(t *testing.T) {
	golden(t, "mmdebstrap.txt", render(mmdebstrapArgs(LocalImageOptions{}.withDefaults(), "/tmp/image.tar")))
}

// No value of a request reaches a script or an expression as code.
func TestPickExprQuotes(t *testing.T) {
	got := pickExpr(`a"; evil "${x}\`, "minimal")
	if want := `[ "-a\"; evil \"\${x}\\" "-minimal" ]`; !strings.HasSuffix(got, want) {
		t.Errorf("pickExpr ends in %q, want %q", got[len(got)-60:], want)
	}
}

func TestStoreNames(t *testing.T) {
	const life, other = "0123456789abcdef", "fedcba9876543210"
	g := &collector{req: GCRequest{Tenants: map[string]StoreUse{"a": {life, "sha256:111111111111ff"}, "a-b": {life, ""}}}}
	for v, want := range map[storeVolume]bool{
		{"a", life, "sha256:111111111111ff"}:   true,
		{"a", life, "sha256:222222222222"}:     false, // an older builder image
		{"a", other, "sha256:111111111111ff"}:  false, // an earlier tenant of this id
		{"a-b", life, "sha256:222222222222"}:   true,  // nothing known of its image
		{"a-" + life, life, "sha256:1"}:        false,
		{"a-b-c", life, "sha256:222222222222"}: false,
		{"c", life, "sha256:111111111111"}:     false,
	} {
		got, ok := parseStore("x", v.name("x"))
		if !ok || got != (storeVolume{v.tenant, v.instance, shortID(v.image)}) {
			t.Errorf("parseStore(%s) = %+v, %v", v.name("x"), got, ok)
		}
		if got := g.inUse(got); got != want {
			t.Errorf("%s is in use: %v, want %v", v.name("x"), got, want)
		}
	}
}
