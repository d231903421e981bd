package build

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/run"
)

//go:embed builder.sh
var builderScript string

// prepareScript gives a new store, which the engine has filled from the image,
// to the user that builds. The top folder comes last: its owner says that the
// rest is done. Nothing to fill it with leaves it empty, and engines fill an
// empty volume again at every start, owner included: hence the folder.
const prepareScript = `set -eu
nix --version >/dev/null
mkdir -p /nix/var/mvm
chown -R "$1:$1" /nix/*
chown "$1:$1" /nix`

// exitUnprepared is builder.sh's way to say that the store is not prepared.
const exitUnprepared = 97

// searchPath finds Nix in the public image as in Debian's, whose own programs
// come first: what is below /nix is the tenant's to change.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/nix/var/nix/profiles/default/bin"

// nixConfig is what NIX_CONFIG says. It wins over the image's own nix.conf.
func nixConfig(req Request) string {
	cores := strconv.Itoa(max(1, int(math.Ceil(req.Limits.CPUs))))
	lines := []string{
		"experimental-features = nix-command flakes",
		"accept-flake-config = false",
		"auto-optimise-store = false",
		"build-users-group =", // everything runs as one user, who is not root
		"cores = " + cores,
		"max-jobs = " + cores,
		"sandbox = " + strconv.FormatBool(!req.NoSandbox),
		"sandbox-fallback = false",
		"flake-registry = /tmp/registry.json", // holds the flake itself at most
		"warn-dirty = false",
		"require-sigs = true",
	}
	switch {
	case req.Substitutes != "" && req.Offline:
		// Without a network Nix gives up local substituters, too, unless told.
		lines = append(lines, "substitute = true", "substituters = file://"+substitutesDir)
	case req.Substitutes != "":
		lines = append(lines, "extra-substituters = file://"+substitutesDir)
	case req.Offline:
		lines = append(lines, "substitute = false")
	}
	if req.Substitutes != "" {
		lines = append(lines, "fallback = true") // what is damaged there is built here
	}
	if len(req.SubstitutesKeys) > 0 {
		lines = append(lines, "extra-trusted-public-keys = "+strings.Join(req.SubstitutesKeys, " "))
	}
	return strings.Join(lines, "\n")
}

// substitutesDir is where a container finds Request.Substitutes.
const substitutesDir = "/substitutes"

// ulimits are limits for podman, which otherwise sets its own defaults and
// fails where it may not raise them. Zero leaves the engine's. They bound one
// user on the whole host; what bounds a build is its cgroup.
func ulimits(engine Engine) (nofile, nproc uint64) {
	if engine.Name != "podman" {
		return 0, 0
	}
	const most = 1 << 14
	cut := func(resource int) uint64 {
		var r unix.Rlimit
		if unix.Getrlimit(resource, &r) != nil {
			return most
		}
		return min(uint64(r.Max), most)
	}
	return cut(unix.RLIMIT_NOFILE), cut(unix.RLIMIT_NPROC)
}

// engineRun is what one container run needs to know.
type engineRun struct {
	engine Engine
	c      container
	log    *nixLog
}

// graceful is how long a container may take to end by itself once its standard
// input has ended.
const graceful = 5 * time.Second

// run starts the container and waits for its end. When ctx ends, the container
// has ended, too, before run returns.
func (r engineRun) run(ctx context.Context) error {
	stdin, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	defer hold.Close()
	clientCtx, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	ended := make(chan error, 1)
	go func() {
		ended <- run.Run(clientCtx, run.Command{
			Name: r.engine.Path, Args: runArgs(r.engine.Name, r.c),
			Stdin: stdin, Stderr: r.log,
		})
	}()
	select {
	case err := <-ended:
		r.log.finish()
		return err
	case <-ctx.Done():
	}
	hold.Close() // builder.sh ends when its standard input does
	select {
	case <-ended:
	case <-time.After(graceful):
		kill()
		<-ended
	}
	r.log.finish()
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(ctx.Err(), removeContainer(cleanup, r.engine, r.c.name))
}

// feed runs a container that reads its standard input to the end. A kill of
// mvm does not end it, so it is only for what ends soon by itself.
func (r engineRun) feed(ctx context.Context, stdin io.Reader) error {
	err := run.Run(ctx, run.Command{Name: r.engine.Path, Args: runArgs(r.engine.Name, r.c), Stdin: stdin, Stderr: r.log})
	r.log.finish()
	if ctx.Err() == nil {
		return err
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, removeContainer(cleanup, r.engine, r.c.name))
}

// removeContainer kills and removes a container; an absent one is fine.
func removeContainer(ctx context.Context, engine Engine, name string) error {
	_, err := engine.output(ctx, removeArgs(name)...)
	var failed *run.Error
	if errors.As(err, &failed) {
		said := strings.ToLower(failed.Stderr)
		if strings.Contains(said, "no such container") || strings.Contains(said, "no container with name") ||
			strings.Contains(said, "already in progress") {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove build container: %w", err)
	}
	return nil
}

// SweepContainers removes the build containers of this root whose mvm is gone,
// and returns their names. A build that runs holds its tenant's lock, which is
// how the two are told apart.
func SweepContainers(ctx context.Context, engine Engine, scope string, tryLock TryLock) ([]string, error) {
	return sweepContainers(ctx, engine, scope, tryLock, "")
}

// sweepContainers takes the container of own, whose lock the caller holds, for
// one that nobody runs.
func sweepContainers(ctx context.Context, engine Engine, scope string, tryLock TryLock, own string) ([]string, error) {
	out, err := engine.output(ctx, listArgs(scope)...)
	if err != nil {
		return nil, fmt.Errorf("cannot list build containers: %w", err)
	}
	var swept []string
	for _, name := range strings.Fields(out) {
		tenant, ok := strings.CutPrefix(name, containerName(scope, ""))
		if !ok || !labelPattern.MatchString(tenant) || tenant != own && tryLock == nil {
			continue
		}
		remove := func() error { return removeContainer(ctx, engine, name) }
		done := true
		if tenant == own {
			err = remove()
		} else {
			done, err = tryLock.do(tenant, remove)
		}
		if err != nil {
			return swept, err
		}
		if done {
			swept = append(swept, name)
		}
	}
	return swept, nil
}

// do does act where no build of the tenant runs, and says whether it did.
func (try TryLock) do(tenant string, act func() error) (bool, error) {
	release, ok, err := try(tenant)
	if err != nil || !ok {
		return false, err
	}
	defer release()
	return true, act()
}
