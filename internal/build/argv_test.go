package build

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/goldenfile"
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
			Tenant: "acme", Profile: "minimal", FlakeRef: "/work/app", System: "x86_64-linux",
			CacheDir: "/var/cache/a,b", Scope: "5ca1ab1e",
			Limits: Limits{MemMiB: 2048, CPUs: 1.5, Pids: 512, Timeout: time.Hour},
		},
		ref:      flakeRef{local: true},
		engine:   Engine{Name: engine},
		image:    Image{Ref: "mvm-builder:0123456789ab", ID: "sha256:0123456789abcdef"},
		snapshot: Snapshot{Path: "/var/lib/mvm/src/cafe", FlakeDir: "nix"},
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
		volumeCreateArgs(volumeName("5ca1ab1e", "acme", "sha256:0123456789abcdef"), [][2]string{{"a", "b"}}),
		volumeInspectArgs("v"), volumePathArgs("v"), volumeRemoveArgs("v"), volumeListArgs("5ca1ab1e"), imageInspectArgs("x"),
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

func TestVolumeNames(t *testing.T) {
	g := &collector{req: GCRequest{Tenants: []string{"a", "a-b"}, Stores: map[string]string{"a": "sha256:111111111111ff"}}}
	for name, want := range map[string]bool{
		volumeName("", "a", "sha256:111111111111ff"):   true,
		volumeName("", "a", "sha256:222222222222"):     false, // an older builder image
		volumeName("", "a-b", "sha256:222222222222"):   true,  // nothing known of its image
		volumeName("", "a-b-c", "sha256:222222222222"): false,
		volumeName("", "c", "sha256:111111111111"):     false,
	} {
		if got := g.volumeInUse(name); got != want {
			t.Errorf("volumeInUse(%s) = %v, want %v", name, got, want)
		}
	}
}
