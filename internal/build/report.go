package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/run"
)

// maxReport bounds each of the container's reports. They are as untrusted as
// the build that ran beside them, and the largest, a flake's lock, stays in the
// manifest, which every start reads.
const maxReport = 4 << 20

// manifest reads the container's reports. Image, artifacts and end are the
// caller's to fill in.
func (b *builder) manifest(out string) (Manifest, error) {
	m := Manifest{
		Version: ManifestVersion,
		Tenant:  b.req.Tenant, Profile: b.req.Profile, System: b.req.System,
		StartedAt:  b.started.UTC().Truncate(time.Millisecond),
		InputsHash: b.inputsHash(),
		Builder: Builder{
			Engine: b.engine.Name, EngineVersion: b.engine.Version,
			Image: b.req.Image, ImageID: b.image.ID, ImageDigest: b.image.digest(),
			Sandbox: !b.req.NoSandbox, Offline: b.req.Offline, FreshStore: b.req.FreshStore, TrustedKeys: b.req.SubstitutesKeys,
			MemMiB: b.req.Limits.MemMiB, CPUs: b.req.Limits.CPUs, Pids: b.req.Limits.Pids,
			TimeoutSeconds: b.req.Limits.Timeout.Seconds(),
		},
	}
	var err error
	if m.Source, err = b.source(out); err != nil {
		return m, err
	}
	planned, err := readPlan(out)
	if err != nil {
		return m, err
	}
	m.Builder.NixVersion = clean(planned.Nix)
	m.Name = strings.TrimPrefix(planned.Suffix, "-")
	m.Outputs, err = readOutputs(out, planned)
	return m, err
}

// flakeMetadata is what `nix flake metadata --json` says, of Nix 2.8 to 2.34.
type flakeMetadata struct {
	URL      string          `json:"url"`
	Revision string          `json:"revision"`
	DirtyRev string          `json:"dirtyRevision"`
	Locks    json.RawMessage `json:"locks"`
	Locked   struct {
		NARHash string `json:"narHash"`
	} `json:"locked"`
}

// source joins what mvm knows of the source with what Nix says of it.
func (b *builder) source(out string) (Source, error) {
	data, err := readBounded(filepath.Join(out, "metadata.json"), maxReport)
	if err != nil {
		return Source{}, fmt.Errorf("cannot read the build's report: %w", err)
	}
	var meta flakeMetadata
	if err := json.Unmarshal(data, &meta); err != nil {
		return Source{}, fmt.Errorf("cannot read Nix's flake metadata: %w", err)
	}
	lock, err := canonicalLock(meta.Locks)
	if err != nil {
		return Source{}, err
	}
	sum := sha256.Sum256(lock)
	s := Source{
		Ref: b.req.FlakeRef, URL: meta.URL, Revision: meta.Revision, Dirty: meta.DirtyRev != "",
		NARHash: meta.Locked.NARHash, LockHash: hex.EncodeToString(sum[:]), Lock: bytes.TrimSpace(lock),
	}
	if _, err := os.Lstat(filepath.Join(out, "unlocked")); errors.Is(err, fs.ErrNotExist) {
		s.Locked = true
	} else {
		b.warn("the flake's lock file is missing or incomplete: what its inputs mean may change. Run `nix flake lock` and commit flake.lock; --require-lock refuses such a flake")
	}
	if !b.ref.Local {
		return s, nil
	}
	if s.NARHash != b.snapshot.NARHash {
		return Source{}, b.damagedSnapshot(s.NARHash)
	}
	s.URL, s.Revision, s.Dirty, s.Snapshot = b.snapshot.URL, b.snapshot.Revision, b.snapshot.Dirty, b.snapshot.Hash
	return s, nil
}

// damagedSnapshot gets rid of a snapshot that Nix saw something else in, so
// that the next build takes a new one.
func (b *builder) damagedSnapshot(found string) error {
	if err := atomicfile.SetAside(b.snapshot.Path); err != nil {
		return fmt.Errorf("cannot remove the damaged snapshot %s: %w", b.snapshot.Path, err)
	}
	return &Error{Kind: ErrBuild,
		Msg:  fmt.Sprintf("the snapshot %s was damaged: Nix read %s", short(b.snapshot.Hash), found),
		Hint: "it was removed; build again"}
}

