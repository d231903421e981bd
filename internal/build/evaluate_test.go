package build

import (
	"errors"
	"testing"
)

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
