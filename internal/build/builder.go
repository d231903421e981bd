package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/crash"
	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/run"
	"github.com/auser/mvm/internal/source"
)

// builder is one run of Build.
type builder struct {
	req     Request
	ref     source.Ref
	emit    Progress
	started time.Time

	engine   Engine
	image    Image
	snapshot source.Snapshot // zero for a remote source
	only     *Evaluation     // instead of a build
	log      *nixLog
	warnings []string
}

var (
	labelPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	instancePattern = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

func newBuilder(req Request, progress Progress) (*builder, error) {
	b := &builder{req: req, started: time.Now(), emit: progress}
	if b.emit == nil {
		b.emit = func(Event) {}
	}
	r := &b.req
	if r.Profile == "" {
		r.Profile = DefaultProfile
	}
	if r.System == "" {
		r.System = HostSystem()
	}
	if r.Image == "" {
		r.Image = DefaultImage
	}
	r.Limits = r.Limits.withDefaults()
	for what, id := range map[string]string{"tenant": r.Tenant, "profile": r.Profile} {
		if !labelPattern.MatchString(id) {
			return nil, &Error{Kind: ErrInput, Msg: fmt.Sprintf("cannot build: %q is no %s", id, what),
				Hint: "use 1 to 63 lower-case letters, digits and inner dashes"}
		}
	}
	if !instancePattern.MatchString(r.Instance) {
		return nil, fmt.Errorf("cannot build: %q is no instance of a tenant", r.Instance)
	}
	if r.System != "x86_64-linux" && r.System != "aarch64-linux" {
		return nil, &Error{Kind: ErrInput, Msg: fmt.Sprintf("cannot build for %q", r.System),
			Hint: "the systems are x86_64-linux and aarch64-linux"}
	}
	if err := checkImageRef(r.Image); err != nil {
		return nil, err
	}
	for _, key := range r.SubstitutesKeys {
		if !publicKey.MatchString(key) {
			return nil, &Error{Kind: ErrInput, Msg: fmt.Sprintf("%q is no public key of a store", key), Hint: "it looks like name:base64"}
		}
	}
	var err error
	b.ref, err = source.Parse(r.FlakeRef, "/")
	return b, err
}

// HostSystem is Nix's name for the guests that this host runs natively.
func HostSystem() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64-linux"
	}
	return "x86_64-linux"
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	if l.MemMiB > 0 {
		d.MemMiB = l.MemMiB
	}
	if l.CPUs > 0 {
		d.CPUs = l.CPUs
	}
	if l.Pids > 0 {
		d.Pids = l.Pids
	}
	if l.Timeout > 0 {
		d.Timeout = l.Timeout
	}
	return d
}

// run is the recipe. Nothing of what it does is visible to others before
// publish, and everything before that may be left behind by a kill: it is
// swept by the next build or by GC.
func (b *builder) run(ctx context.Context) (Manifest, Result, error) {
	m, res, err := b.steps(ctx)
	res.Warnings, res.Elapsed = b.warnings, time.Since(b.started)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrHost) {
			err = &Error{Kind: ErrHost, Msg: "cannot build: the disk is full", Err: err, Hint: "free some space, `mvm gc` removes what nothing uses"}
		}
		return Manifest{}, res, err
	}
	if b.log != nil {
		b.log.enter(PhaseDone, "")
	} else {
		b.event(PhaseDone, Entered, "")
	}
	return m, res, nil
}

func (b *builder) steps(ctx context.Context) (Manifest, Result, error) {
	held, err := b.takeSource(ctx)
	if err != nil {
		return Manifest{}, Result{}, err
	}
	if held != nil {
		defer held.Close()
	}
	crash.Point("build/snapshot")
	if m, ok, err := b.upToDate(); ok || err != nil {
		return m, Result{UpToDate: ok}, err
	}
	if err := b.findEngine(ctx); err != nil {
		return Manifest{}, Result{}, err
	}
	return b.build(ctx)
}

// takeSource snapshots a local source and holds it against GC.
func (b *builder) takeSource(ctx context.Context) (*os.File, error) {
	if !b.ref.Local {
		return nil, nil
	}
	b.event(PhaseSnapshot, Entered, b.ref.Path)
	for {
		s, err := source.Take(ctx, b.req.FlakeRef, b.req.SrcDir)
		if err != nil {
			return nil, err
		}
		held, err := atomicfile.HoldDir(s.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // collected between the two
		}
		if err != nil {
			return nil, err
		}
		b.snapshot = s
		for _, w := range s.Warnings {
			b.warn(w)
		}
		return held, nil
	}
}

