package build

import (
	"errors"
	"strings"
	"testing"
)

func TestAbsRef(t *testing.T) {
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
		got, err := AbsRef(tt.ref, "/work/app")
		if err != nil || got != tt.want {
			t.Errorf("AbsRef(%q) = %q, %v, want %q", tt.ref, got, err, tt.want)
			continue
		}
		again, err := AbsRef(got, "/elsewhere")
		if err != nil || again != got {
			t.Errorf("AbsRef(%q) = %q, %v, want it unchanged", got, again, err)
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
		_, err := AbsRef(tt.ref, "/")
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrInput) || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("AbsRef(%q) = %v, want bad input with a hint like %q", tt.ref, err, tt.hint)
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
		r, err := parseRef(ref, "/")
		if err != nil || r.immutable != want {
			t.Errorf("parseRef(%q).immutable = %v, %v, want %v", ref, r.immutable, err, want)
		}
	}
}

func TestParseInputOverride(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]InputOverride{
		"nixpkgs=" + dir: {Input: "nixpkgs", Folder: dir},
		"a/nix-pkgs=.":   {Input: "a/nix-pkgs", Folder: dir},
	} {
		if got, err := ParseInputOverride(text, dir); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "nixpkgs", "nixpkgs=", "=" + dir, "--impure=" + dir, "a b=" + dir, "a/=" + dir, "nixpkgs=none"} {
		if got, err := ParseInputOverride(text, dir); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %+v, %v, want an error of input", text, got, err)
		}
	}
}
