package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestShare shares what a trusted tenant built through the command line: others
// take it over instead of building, but only while it is signed.
func TestShare(t *testing.T) {
	k := newStandinEnv(t, "share", "10.54.0.1/24")
	cache := t.TempDir()
	config := filepath.Join(k.root, "config.toml")
	settings := strings.Replace(string(read(t, config)), "[build]\n", "[build]\nshared_cache = \""+cache+"\"\n", 1)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	flake := newToy(t)
	flake.edit(t)
	for _, id := range []string{"golden", "reader", "doubter"} {
		k.mvm(t, "tenant", "create", id, "--flake", flake.dir, "--profile", "minimal", "--data-size", "16", "--mem", "64")
	}
	builds := func(id string) (image string, built bool) {
		t.Helper()
		k.mvm(t, "tenant", "build", id)
		dir := filepath.Join(k.root, "tenants", id)
		manifest := readJSON(t, filepath.Join(dir, "artifacts", "manifest.json"))
		return manifest["image"].(string), strings.Contains(string(read(t, filepath.Join(dir, "build.log"))), "building '/nix/store/")
	}
	golden, built := builds("golden")
	if !built {
		t.Fatal("the first build built nothing")
	}
	key := strings.TrimSpace(k.mvm(t, "builder", "share", "golden", "--quiet"))
	if again := strings.TrimSpace(k.mvm(t, "builder", "share", "golden", "--quiet")); again != key || !strings.HasPrefix(key, "mvm-") {
		t.Errorf("the keys are %q and %q, want one", key, again)
	}
	if image, built := builds("reader"); built || image != golden {
		t.Errorf("with the shared cache: built %v, image %s, want %s taken over", built, image, golden)
	}
	manifest := readJSON(t, filepath.Join(k.root, "tenants", "reader", "artifacts", "manifest.json"))
	if keys, ok := manifest["builder"].(map[string]any)["trusted_keys"].([]any); !ok || len(keys) != 1 || keys[0] != key {
		t.Errorf("the manifest says that the build accepted %v, want %s", keys, key)
	}

	infos, err := filepath.Glob(filepath.Join(cache, "*.narinfo"))
	if err != nil || len(infos) < 4 {
		t.Fatalf("the cache holds %v, %v", infos, err)
	}
	signature := regexp.MustCompile(`(?m)^Sig: .*\n`)
	for _, path := range infos {
		info := read(t, path)
		if !signature.Match(info) {
			t.Errorf("%s is not signed:\n%s", path, info)
		}
		if err := os.WriteFile(path, signature.ReplaceAll(info, nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if image, built := builds("doubter"); !built || image != golden {
		t.Errorf("without signatures: built %v, image %s, want %s built", built, image, golden)
	}
	// A store that somebody removed is missed, and not made again.
	if out, err := exec.Command("docker", "volume", "rm", k.inEngine(t, "volume", "ls", "golden")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	volumes, err := exec.Command("docker", "volume", "ls", "--quiet").Output()
	if err != nil {
		t.Fatal(err)
	}
	k.withEnv(t, []string{"builder", "share", "golden"}, "LC_ALL=C", 1)
	if now, err := exec.Command("docker", "volume", "ls", "--quiet").Output(); err != nil || string(now) != string(volumes) {
		t.Errorf("a failed share left volumes: %s, %v, before: %s", now, err, volumes)
	}
	k.nothingLeft(t)
	if err := os.Remove(filepath.Join(k.root, "cache.key")); err != nil {
		t.Errorf("the key: %v", err)
	}
}
