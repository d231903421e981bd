package build

import (
	"strconv"
	"strings"
)

// Labels of everything that mvm makes in an engine.
const (
	labelScope  = "mvm.scope"
	labelTenant = "mvm.tenant"
	labelImage  = "mvm.image" // on volumes: the builder image that filled it
	labelStore  = "mvm.store" // on builder images: whose /nix is
)

// defaultScope stands for the default root in labels, where an empty value
// could not be filtered for.
const defaultScope = "default"

// UID is the user and group that builds inside the container. It is not
// root on purpose: Nix's sandbox needs a /proc without masks, and there uid 0
// may write the host's /proc/sys (core_pattern) without any capability.
const UID = 30000

// readyStore is the label of an image with a store that needs no preparation.
var readyStore = strconv.Itoa(UID)

// mount is one mount of a container. Source is a host path or a volume name.
type mount struct {
	source, target string
	volume         bool
	readOnly       bool
}

// container describes one container run.
type container struct {
	name    string
	labels  [][2]string
	image   string
	user    int
	mounts  []mount
	env     [][2]string
	limits  Limits
	nofile  uint64 // descriptor and process limits; 0 leaves the engine's own
	nproc   uint64
	offline bool
	sandbox bool // loosened as far as Nix's own sandbox needs
	caps    []string
	argv    []string
}

// runArgs renders the one `run` command line of a build.
func runArgs(engine string, c container) []string {
	args := []string{"run", "--rm", "--interactive", "--pull=never", "--name=" + c.name}
	for _, l := range c.labels {
		args = append(args, "--label="+l[0]+"="+l[1])
	}
	user := strconv.Itoa(c.user)
	args = append(args, "--user="+user+":"+user, "--workdir=/", "--cap-drop=ALL")
	for _, name := range c.caps {
		args = append(args, "--cap-add="+name)
	}
	args = append(args, "--security-opt=no-new-privileges")
	if engine != "nerdctl" {
		// On SELinux hosts bind mounts would be unreadable; nerdctl has no labels.
		args = append(args, "--security-opt=label=disable")
		// What a build says is bounded here, but not in an engine's log or the
		// host's journal; nerdctl's older versions know no such driver.
		args = append(args, "--log-driver=none")
	}
	if c.sandbox {
		args = append(args,
			"--security-opt=seccomp=unconfined",
			"--security-opt=apparmor=unconfined",
			"--security-opt=systempaths=unconfined")
	}
	args = append(args, "--read-only", "--tmpfs=/tmp:rw,exec,mode=1777")
	args = append(args, limitArgs(c)...)
	if c.offline {
		args = append(args, "--network=none")
	}
	for _, m := range c.mounts {
		args = append(args, "--mount="+mountArg(m))
	}
	for _, e := range c.env {
		args = append(args, "--env="+e[0]+"="+e[1])
	}
	args = append(args, "--entrypoint="+c.argv[0], c.image)
	return append(args, c.argv[1:]...)
}

func limitArgs(c container) []string {
	mem := strconv.Itoa(c.limits.MemMiB) + "m"
	args := []string{
		"--memory=" + mem,
		"--memory-swap=" + mem,
		"--cpus=" + strconv.FormatFloat(c.limits.CPUs, 'f', -1, 64),
		"--pids-limit=" + strconv.Itoa(c.limits.Pids),
	}
	if c.nofile > 0 {
		args = append(args, ulimit("nofile", c.nofile))
	}
	if c.nproc > 0 {
		args = append(args, ulimit("nproc", c.nproc))
	}
	return args
}

func ulimit(name string, n uint64) string {
	v := strconv.FormatUint(n, 10)
	return "--ulimit=" + name + "=" + v + ":" + v
}

// mountArg renders one --mount value. Its fields are separated by commas, so
// a source with one is quoted as the engines' CSV reader expects.
func mountArg(m mount) string {
	kind := "bind"
	if m.volume {
		kind = "volume"
	}
	source := "source=" + m.source
	if strings.ContainsAny(source, "\",\n") {
		source = `"` + strings.ReplaceAll(source, `"`, `""`) + `"`
	}
	arg := "type=" + kind + "," + source + ",target=" + m.target
	if m.readOnly {
		arg += ",readonly"
	}
	return arg
}

// versionArgs asks the engine's server part for its version. What docker is
// asked for beside it is there to fail with podman.
func versionArgs(engine string) []string {
	if engine == "podman" {
		return []string{"info", "--format", "{{.Version.Version}}"}
	}
	if engine == "nerdctl" {
		return []string{"info", "--format", "{{.ServerVersion}}"}
	}
	return []string{"version", "--format", "{{.Server.Version}} {{.Server.KernelVersion}}"}
}

// listArgs lists the names of this root's containers, running or not. They
// tell the tenants; how labels are printed differs between engines.
func listArgs(scope string) []string {
	return []string{"ps", "--all", "--no-trunc", "--filter", "label=" + labelScope + "=" + scopeLabel(scope),
		"--format", "{{.Names}}"}
}

func removeArgs(name string) []string { return []string{"rm", "--force", name} }

func volumeCreateArgs(name string, labels [][2]string) []string {
	args := []string{"volume", "create"}
	for _, l := range labels {
		args = append(args, "--label="+l[0]+"="+l[1])
	}
	return append(args, name)
}

func volumePathArgs(name string) []string {
	return []string{"volume", "inspect", "--format", "{{.Mountpoint}}", name}
}

func volumeRemoveArgs(name string) []string { return []string{"volume", "rm", "--force", name} }

// volumeListArgs lists the names of this root's volumes.
func volumeListArgs(scope string) []string {
	return []string{"volume", "ls", "--quiet", "--filter", "label=" + labelScope + "=" + scopeLabel(scope)}
}

func imageInspectArgs(ref string) []string {
	return []string{"image", "inspect", ref}
}

func scopeLabel(scope string) string {
	if scope == "" {
		return defaultScope
	}
	return scope
}

// containerName is a pure function of what it is for, so that a second build
// finds what a killed first one left.
func containerName(scope, tenant string) string {
	return "mvm-build-" + scopeLabel(scope) + "-" + tenant
}

// shortID is the first 12 digits of an engine's image id.
func shortID(id string) string {
	_, digits, ok := strings.Cut(id, ":")
	if !ok {
		digits = id
	}
	return digits[:min(12, len(digits))]
}