// upToDate tells whether the previous manifest still says it all: the same
// locked source, profile and builder, and sound artifacts.
func (b *builder) upToDate() (Manifest, bool, error) {
	p := b.req.PreviousManifest
	if p == nil || b.req.Force || b.req.FreshStore && !p.Builder.FreshStore || b.req.Check && !p.Checked || !p.Source.Locked ||
		!pinned(b.req.Image) || !b.ref.Local && !b.ref.Immutable ||
		p.InputsHash != b.inputsHash() {
		return Manifest{}, false, nil
	}
	held, err := atomicfile.HoldDir(filepath.Join(b.req.ImagesDir, p.Image))
	if err != nil {
		return Manifest{}, false, nil // gone: build it again
	}
	defer held.Close()
	if Verify(*p, b.req.ImagesDir, VerifyQuick) != nil {
		return Manifest{}, false, nil // damaged: build it again
	}
	return *p, true, b.commit(*p)
}

// inputsHash is over everything that decides what a build makes.
func (b *builder) inputsHash() string {
	h := sha256.New()
	source := b.req.FlakeRef
	if b.ref.Local {
		source = b.snapshot.Hash + "?dir=" + b.snapshot.FlakeDir
	}
	fmt.Fprintf(h, "mvm inputs 1\n%q\n%q\n%q\n%q\n%q\n%t\n",
		source, b.req.Tenant, b.req.Profile, b.req.System, b.req.Image, b.req.NoSandbox)
	return hex.EncodeToString(h.Sum(nil))
}

func (b *builder) commit(m Manifest) error {
	if b.req.Commit == nil {
		return nil
	}
	if err := b.req.Commit(m); err != nil {
		return fmt.Errorf("cannot record build: %w", err)
	}
	return nil
}

// findEngine makes sure that there is an engine with the builder image.
func (b *builder) findEngine(ctx context.Context) error {
	var err error
	if b.engine, err = Detect(ctx, b.req.Engine); err != nil {
		return err
	}
	if b.image, err = ShowImage(ctx, b.engine, b.req.Image); err != nil {
		return err
	}
	if b.image.Present {
		return nil
	}
	absent := &Error{Kind: ErrHost, Msg: fmt.Sprintf("%s has no builder image %s", b.engine.Name, b.req.Image),
		Hint: "`mvm builder pull` fetches the public one, `mvm builder build-local` makes one from Debian packages"}
	if b.req.Offline || !strings.Contains(b.req.Image, "@sha256:") {
		return absent
	}
	b.event(PhaseContainer, Step, "pulling "+b.req.Image)
	b.image, err = PullImage(ctx, b.engine, b.req.Image)
	return err
}

// build runs the container and turns what it wrote into a published image.
func (b *builder) build(ctx context.Context) (Manifest, Result, error) {
	logFile, err := openLog(b.req.LogPath)
	if err != nil {
		return Manifest{}, Result{}, err
	}
	defer logFile.Close()
	b.log = newNixLog(b.collect, logFile, b.started)

	out, err := b.outFolder()
	if err != nil {
		return Manifest{}, Result{}, err
	}
	defer os.RemoveAll(out) // a failure is swept by the next build
	crash.Point("build/out")
	if err := b.runContainer(ctx, out); err != nil {
		return Manifest{}, Result{}, b.explain(ctx, out, err)
	}
	crash.Point("build/container")
	m, err := b.manifest(out)
	if err != nil {
		return Manifest{}, Result{}, err
	}
	b.log.enter(PhaseVerify, "")
	if b.req.Check {
		if err := b.checkSame(out); err != nil {
			return Manifest{}, Result{}, err
		}
		m.Checked = true
	}
	image, err := publish(out, b.req.ImagesDir, b.req.System, b.req.CheckBaseConfig)
	if err != nil {
		return Manifest{}, Result{}, err
	}
	defer image.release()
	crash.Point("build/publish")
	m.Image, m.Artifacts, m.EndedAt = image.hash, image.artifacts, time.Now().UTC().Truncate(time.Millisecond)
	b.log.enter(PhasePublish, short(image.hash))
	return m, Result{UpToDate: !image.isNew && b.nothingNew(m), Published: image.isNew}, b.commit(m)
}

