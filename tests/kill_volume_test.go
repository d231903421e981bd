package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// keptWork is a volume that was destroyed.
const keptWork = "retained/acme-20260801T101500.000Z"

// copyData makes a volume that holds what the data volume does.
func (k *killEnv) copyData(t *testing.T, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", k.dataVolume(), to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// isCopy wants what copyData has made there, or where it was moved since.
func (k *killEnv) isCopy(t *testing.T, image string) {
	t.Helper()
	if out, err := exec.Command("cmp", k.dataVolume(), image).CombinedOutput(); err != nil {
		t.Errorf("the volume is not as it was: %v\n%s", err, out)
	}
}

// isKeptAside finds the volume that was destroyed once, and in no other place.
func (k *killEnv) isKeptAside(t *testing.T) {
	t.Helper()
	images, err := filepath.Glob(k.path("retained", "acme-*", "work.ext4"))
	if err != nil || len(images) != 1 || len(k.retained(t)) != 1 {
		t.Fatalf("kept: %v of %v, %v", images, k.retained(t), err)
	}
	k.isCopy(t, images[0])
	k.removeRetained(t)
	k.names(t, "/src")
	if left, err := filepath.Glob(k.path("tenants", "acme", "volumes", "*work*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// isAdopted finds the volume that was kept in the tenant, and nothing kept.
func (k *killEnv) isAdopted(t *testing.T) {
	t.Helper()
	k.isCopy(t, k.path("tenants", "acme", "volumes", "work.ext4"))
	if kept := k.retained(t); len(kept) > 0 {
		t.Errorf("still kept: %v", kept)
	}
	k.names(t, "/work")
}

// names wants the spec to name this volume and no other.
func (k *killEnv) names(t *testing.T, mount string) {
	t.Helper()
	volumes, _ := readJSON(t, k.path("tenants", "acme", "spec.json"))["volumes"].([]any)
	if len(volumes) != 1 || volumes[0].(map[string]any)["mount"] != mount {
		t.Errorf("the spec names %v, want %s alone", volumes, mount)
	}
}
