package bootstrap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func having(programs ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(programs, name) }
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name, arch string
		has        []string
		want       string
	}{
		{"a bare Debian", "amd64", []string{"apt-get"}, "apt-get update -q -o DPkg::Lock::Timeout=300; apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 qemu-system-x86 e2fsprogs nftables openssh-client git podman"},
		{"a bare Fedora on arm64", "arm64", []string{"dnf"}, "dnf install -y qemu-system-aarch64-core e2fsprogs nftables openssh-clients git podman"},
		{"a bare Arch", "amd64", []string{"pacman"}, "pacman -S --noconfirm --needed qemu-system-x86 e2fsprogs nftables openssh git podman"},
		{"docker will do", "amd64", []string{"apt-get", "dockerd", "nft", "ssh", "git", "mkfs.ext4"}, "apt-get update -q -o DPkg::Lock::Timeout=300; apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 qemu-system-x86"},
		{"everything is there", "amd64", []string{"qemu-system-x86_64", "nerdctl", "nft", "ssh", "git", "mkfs.ext4"}, ""},
	} {
		commands, _, err := Plan(Host{Arch: c.arch, Has: having(c.has...)})
		var lines []string
		for _, argv := range commands {
			lines = append(lines, strings.Join(argv, " "))
		}
		if got := strings.Join(lines, "; "); err != nil || got != c.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", c.name, err, got, c.want)
		}
	}
	var none *NoManagerError
	if _, _, err := Plan(Host{Arch: "amd64", Has: having("git")}); !errors.As(err, &none) || !slices.Contains(none.Missing, "nft") {
		t.Errorf("without a package manager: %v", err)
	}
}

// A package manager that says yes and installs nothing is not believed.
func TestInstallLooksAgain(t *testing.T) {
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >> %s\n", log), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	err := Install(t.Context(), This("amd64"), func(string, ...any) {}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "still there is no qemu-system-x86_64") {
		t.Errorf("%v", err)
	}
	data, readErr := os.ReadFile(log)
	if readErr != nil || !strings.HasPrefix(string(data), "update -q -o DPkg::Lock::Timeout=300\ninstall -q -y") {
		t.Errorf("%q, %v", data, readErr)
	}
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\nexit 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Install(t.Context(), This("amd64"), func(string, ...any) {}, io.Discard); err == nil || !strings.Contains(err.Error(), "Timeout=300: exit status 100") {
		t.Errorf("a failure of the package manager: %v", err)
	}
}
