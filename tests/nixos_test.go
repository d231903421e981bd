package tests

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auser/mvm/internal/fcconfig"
)

// nixosFacts are what scripts/check-nix evaluates of the NixOS guest. The tests
// here hand them to the programs that read them in a guest, in Debian's edition.
type nixosFacts struct {
	FSTab       []string        `json:"fstab"`
	Network     []string        `json:"network"` // what follows systemd-network-generator
	SSHD        []string        `json:"sshd"`
	Firecracker json.RawMessage `json:"firecracker"`
}

func readNixOSFacts(t *testing.T) map[string]nixosFacts {
	t.Helper()
	var facts map[string]nixosFacts
	if err := json.Unmarshal(read(t, "../nix/checks/facts.json"), &facts); err != nil {
		t.Fatal(err)
	}
	if len(facts) != 2 {
		t.Fatalf("facts of %d systems, want 2", len(facts))
	}
	return facts
}

// nixosBootArgs is the kernel command line that mvm makes for the guest.
func nixosBootArgs(t *testing.T, f nixosFacts) string {
	t.Helper()
	base, err := fcconfig.Parse(f.Firecracker)
	if err != nil {
		t.Fatal(err)
	}
	config, err := fcconfig.Final(base, fcconfig.Runtime{
		Kernel: "/kernel", Initrd: "/initrd", Rootfs: "/rootfs.ext4", Data: "/data.ext4", Secrets: "/secrets.ext4",
		Boot: fcconfig.BootWords{
			IP: netip.MustParseAddr("10.50.0.10"), Gateway: netip.MustParseAddr("10.60.0.1"), Bits: 24,
			DNS:      []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")},
			Hostname: "acme", MachineID: "00112233445566778899aabbccddeeff",
		},
		VCPUs: 1, MemMiB: 512, TAP: "tap-acme", MAC: "02:00:00:00:00:01",
	})
	if err != nil {
		t.Fatal(err)
	}
	var final struct {
		Boot struct {
			Args string `json:"boot_args"`
		} `json:"boot-source"`
	}
	if err := json.Unmarshal(config.JSON(), &final); err != nil {
		t.Fatal(err)
	}
	return final.Boot.Args
}

