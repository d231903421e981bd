package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/cgroup"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/network"
	"github.com/auser/mvm/internal/ssh"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
	"github.com/auser/mvm/internal/vmm/jail"
	"github.com/auser/mvm/internal/volume"
)

// launch is one run of the VM while it is put together.
type launch struct {
	*supervisor
	state    tenant.State
	manifest build.Manifest
	driver   vmm.Driver
	version  string // of the VMM
	base     fcconfig.Base
	config   fcconfig.Config
	cgroup   *cgroup.Group
	jail     string // its root
	vm       vmm.VM

	detail map[string]any // for the audit record
}

// bringUp makes everything that has the VM's lifetime, in this order. What it
// made is taken away by s.down, also after a failure.
func (s *supervisor) bringUp(ctx context.Context) (*launch, error) {
	l := &launch{supervisor: s, jail: jail.Root(s.t.JailDir(), tenant.ShortHash(s.t.ID))}
	s.down.Clear()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"state", l.load},
		{"verify", l.verify},
		{"network", l.attachNetwork},
		{"data", l.prepareData},
		{"volumes", l.prepareVolumes},
		{"config", l.writeConfig},
		{"jail", l.makeJail},
		{"secrets", l.makeSecrets},
		{"cgroup", l.makeCgroup},
		{"vmm", l.startVMM},
	} {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return l, err
		}
		s.did(step.name, began)
		crash.Point("supervisor/" + step.name)
	}
	return l, nil
}

// load reads what this run is to be.
func (l *launch) load(context.Context) error {
	var err error
	if l.state, err = l.store.LoadState(l.t.ID); err != nil {
		return err
	}
	data, err := os.ReadFile(l.t.Manifest())
	if err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	manifestSHA256 := store.SHA256(data)
	if !l.state.Artifacts.Recorded(manifestSHA256) {
		return changed(fmt.Errorf("the manifest %s is not that of the last build: somebody changed it", l.t.Manifest()))
	}
	if l.manifest, err = build.DecodeManifest(data); err != nil {
		return err
	}
	l.useImage()
	if l.driver, err = Driver(l.supervisor.config); err != nil {
		return err
	}
	l.detail = map[string]any{
		"tier": l.supervisor.config.Tier, "no_jailer": l.supervisor.config.VMM.NoJailer, "spec": l.state.Spec,
		"image": l.manifest.Image, "artifacts": l.manifest.Artifacts, "manifest_sha256": manifestSHA256,
		"flake_lock_hash": l.manifest.Source.LockHash, "source_nar_hash": l.manifest.Source.NARHash, "nix_store_paths": l.manifest.StorePaths(),
	}
	return nil
}

// recordStart writes down what is about to run, when all is ready for it but
// the guest has not run yet.
func (l *launch) recordStart(version string) error {
	began := time.Now()
	l.version = l.driver.Name() + " " + version
	l.detail["vmm"] = l.version
	if err := l.record("start", l.detail, nil); err != nil {
		return err
	}
	l.did("audit", began)
	crash.Point("supervisor/audit")
	return nil
}

// useImage makes the paths those of the very image that is verified and
// recorded, whatever the tenant's links say.
func (l *launch) useImage() {
	path := func(name string) string {
		if _, there := l.manifest.Artifact(name); !there {
			return ""
		}
		return filepath.Join(l.store.ImagesDir(), l.manifest.Image, name)
	}
	a := &l.state.Artifacts
	a.KernelPath, a.RootfsPath, a.InitrdPath, a.FCBaseConfig = path(build.Kernel), path(build.Rootfs), path(build.Initrd), path(build.BaseConfig)
}

// changed refuses artifacts that are not what was built. With which command they
// are built anew is for whoever started this to say.
func changed(err error) error { return &fault.Error{Kind: build.ErrChanged, Err: err} }

// verify refuses artifacts that changed since the build.
func (l *launch) verify(context.Context) error {
	return build.Verify(l.manifest, l.store.ImagesDir(), build.VerifyQuick)
}

