//go:build linux

package build_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/auser/mvm/internal/build"
)

// encodeRequest hands a request to a child process.
func encodeRequest(t testing.TB, req build.Request) string {
	t.Helper()
	req.Commit, req.CheckBaseConfig, req.TryLock = nil, nil, nil
	data, err := json.Marshal(struct {
		build.Request
		Commit, CheckBaseConfig, TryLock *struct{} `json:",omitempty"`
	}{Request: req})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestHelperBuild is the child of tests that kill a whole process. By itself
// it has nothing to do.
func TestHelperBuild(t *testing.T) {
	text := os.Getenv("MVM_HELPER_BUILD")
	if text == "" {
		return
	}
	var req struct {
		build.Request
		Commit, CheckBaseConfig, TryLock *struct{}
	}
	if err := json.Unmarshal([]byte(text), &req); err != nil {
		t.Fatal(err)
	}
	_, _, err := build.Build(t.Context(), req.Request, func(e build.Event) {
		if e.Kind == build.Log && e.Text == "asleep" {
			fmt.Println("asleep")
		}
	})
	t.Fatalf("the build ended: %v", err)
}
