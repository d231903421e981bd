package flakecheck

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// evalNix applies an expression to packages written in Nix, as a caller's
// container would apply it to a flake's.
func evalNix(ctx context.Context, packages, expr string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "nix-instantiate", "--eval", "--strict", "--json", "-E", "("+expr+") "+packages)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(stderr.String())
	}
	return out, nil
}

// drv stands in a test's packages for something that Nix can build.
const drv = `(builtins.derivation { name = "x"; builder = "/bin/sh"; system = "x86_64-linux"; })`

func check(t *testing.T, packages string) Report {
	t.Helper()
	report, err := Check(t.Context(), strings.ReplaceAll(packages, "DRV", drv), evalNix)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name     string
		packages string
		want     Report
	}{
		{
			"a complete flake",
			`{
				x86_64-linux = {
					tenant-rootfs = DRV; tenant-kernel = DRV; tenant-fc-base = DRV; tenant-initrd = DRV;
					tenant-rootfs-fc-base = DRV; tenant-kernel-fc-base = DRV; tenant-fc-base-fc-base = DRV;
					hello = throw "not looked at";
				};
				aarch64-darwin.hello = DRV;
			}`,
			Report{Guests: []Guest{
				{System: "x86_64-linux", Initrd: true},
				{System: "x86_64-linux", Name: "fc-base"},
			}},
		},
		{
			"what is wrong, output by output",
			`{
				aarch64-linux.tenant-rootfs-acme = DRV;
				x86_64-linux = {
					tenant-rootfs-acme = { type = "app"; };
					tenant-kernel-acme = ./vmlinux;
					tenant-fc-base-acme = throw "no";
					tenant-initrd-acme = builtins.derivation { name = throw "broken"; builder = "x"; system = "x"; };
				};
			}`,
			Report{Guests: []Guest{
				{System: "aarch64-linux", Name: "acme", Problems: []Problem{
					{"packages.aarch64-linux.tenant-kernel-acme", "is missing"},
					{"packages.aarch64-linux.tenant-fc-base-acme", "is missing"},
				}},
				{System: "x86_64-linux", Name: "acme", Initrd: true, Problems: []Problem{
					{"packages.x86_64-linux.tenant-rootfs-acme", "is a set, not a derivation"},
					{"packages.x86_64-linux.tenant-kernel-acme", "is a path, not a derivation"},
					{"packages.x86_64-linux.tenant-fc-base-acme", "cannot be evaluated"},
					{"packages.x86_64-linux.tenant-initrd-acme", "cannot be evaluated"},
				}},
			}},
		},
		{
			"names that mean nothing",
			`{
				x86_64-linux = { tenant-rootfs-Acme = DRV; tenant-disk-acme = DRV; tenant-rootfs- = DRV; };
				riscv64-linux.tenant-rootfs = DRV;
			}`,
			Report{
				Other: []string{"riscv64-linux"},
				Strays: []Problem{
					{"packages.x86_64-linux.tenant-disk-acme", "is no output of the contract: those are tenant-rootfs, tenant-kernel, tenant-fc-base and tenant-initrd"},
					{"packages.x86_64-linux.tenant-rootfs-", `belongs to no guest: "" can be neither a tenant's id nor a profile`},
					{"packages.x86_64-linux.tenant-rootfs-Acme", `belongs to no guest: "Acme" can be neither a tenant's id nor a profile`},
				},
			},
		},
		{"a flake for something else", `{ x86_64-linux.hello = DRV; }`, Report{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			report := check(t, test.packages)
			if diff := cmp.Diff(test.want, report); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if ok, want := report.OK(), test.name == "a complete flake"; ok != want {
				t.Errorf("OK() = %v, want %v", ok, want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	failing := func(context.Context, string, string) ([]byte, error) { return nil, errors.New("no such flake") }
	if _, err := Check(t.Context(), "./guest", failing); err == nil || err.Error() != "cannot evaluate ./guest: no such flake" {
		t.Errorf("Check: %v", err)
	}
	garbled := func(context.Context, string, string) ([]byte, error) { return []byte("[]"), nil }
	if _, err := Check(t.Context(), "./guest", garbled); err == nil || !strings.Contains(err.Error(), "cannot check ./guest") {
		t.Errorf("Check: %v", err)
	}
}
