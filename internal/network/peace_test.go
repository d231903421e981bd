package network

import (
	"archive/tar"
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/network/probe"
)

// daemon starts a program that ends with the test, and returns its process.
func daemon(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // Pdeathsig fires when the forking thread ends
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(cmd)
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", name, out[max(0, len(out)-1000):])
		}
	})
	return cmd
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// privateCopy lets the test change a folder of the host's without changing it.
func privateCopy(t *testing.T, dir string) {
	t.Helper()
	dup := t.TempDir()
	command(t, "cp", "-a", dir+"/.", dup)
	if err := unix.Mount(dup, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// reaches fails the test if the guest gets no answer from the internet.
func reaches(t *testing.T, cfg Config, g *guest, when string) {
	t.Helper()
	text := []byte("tenant " + when)
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(outsideAddr, 4242), text))
	g.receive(t, when+": the answer from the internet", func(f []byte) bool { return bytes.Contains(f, text) })
}

// denied fails the test if the guest reaches the allowed address, which the
// host's owner has forbidden. The rest of the internet it must reach.
func denied(t *testing.T, cfg Config, g *guest) {
	t.Helper()
	text := []byte("denied by the owner")
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(allowedAddr, 4242), text))
	barrier := []byte("what comes after")
	g.send(t, cfg, probe.UDP(netip.AddrPortFrom(g.IP, 5000), at(outsideAddr, 4242), barrier))
	g.receive(t, "the answer from the internet", func(f []byte) bool {
		if bytes.Contains(f, text) {
			t.Error("what the host's owner denies is let pass")
		}
		return bytes.Contains(f, barrier)
	})
}

// docker is an engine of the test's own.
type docker struct {
	dir string
	cmd *exec.Cmd
}

func (d *docker) run(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, "docker", append([]string{"-H", "unix://" + d.dir + "/docker.sock"}, args...)...)
}

func (d *docker) start(t *testing.T) {
	t.Helper()
	d.cmd = daemon(t, "dockerd", "--data-root", d.dir+"/data", "--exec-root", "/run/docker", "--pidfile", d.dir+"/pid",
		"-H", "unix://"+d.dir+"/docker.sock", "--storage-driver", "vfs")
	eventually(t, "docker answers", func() bool {
		return exec.Command("docker", "-H", "unix://"+d.dir+"/docker.sock", "version").Run() == nil
	})
}

// busybox makes an image of one static program.
func (d *docker) busybox(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "busybox", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "-H", "unix://"+d.dir+"/docker.sock", "import", "-", "busybox")
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestBesideDocker runs a real engine with a real container: tenants and
// containers both work, and neither reaches the other.
func TestBesideDocker(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		d := &docker{dir: t.TempDir()}
		d.start(t)
		d.busybox(t)
		id := strings.TrimSpace(d.run(t, "run", "-d", "--stop-signal", "KILL", "-p", "8081:80", "busybox", "/busybox", "httpd", "-f", "-p", "80", "-h", "/"))
		containerIP := netip.MustParseAddr(strings.TrimSpace(d.run(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", id)))
		if !strings.Contains(command(t, "iptables", "-S", "FORWARD"), "-P FORWARD DROP") {
			t.Fatal("docker has not closed the FORWARD chain, so this test shows nothing")
		}
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		victim := attach(t, cfg, endpoint(cfg, 1, Policy{Mode: Open}))
		watcher := watch(t, g.Name(), victim.Name(), "docker0")
		s := scene(t, cfg.Bridge, cfg.gatewayMAC(), g, victim, watcher)
		s.Containers = append(s.Containers, netip.AddrPortFrom(containerIP, 80))
		s.Published = append(s.Published, at(uplinkAddr, 8081))
		check := func(when string) {
			t.Helper()
			reaches(t, cfg, g, when)
			d.run(t, "exec", id, "/busybox", "ping", "-c", "1", "-W", "2", outsideAddr)
			w.internet.do(t, func() error { // the published port still leads to the container
				conn, err := net.DialTimeout("tcp4", uplinkAddr+":8081", 3*time.Second)
				if err != nil {
					return err
				}
				return conn.Close()
			})
			attackAll(t, when, s, g, watcher)
			clean(t, cfg, g.Endpoint, victim.Endpoint)
		}
		check("docker first")
		stop(d.cmd)
		d.start(t)
		d.run(t, "start", id)
		check("docker restarted")
		d.run(t, "rm", "-f", id)
		goesWhole(t, cfg, "iptables-save")
	})
}

// TestBesideUfw: ufw denies what it does not know, reloads, and is switched on
// after the tenants were attached.
func TestBesideUfw(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		privateCopy(t, "/etc/ufw")
		privateCopy(t, "/etc/default")
		cfg.GatewayPorts = []Service{{Proto: "tcp", Port: 7000}}
		command(t, "ufw", "--force", "enable")
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		check := func(when string) {
			t.Helper()
			reaches(t, cfg, g, when)
			gatewayService(t, w, cfg, g)
			hostConnects(t, w, cfg, g)
			clean(t, cfg, g.Endpoint)
		}
		check("ufw first")
		command(t, "ufw", "reload")
		check("ufw reloaded")
		command(t, "ufw", "--force", "disable")
		check("ufw disabled")
		command(t, "ufw", "--force", "enable")
		if _, err := Reconcile(t.Context(), cfg, []Endpoint{g.Endpoint}); err != nil {
			t.Fatal(err)
		}
		check("ufw enabled again")
		if cfg.Firewall == "nft" { // with iptables, our own chains come first
			command(t, "ufw", "route", "deny", "to", allowedAddr)
			denied(t, cfg, g)
		}
		goesWhole(t, cfg, "iptables-save")
	})
}

