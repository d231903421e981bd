// Package buildinfo says which build of mvm this is.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// Set when a release is built, with the linker's -X.
var (
	version    = "dev"
	releaseKey = "" // the ed25519 key that signs releases, in base64
)

// Info is what mvm version prints.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Get describes the running program.
func Get() Info {
	v := Info{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}

// ReleaseKey is the key that signs this build's successors; empty for builds
// that are no release.
func ReleaseKey() string { return releaseKey }