// canonicalLock renders a lock as Nix writes flake.lock, so that its hash is
// that of the file where Nix wrote it.
func canonicalLock(raw json.RawMessage) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var lock any
	if err := dec.Decode(&lock); err != nil {
		return nil, fmt.Errorf("cannot read the flake's lock: %w", err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(lock); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func readPlan(out string) (plan, error) {
	data, err := readBounded(filepath.Join(out, "plan"), maxReport)
	if err != nil {
		return plan{}, fmt.Errorf("cannot read the build's report: %w", err)
	}
	return parsePlan(data)
}

// pathInfo is what `nix path-info --json` says of one path. Nix 2.8 lists them,
// later ones key them by path.
type pathInfo struct {
	Path        string `json:"path"`
	NARHash     string `json:"narHash"`
	NARSize     int64  `json:"narSize"`
	ClosureSize int64  `json:"closureSize"`
}

func parsePathInfo(data []byte) (map[string]pathInfo, error) {
	byPath := map[string]pathInfo{}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '[' {
		var list []pathInfo
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("cannot read Nix's path info: %w", err)
		}
		for _, p := range list {
			byPath[p.Path] = p
		}
		return byPath, nil
	}
	if err := json.Unmarshal(data, &byPath); err != nil {
		return nil, fmt.Errorf("cannot read Nix's path info: %w", err)
	}
	return byPath, nil
}

func readOutputs(out string, p plan) ([]Output, error) {
	data, err := readBounded(filepath.Join(out, "paths.json"), maxReport)
	if err != nil {
		return nil, fmt.Errorf("cannot read the build's report: %w", err)
	}
	infos, err := parsePathInfo(data)
	if err != nil {
		return nil, err
	}
	var outputs []Output
	for _, k := range outputKinds {
		planned, ok := p.Outputs[k.kind]
		if !ok {
			continue
		}
		info, ok := infos[planned.Out]
		if !ok {
			return nil, fmt.Errorf("cannot read Nix's path info: %s is missing", planned.Out)
		}
		outputs = append(outputs, Output{
			Attr: outputPrefix + k.kind + p.Suffix, Derivation: planned.Drv, StorePath: planned.Out,
			NARHash: info.NARHash, NARSize: info.NARSize, ClosureSize: info.ClosureSize,
		})
	}
	return outputs, nil
}

// explain turns a container that failed into an error for people.
func (b *builder) explain(ctx context.Context, out string, err error) error {
	switch {
	case errors.Is(err, diskspace.ErrFull):
		return b.filled(ctx)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return &Error{Kind: ErrBuild, Msg: fmt.Sprintf("the build took longer than its limit of %s", b.req.Limits.Timeout),
			Log: b.log.lastWords(), Hint: "raise the limit, or see the log for what took so long"}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	words := b.log.lastWords()
	for _, failure := range b.log.failures {
		what, detail, _ := strings.Cut(failure, " ")
		switch what {
		case "outputs":
			if p, perr := readPlan(out); perr == nil {
				if problem := p.problem(b.req.Tenant, b.req.Profile, b.req.System); problem != nil {
					return problem
				}
			}
		case "output":
			return &Error{Kind: ErrInput, Msg: "cannot use the flake's output " + detail}
		case "lock":
			return &Error{Kind: ErrInput, Msg: "the flake's lock file is missing or does not match its inputs", Log: words,
				Hint: "run `nix flake lock` and commit flake.lock, or leave out --require-lock"}
		case "modified":
			return &Error{Kind: ErrBuild, Msg: "outputs were modified after Nix had built them", Log: words,
				Hint: "a build of this tenant tampers with the store; once the flake is right again, build with a fresh store"}
		case "killed":
			return &Error{Kind: ErrBuild, Msg: "Nix was killed while it evaluated the flake", Log: words, Hint: b.memoryHint()}
		case "evaluate":
			return b.explainEvaluation(out, words)
		}
	}
	return b.explainBuild(words, err)
}

// explainEvaluation tells a flake without packages for this system from one
// that Nix cannot evaluate.
func (b *builder) explainEvaluation(out, words string) error {
	if strings.Contains(words, noSpace) {
		return fullDisk(words)
	}
	if strings.Contains(words, "unable to download") {
		e := &Error{Kind: ErrInput, Msg: "an input of the flake cannot be downloaded", Log: words,
			Hint: "see whether this host reaches it, or give the flake inputs that are on this host"}
		if b.req.Offline {
			e.Hint = "there is no network in the container, since builds are offline (--offline, or build.offline in config.toml): evaluate with network, or give the flake inputs that are on this host"
		}
		return e
	}
	if !strings.Contains(words, "does not provide attribute") {
		return &Error{Kind: ErrInput, Msg: "Nix cannot evaluate the flake", Log: words, Hint: b.linkHint()}
	}
	e := &Error{Kind: ErrInput, Msg: "the flake has no packages." + b.req.System,
		Hint: "a guest needs " + outputPrefix + "kernel, " + outputPrefix + "rootfs and " + outputPrefix + "fc-base outputs in packages." + b.req.System}
	var systems []string
	data, err := readBounded(filepath.Join(out, "systems.json"), 1<<16)
	if err == nil && json.Unmarshal(data, &systems) == nil && len(systems) > 0 {
		sort.Strings(systems)
		e.Hint = clean("it has packages for " + strings.Join(systems, ", "))
	}
	return e
}

// linkHint reminds of links that dangle in the build.
func (b *builder) linkHint() string {
	for _, w := range b.snapshot.Warnings {
		if strings.Contains(w, "symbolic link") {
			return w
		}
	}
	return ""
}

// signs are what Nix or the system says where the cause is not the flake.
var signs = []struct {
	text, msg, hint string
}{
	{"does not support the kernel namespaces", "this host does not let Nix build in its sandbox", sandboxHint},
	{"setting up a private mount namespace", "this host does not let Nix build in its sandbox", sandboxHint},
	{"cannot set host name", "this host does not let Nix build in its sandbox", sandboxHint},
	{"Cannot allocate memory", "the build ran out of memory", "raise the build's memory limit"},
}

const sandboxHint = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or build with --no-sandbox, which lets a build see the network and other builds' files"

// noSpace is how the system words it in the container.
const noSpace = "No space left on device"

func fullDisk(words string) error {
	return &Error{Kind: ErrHost, Msg: "cannot build: the disk is full", Log: words, Hint: "free some space; `mvm gc` removes what nothing uses"}
}

func (b *builder) explainBuild(words string, err error) error {
	if strings.Contains(words, noSpace) {
		return fullDisk(words)
	}
	if told := (*Error)(nil); errors.As(err, &told) {
		return err // it did not come as far as Nix
	}
	for _, s := range signs {
		if strings.Contains(words, s.text) {
			return &Error{Kind: ErrHost, Msg: "cannot build: " + s.msg, Log: words, Hint: s.hint}
		}
	}
	if !b.log.spoke() {
		return &Error{Kind: ErrHost, Msg: "cannot run the build container", Err: withoutArgv(err), Log: words,
			Hint: "see what `" + b.engine.Name + " info` says"}
	}
	e := &Error{Kind: ErrBuild, Msg: "Nix could not build the guest", Log: words, Hint: "the whole log is in " + b.req.LogPath}
	if strings.Contains(words, "failed due to signal 9") || strings.Contains(words, "failed with exit code 137") {
		e.Hint = b.memoryHint()
	}
	return e
}

func (b *builder) memoryHint() string {
	return fmt.Sprintf("it may have needed more memory than the build's limit of %d MiB; the whole log is in %s", b.req.Limits.MemMiB, b.req.LogPath)
}

// withoutArgv leaves out the command line, which holds whole scripts.
func withoutArgv(err error) error {
	var failed *run.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