// TestBesideFirewalld: its default zone rejects what it does not know.
func TestBesideFirewalld(t *testing.T) {
	eachFirewall(t, func(t *testing.T, cfg Config) {
		w := newWorld(t)
		w.echoServer(t, 4242)
		privateCopy(t, "/etc/firewalld")
		if err := os.MkdirAll("/run/dbus", 0o755); err != nil {
			t.Fatal(err)
		}
		daemon(t, "dbus-daemon", "--system", "--nofork", "--nopidfile")
		eventually(t, "the bus is there", func() bool { _, err := os.Stat("/run/dbus/system_bus_socket"); return err == nil })
		daemon(t, "firewalld", "--nofork", "--nopid")
		eventually(t, "firewalld runs", func() bool { return exec.Command("firewall-cmd", "--state").Run() == nil })
		cfg.GatewayPorts = []Service{{Proto: "tcp", Port: 7000}}
		g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
		check := func(when string) {
			t.Helper()
			reaches(t, cfg, g, when)
			gatewayService(t, w, cfg, g)
			hostConnects(t, w, cfg, g)
			clean(t, cfg, g.Endpoint)
		}
		check("firewalld first")
		command(t, "firewall-cmd", "--reload")
		if cfg.Firewall == "iptables" { // firewalld flushes all of it
			if _, err := Reconcile(t.Context(), cfg, []Endpoint{g.Endpoint}); err != nil {
				t.Fatal(err)
			}
		}
		check("firewalld reloaded")
		if _, err := CleanUp(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if out := command(t, "firewall-cmd", "--zone=trusted", "--list-interfaces", "--permanent"); strings.Contains(out, cfg.Bridge) {
			t.Error("the bridge is still in firewalld's zone")
		}
	})
}

// TestBesideNft: a host with an nftables.conf of its own that denies what it
// does not name.
func TestBesideNft(t *testing.T) {
	if !isolated(t) {
		return
	}
	cfg := testConfig("nft")
	w := newWorld(t)
	w.echoServer(t, 4242)
	const rules = `
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname "lo" accept
		counter reject
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip daddr ` + allowedAddr + ` drop
	}
}`
	load(t, rules)
	g := attach(t, cfg, endpoint(cfg, 0, Policy{Mode: Open}))
	check := func(when string) {
		t.Helper()
		reaches(t, cfg, g, when)
		clean(t, cfg, g.Endpoint)
	}
	check("theirs first")
	load(t, "flush ruleset\n"+rules) // as a restart of nftables.service does
	if _, err := Reconcile(t.Context(), cfg, []Endpoint{g.Endpoint}); err != nil {
		t.Fatal(err)
	}
	check("reloaded")
	denied(t, cfg, g)
	goesWhole(t, cfg, "nft", "list", "ruleset")
}