func (l *launch) attachNetwork(ctx context.Context) error {
	cfg := NetworkConfig(l.store, l.supervisor.config)
	cfg.Did = l.did
	ep, err := Endpoint(l.state)
	if err != nil {
		return err
	}
	l.down.Push("detach the network", func(ctx context.Context) error {
		shared, err := l.store.ShareNetwork(ctx)
		if err != nil {
			return err
		}
		defer shared.Unlock()
		return network.Detach(ctx, cfg, ep)
	})
	shared, err := l.store.ShareNetwork(ctx)
	if err != nil {
		return err
	}
	defer shared.Unlock()
	host, err := l.store.LockHost(ctx) // the bridge is shared by all
	if err != nil {
		return err
	}
	defer host.Unlock()
	// While this run waited for its turn, or was prepared, somebody may have set
	// another policy.
	now, err := l.store.LoadState(l.t.ID)
	if err != nil {
		return err
	}
	l.state.Spec.Egress = now.Spec.Egress
	l.detail["spec"] = l.state.Spec
	if ep.Policy, err = Policy(now.Spec.Egress); err != nil {
		return err
	}
	changes, err := network.Attach(ctx, cfg, ep)
	for _, c := range changes {
		l.log.Info("network", "change", c.String())
	}
	return err
}

func (l *launch) prepareData(ctx context.Context) error {
	// The lock is kept while the VMM runs, since no VMM takes one itself.
	lock, report, err := volume.Acquire(ctx, l.t.DataVolume())
	if err != nil {
		return err
	}
	l.down.Push("unlock the data volume", func(context.Context) error { return lock.Close() })
	if report.Note != "" {
		l.tell(Progress{Note: report.Note})
		l.log.Info("data volume", "note", report.Note)
	}
	return nil
}

// writeConfig merges the flake's base configuration with this run's values.
func (l *launch) writeConfig(context.Context) error {
	data, err := os.ReadFile(l.state.Artifacts.FCBaseConfig)
	if err != nil {
		return fmt.Errorf("cannot read the base configuration: %w", err)
	}
	if l.base, err = fcconfig.Parse(data); err != nil {
		return fmt.Errorf("the flake's base configuration is refused: %w", err)
	}
	rt, err := l.runtimeValues()
	if err != nil {
		return err
	}
	if l.config, err = fcconfig.Final(l.base, rt); err != nil {
		return fmt.Errorf("cannot put the configuration together: %w", err)
	}
	return atomicfile.Write(l.t.FinalConfig(), l.config.JSON(), 0o600)
}

func (l *launch) runtimeValues() (fcconfig.Runtime, error) {
	ip, err := netip.ParseAddr(l.state.Net.IP)
	if err != nil {
		return fcconfig.Runtime{}, fmt.Errorf("the state's address %q: %w", l.state.Net.IP, err)
	}
	cfg := NetworkConfig(l.store, l.supervisor.config)
	servers, err := cfg.Resolvers()
	if err != nil && !errors.Is(err, network.ErrNoResolver) { // a guest without DNS may be what is wanted
		return fcconfig.Runtime{}, err
	}
	rt := fcconfig.Runtime{
		Kernel: jail.Kernel, Rootfs: jail.Rootfs, Data: jail.Data, Secrets: jail.Secrets,
		VCPUs: l.state.Spec.VCPUs, MemMiB: l.state.Spec.MemMiB,
		Volumes: l.volumes(),
		TAP:     l.state.Net.TAP, MAC: l.state.Net.MAC,
		Boot: fcconfig.BootWords{
			IP: ip, Gateway: cfg.Gateway(), Bits: cfg.Subnet.Bits(), DNS: servers[:min(len(servers), 2)],
			Hostname: l.t.ID, MachineID: tenant.MachineID(l.store.Scope, l.t.ID),
		},
	}
	tune(&rt, l.state.Spec.Machine)
	if l.state.Artifacts.InitrdPath != "" {
		rt.Initrd = jail.Initrd
	}
	return rt, nil
}

// makeJail puts the VMM's root together in this process's mount namespace.
func (l *launch) makeJail(context.Context) error {
	needs, err := l.driver.Needs()
	if err != nil {
		return err
	}
	l.down.Push("remove the jail", func(context.Context) error { return jail.Remove(l.jail) })
	return jail.Make(jail.Spec{
		Root: l.jail, UID: l.state.UID, GID: l.state.UID,
		Kernel: l.state.Artifacts.KernelPath, Rootfs: l.state.Artifacts.RootfsPath, Initrd: l.state.Artifacts.InitrdPath,
		Data: l.t.DataVolume(), Volumes: l.volumeFiles(), SizeMiB: jailMiB, Needs: needs,
	})
}

// jailMiB bounds the jail's tmpfs, which holds the secrets and little else.
const jailMiB = 64