// nothingNew says whether Nix found everything built and the tenant has it.
func (b *builder) nothingNew(m Manifest) bool {
	p := b.req.PreviousManifest
	return p != nil && p.Image == m.Image && b.log.built == 0
}

// runContainer runs the build. One that finds its store not prepared, or half,
// is tried again with a new one.
func (b *builder) runContainer(ctx context.Context, out string) error {
	ctx, cancel := context.WithTimeout(ctx, b.req.Limits.Timeout)
	defer cancel()
	if err := b.makeRoom(ctx); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := b.watchRoom(ctx, out, end); err != nil {
		return err
	}
	b.log.enter(PhaseContainer, b.image.Ref)
	err := engineRun{b.engine, b.container(out), b.log}.run(ctx)
	if run.ExitCode(err) == exitUnprepared && ctx.Err() == nil {
		if err = b.newStore(ctx, true); err == nil {
			err = engineRun{b.engine, b.container(out), b.log}.run(ctx)
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, diskspace.ErrFull) {
		return cause
	}
	return err
}

func (b *builder) labels() [][2]string {
	return [][2]string{
		{labelScope, scopeLabel(b.req.Scope)}, {labelTenant, b.req.Tenant}, {labelImage, b.image.ID},
	}
}

func (b *builder) container(out string) container {
	ref, registry := b.req.FlakeRef, source.EmptyRegistry
	mounts := []mount{b.storeMount()}
	if b.ref.Local {
		ref, registry = b.snapshot.NixRef()
		mounts = append(mounts, mount{source: b.snapshot.Path, target: "/src", readOnly: true})
	}
	if b.req.CacheDir != "" {
		mounts = append(mounts, mount{source: b.req.CacheDir, target: "/cache", readOnly: true})
	}
	if b.req.Substitutes != "" {
		mounts = append(mounts, mount{source: b.req.Substitutes, target: substitutesDir, readOnly: true})
	}
	mounts = append(mounts, mount{source: out, target: "/out"})
	nofile, nproc := ulimits(b.engine)
	argv := []string{"sh", "-c", builderScript, "mvm-build", ref, registry}
	if b.only != nil {
		argv = append(argv, b.only.Expr, "packages", oneOrZero(b.req.RequireLock), "0", "1")
		for n, o := range b.only.Inputs {
			mounts = append(mounts, mount{source: o.Folder, target: inputTarget(n), readOnly: true})
			argv = append(argv, "--override-input", o.Input, "path:"+inputTarget(n))
		}
	} else {
		argv = append(argv, pickExpr(b.req.Tenant, b.req.Profile), "packages."+b.req.System,
			oneOrZero(b.req.RequireLock), oneOrZero(b.req.Check), "0")
	}
	return container{
		name:   containerName(b.req.Scope, b.req.Tenant),
		labels: b.labels(),
		image:  b.engine.imageName(b.image),
		user:   UID,
		mounts: mounts,
		env: [][2]string{
			{"PATH", searchPath},
			{"LC_ALL", "C.UTF-8"},
			{"USER", "mvm"}, // Nix 2.8 wants a name, and the image knows none for this user
			{"NIX_REMOTE", "local"},
			{"NIX_CONFIG", nixConfig(b.req)},
			{"NIX_USER_CONF_FILES", ""}, // none: an earlier build could have left one
		},
		limits: b.req.Limits, nofile: nofile, nproc: nproc,
		offline: b.req.Offline,
		sandbox: !b.req.NoSandbox,
		argv:    argv,
	}
}

func oneOrZero(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// collect passes events on and keeps the warnings among them.
func (b *builder) collect(e Event) {
	if e.Kind == Warning && len(b.warnings) < maxWarnings {
		b.warnings = append(b.warnings, cut(e.Text))
	}
	b.emit(e)
}

func (b *builder) warn(text string) {
	b.warnings = append(b.warnings, text)
	b.event(PhaseSnapshot, Warning, text)
}

func (b *builder) event(p Phase, kind EventKind, text string) {
	b.emit(Event{Phase: p, Kind: kind, Text: clean(text), Elapsed: time.Since(b.started)})
}
