package source

import (
	"errors"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fault"
)

func TestAbs(t *testing.T) {
	for _, tt := range []struct{ ref, want string }{
		{".", "/work/app"},
		{"./guest", "/work/app/guest"},
		{"../other", "/work/other"},
		{"/abs/dir/", "/abs/dir"},
		{".?dir=nix", "path:/work/app?dir=nix"},
		{"path:.", "/work/app"},
		{"path:/abs?dir=a/b", "path:/abs?dir=a%2Fb"},
		{"path:/with%20space", "/with space"},
		{"/odd%name", "path:/odd%25name"},
		{"git+file:.", "/work/app"},
		{"git+file:///repo?ref=main", "git+file:///repo?ref=main"},
		{"git+file:/repo?rev=" + strings.Repeat("a1", 20), "git+file:///repo?rev=" + strings.Repeat("a1", 20)},
		{"github:NixOS/nixpkgs/nixos-26.05", "github:NixOS/nixpkgs/nixos-26.05"},
		{"git+https://example.org/guests.git?ref=main&dir=nix", "git+https://example.org/guests.git?ref=main&dir=nix"},
	} {
		got, err := Abs(tt.ref, "/work/app")
		if err != nil || got != tt.want {
			t.Errorf("Abs(%q) = %q, %v, want %q", tt.ref, got, err, tt.want)
			continue
		}
		again, err := Abs(got, "/elsewhere")
		if err != nil || again != got {
			t.Errorf("Abs(%q) = %q, %v, want it unchanged", got, again, err)
		}
	}
}

func TestBadRefs(t *testing.T) {
	for _, tt := range []struct{ ref, hint string }{
		{"", "use a folder"},
		{"nixpkgs", "write ./nixpkgs for a folder"},
		{".#minimal", "--profile chooses"},
		{"flake:nixpkgs", "use a folder"},
		{"s3://bucket/x", "use a folder"},
		{"path://host/x", "use a folder"},
		{"path:/x?dir=../..", "use a folder"},
		{"path:/x?rev=1", "use a folder"},
		{"git+file:/x?rev=main", "use a folder"},
		{"git+file:/x?ref=--upload-pack=evil", "use a folder"},
		{"github:a/b $(reboot)", "use a folder"},
		{"./x\n", "use a folder"},
	} {
		_, err := Abs(tt.ref, "/")
		var e *fault.Error
		if !errors.As(err, &e) || !errors.Is(err, fault.ErrInput) || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("Abs(%q) = %v, want bad input with a hint like %q", tt.ref, err, tt.hint)
		}
	}
}

func TestImmutableRefs(t *testing.T) {
	rev := strings.Repeat("0f", 20)
	for ref, want := range map[string]bool{
		"github:owner/repo":                             false,
		"github:owner/repo/main":                        false,
		"github:owner/repo/" + rev:                      true,
		"git+https://example.org/x.git":                 false,
		"git+https://example.org/x.git?rev=" + rev:      true,
		"https://example.org/x.tar.gz?narHash=sha256-x": true,
	} {
		r, err := Parse(ref, "/")
		if err != nil || r.Immutable != want {
			t.Errorf("Parse(%q).immutable = %v, %v, want %v", ref, r.Immutable, err, want)
		}
	}
}
