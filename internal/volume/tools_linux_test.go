package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What works on a guest's image is bounded, whatever is in there.
func TestToolsAreBounded(t *testing.T) {
	path := filepath.Join(memory(t, "size=8m"), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3<<30); err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	limits, _, err := tool{name: "cat", args: []string{"/proc/self/limits"}, image: image, asOwner: true}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(strings.Fields(limits), " ")
	for _, want := range []string{"Max cpu time 603 604 seconds", "Max file size 3221225472 3221225472 bytes", "Max core file size 0 0 bytes", "Max address space 1074528256 1074528256 bytes"} {
		if !strings.Contains(said, want) {
			t.Errorf("not %q in\n%s", want, limits)
		}
	}
}