// makeSecrets writes the secrets' disk into the jail's tmpfs: into memory, and
// invisible outside of this mount namespace.
func (l *launch) makeSecrets(ctx context.Context) error {
	files, err := l.secretFiles()
	if err != nil {
		return err
	}
	return volume.MakeSecrets(ctx, filepath.Join(l.jail, jail.Secrets), files, l.state.UID, l.state.UID)
}

func (s *supervisor) secretFiles() ([]volume.File, error) {
	var files []volume.File
	data, err := os.ReadFile(s.t.SecretsFile())
	switch {
	case errors.Is(err, fs.ErrNotExist): // none but ssh/
	case err != nil:
		return nil, fmt.Errorf("cannot read the secrets: %w", err)
	default:
		sealer, err := Sealer(s.config)
		if err != nil {
			return nil, err
		}
		if data, err = sealer.Open(data); err != nil {
			return nil, err
		}
		if files, err = volume.ParseSecrets(data); err != nil {
			return nil, err
		}
	}
	own, err := ssh.GuestFiles(s.t.SSHDir())
	if err != nil {
		return nil, err
	}
	for _, f := range own {
		files = append(files, volume.File{Path: "ssh/" + f.Name, Data: f.Data})
	}
	return files, nil
}

func (l *launch) makeCgroup(ctx context.Context) error {
	host, err := cgroup.Detect()
	if err != nil {
		return err
	}
	overhead := max(l.driver.OverheadMiB(l.config), l.supervisor.config.Limits.VMMOverheadMiB)
	group, err := host.Create(CgroupParent(l.store), tenant.ShortHash(l.t.ID), cgroup.Limits{
		CPUs:        l.state.Spec.VCPUs,
		MemoryBytes: uint64(l.state.Spec.MemMiB+overhead) << 20,
		Pids:        l.state.Spec.VCPUs + l.supervisor.config.Limits.VMMPids,
	})
	if err != nil {
		return err
	}
	l.cgroup = group
	l.down.Push("remove the cgroup", group.Remove)
	return nil
}

func (l *launch) startVMM(ctx context.Context) error {
	// A guest can make its VMM talk: this log is bounded like the console's.
	log, err := l.openLog(l.t.VMMLog())
	if err != nil {
		return fmt.Errorf("cannot open the VMM's log: %w", err)
	}
	l.down.Push("close the VMM's log", func(context.Context) error { return log.Close() })
	vm, err := l.driver.Start(ctx, vmm.Machine{
		ID: tenant.ShortHash(l.t.ID), UID: l.state.UID, GID: l.state.UID,
		Jail: l.jail, Config: l.config, Cgroup: l.cgroup,
		Console: l.console, Log: log, Record: l.recordStart, Did: l.did,
	})
	if err != nil {
		return err
	}
	l.vm = vm
	l.down.Push("end the VMM", func(context.Context) error {
		if err := vm.Kill(); err != nil {
			return err
		}
		<-vm.Done()
		return nil
	})
	// The supervisor's own protection from the out-of-memory killer was
	// inherited; a guest has none.
	adj := fmt.Sprintf("/proc/%d/oom_score_adj", vm.Process().ID().PID)
	if err := os.WriteFile(adj, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have ended already
		return fmt.Errorf("cannot make the VMM killable when memory runs out: %w", err)
	}
	return nil
}

// askGuest asks the guest over SSH, for VMMs without a way of their own.
func (s *supervisor) askGuest(ctx context.Context) error {
	state, err := s.store.LoadState(s.t.ID)
	if err != nil {
		return err
	}
	_, err = ssh.Exec(ctx, ssh.Target{ID: s.t.ID, Addr: state.Net.IP, Dir: s.t.SSHDir()}, "poweroff")
	if errors.Is(err, ssh.ErrNoStatus) {
		return nil // it was faster than its answer
	}
	return err
}

// Endpoint is the tenant's place in the network.
func Endpoint(state tenant.State) (network.Endpoint, error) {
	mac, err := net.ParseMAC(state.Net.MAC)
	if err != nil {
		return network.Endpoint{}, fmt.Errorf("the state's MAC address: %w", err)
	}
	ip, err := netip.ParseAddr(state.Net.IP)
	if err != nil {
		return network.Endpoint{}, fmt.Errorf("the state's address: %w", err)
	}
	policy, err := Policy(state.Spec.Egress)
	return network.Endpoint{TAP: state.Net.TAP, MAC: mac, IP: ip, UID: state.UID, GID: state.UID, Policy: policy}, err
}