func runSystemd(t *testing.T, bootArgs string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "SYSTEMD_LOG_TARGET=console", "SYSTEMD_PROC_CMDLINE=" + bootArgs}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// The drives of the guest contract, as systemd mounts them.
func TestNixOSDrives(t *testing.T) {
	for system, f := range readNixOSFacts(t) {
		t.Run(system, func(t *testing.T) {
			dir := t.TempDir()
			fstab := filepath.Join(dir, "fstab")
			if err := os.WriteFile(fstab, []byte(strings.Join(f.FSTab, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			units := func(initrd string) string {
				out := filepath.Join(dir, "initrd-"+initrd)
				if err := os.Mkdir(out, 0o755); err != nil {
					t.Fatal(err)
				}
				env := []string{"SYSTEMD_IN_INITRD=" + initrd, "SYSTEMD_FSTAB=" + fstab, "SYSTEMD_SYSROOT_FSTAB=" + fstab}
				runSystemd(t, nixosBootArgs(t, f), env, "/usr/lib/systemd/system-generators/systemd-fstab-generator", out, out, out)
				return out
			}
			guest := units("0")
			f.Firecracker = bytes.ReplaceAll(f.Firecracker, []byte(" root=fstab"), nil) // too new for Debian's systemd 252, and what it does anyway
			initrd := units("1")
			wantUnit(t, filepath.Join(initrd, "sysroot.mount"), "What=tmpfs", "Type=tmpfs", "Options=x-initrd.mount,mode=0755,size=25%%,nodev")
			wantUnit(t, filepath.Join(guest, "data.mount"), "What=/dev/vdb", "Where=/data", "Type=ext4",
				"Options=nodev,nosuid,nofail", "Requires=systemd-fsck@dev-vdb.service")
			wantUnit(t, filepath.Join(guest, "run-secrets.mount"), "What=/dev/vdc", "Where=/run/secrets", "Type=ext4",
				"Options=ro,noexec,nodev,nosuid,nofail")
			for _, drive := range []string{"vdb", "vdc"} {
				wantUnit(t, filepath.Join(guest, "dev-"+drive+".device.d", "50-device-timeout.conf"), "JobRunningTimeoutSec=30s")
			}
			for _, mount := range []string{"data.mount", "run-secrets.mount"} {
				if _, err := os.Lstat(filepath.Join(guest, "local-fs.target.requires", mount)); err == nil {
					t.Errorf("the guest does not start without %s", mount)
				}
				if _, err := os.Lstat(filepath.Join(guest, "local-fs.target.wants", mount)); err != nil {
					t.Errorf("%s is not mounted at boot: %v", mount, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(initrd, "initrd-fs.target.requires", "sysroot-nix-store.mount")); err != nil {
				t.Errorf("the initrd does not wait for the image: %v", err)
			}
			wantUnit(t, filepath.Join(initrd, "sysroot-nix-store.mount"), "What=/dev/vda", "Type=ext4", "Options=x-initrd.mount,ro,nodev,nosuid")
		})
	}
}

// The address that mvm puts on the kernel command line, as networkd reads it.
// The gateway is outside of the netmask here.
func TestNixOSNetwork(t *testing.T) {
	for system, f := range readNixOSFacts(t) {
		t.Run(system, func(t *testing.T) {
			root := t.TempDir()
			runSystemd(t, nixosBootArgs(t, f), nil, "/usr/lib/systemd/systemd-network-generator", "--root="+root)
			const file = "/run/systemd/network/70-eth0.network"
			if len(f.Network) != 1 || !strings.HasSuffix(f.Network[0], " "+file) {
				t.Fatalf("what follows the generator is %q", f.Network)
			}
			made, err := filepath.Glob(filepath.Join(root, filepath.Dir(file), "*-eth0.network"))
			if err != nil || len(made) != 1 {
				t.Fatalf("the generator made %v, %v", made, err)
			}
			argv := strings.Fields(strings.TrimPrefix(f.Network[0], "-"))
			argv[len(argv)-1] = made[0] // systemd 252 calls it 90-eth0.network
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", argv, err, out)
			}
			wantUnit(t, made[0], "Name=eth0", "DHCP=no", "Address=10.50.0.10/24", "Gateway=10.60.0.1", "GatewayOnLink=yes",
				"DNS=192.0.2.53", "DNS=192.0.2.54")
		})
	}
}

// The options of sshd, as sshd understands them.
func TestNixOSSSHD(t *testing.T) {
	for system, f := range readNixOSFacts(t) {
		t.Run(system, func(t *testing.T) {
			dir := t.TempDir()
			key := filepath.Join(dir, "key")
			if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			const hostKey = "HostKey /run/secrets/ssh/ssh_host_ed25519_key"
			i := slices.Index(f.SSHD, hostKey)
			if i < 0 {
				t.Fatalf("there is no %s in %q", hostKey, f.SSHD)
			}
			lines := slices.Replace(slices.Clone(f.SSHD), i, i+1, "HostKey "+key)
			config := filepath.Join(dir, "config")
			if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// It wants /run/sshd, which this host may not have.
			const script = `mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -T -f "$0"`
			out, err := exec.Command("unshare", "--mount", "sh", "-c", script, config).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			said := strings.Split(string(out), "\n")
			for _, want := range []string{
				"port 22", "addressfamily inet", "hostkey " + key, "authorizedkeysfile /run/secrets/ssh/authorized_keys",
				"permitrootlogin without-password", "passwordauthentication no", "kbdinteractiveauthentication no",
				"authenticationmethods publickey", "allowusers root",
			} {
				if !slices.Contains(said, want) {
					t.Errorf("sshd does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// wantUnit wants these lines in a unit's file.
func wantUnit(t *testing.T, path string, lines ...string) {
	t.Helper()
	text := string(read(t, path))
	for _, line := range lines {
		if !slices.Contains(strings.Split(text, "\n"), line) {
			t.Errorf("%s has no line %q:\n%s", filepath.Base(path), line, text)
		}
	}
}
