// Package source turns a flake reference into the source that a build sees: an
// immutable snapshot of a local folder, named by the hash that Nix gives the
// same tree.
//
// It knows git and Nix's archive format. It must not know of containers, of
// tenants, or where snapshots are kept.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/auser/mvm/internal/fault"
)

// Ref is a parsed flake reference.
type Ref struct {
	raw string

	// A local one names a folder that mvm snapshots itself.
	Local bool
	Path  string // absolute
	dir   string // ?dir=, slash-separated, relative to the tree's root; "" is not given
	rev   string // with git+file: this commit instead of the working tree
	ref   string // with git+file: this branch or tag

	// A remote one is Nix's business; immutable ones name a commit.
	Immutable bool
}

// remoteSchemes are those that Nix fetches over the network without help from
// the host's registry, keys or daemons.
var remoteSchemes = []string{
	"github:", "gitlab:", "sourcehut:",
	"git+https:", "git+http:", "git+ssh:", "git:",
	"tarball+https:", "tarball+http:", "https:", "http:",
}

var (
	fullRevision = regexp.MustCompile(`^[0-9a-f]{40}$`)
	schemeLike   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)
)

const refHint = "use a folder such as . or ./guest, path:/abs/dir, git+file:///repo, git+https://host/repo.git or github:owner/repo[/rev]"

func badRef(ref, why string) error {
	return &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("flake reference %q %s", ref, why), Hint: refHint}
}

// Abs makes a local flake reference independent of the working directory,
// which is dir here. Remote ones come back as they are. It looks at the text
// only, not at what is there.
func Abs(ref, dir string) (string, error) {
	r, err := Parse(ref, dir)
	if err != nil {
		return "", err
	}
	if !r.Local {
		return ref, nil
	}
	return r.String(), nil
}

// NamesCommit says whether a local reference is of a commit, branch or tag, and
// not of what is in the folder now.
func (r Ref) NamesCommit() bool { return r.rev != "" || r.ref != "" }

// String renders a local reference in absolute form.
func (r Ref) String() string {
	if !r.Local {
		return r.raw
	}
	query := url.Values{}
	for _, kv := range [][2]string{{"dir", r.dir}, {"ref", r.ref}, {"rev", r.rev}} {
		if kv[1] != "" {
			query.Set(kv[0], kv[1])
		}
	}
	scheme := ""
	switch {
	case r.NamesCommit():
		scheme = "git+file://"
	case len(query) > 0, strings.ContainsAny(r.Path, "?#%"):
		scheme = "path:"
	default:
		return r.Path
	}
	s := scheme + (&url.URL{Path: r.Path}).EscapedPath()
	if len(query) > 0 {
		s += "?" + query.Encode()
	}
	return s
}

// Parse reads ref as a person writes it; local paths are taken from dir.
func Parse(ref, dir string) (Ref, error) {
	r := Ref{raw: ref}
	switch {
	case ref == "":
		return r, badRef(ref, "is empty")
	case strings.ContainsFunc(ref, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return r, badRef(ref, "has control characters")
	case strings.Contains(ref, "#"):
		return r, &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("flake reference %q names an output", ref),
			Hint: "leave out what follows #; --profile chooses the guest"}
	}
	for _, scheme := range remoteSchemes {
		if strings.HasPrefix(ref, scheme) {
			return parseRemote(r)
		}
	}
	for _, scheme := range []string{"path:", "git+file:"} {
		if rest, ok := strings.CutPrefix(ref, scheme); ok {
			return parseLocalURL(r, scheme, rest, dir)
		}
	}
	if schemeLike.MatchString(ref) {
		return r, badRef(ref, "has a scheme that mvm does not know")
	}
	if ref[0] != '.' && ref[0] != '/' {
		return r, &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("flake reference %q is neither a path nor a URL", ref),
			Hint: "write ./" + ref + " for a folder; names from Nix's flake registry are not used, because they can change"}
	}
	path, query, _ := strings.Cut(ref, "?")
	return withQuery(r, path, query, dir, false)
}

func parseRemote(r Ref) (Ref, error) {
	if strings.ContainsAny(r.raw, " \"'`\\<>^{}|") {
		return r, badRef(r.raw, "has characters that a URL cannot have")
	}
	path, query, _ := strings.Cut(r.raw, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return r, badRef(r.raw, "has a query that cannot be read")
	}
	parts := strings.Split(path, "/")
	r.Immutable = fullRevision.MatchString(values.Get("rev")) || values.Get("narHash") != "" ||
		strings.HasPrefix(r.raw, "github:") && len(parts) == 3 && fullRevision.MatchString(parts[2])
	return r, nil
}

// parseLocalURL reads what follows path: or git+file:, which is percent-encoded.
func parseLocalURL(r Ref, scheme, rest, dir string) (Ref, error) {
	path, query, _ := strings.Cut(rest, "?")
	if authority, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(authority, "/") {
			return r, badRef(r.raw, "names another host")
		}
		path = authority
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return r, badRef(r.raw, "has a path that cannot be read")
	}
	return withQuery(r, path, query, dir, scheme == "git+file:")
}

func withQuery(r Ref, path, query, dir string, git bool) (Ref, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return r, badRef(r.raw, "has a query that cannot be read")
	}
	for key := range values {
		if key == "dir" || git && (key == "rev" || key == "ref") {
			continue
		}
		return r, badRef(r.raw, fmt.Sprintf("has a parameter %q that mvm does not know", key))
	}
	r.Local = true
	if r.Path = filepath.Clean(path); !filepath.IsAbs(r.Path) {
		r.Path = filepath.Join(dir, r.Path)
	}
	r.dir, r.rev, r.ref = values.Get("dir"), values.Get("rev"), values.Get("ref")
	if r.dir != "" && !filepath.IsLocal(r.dir) {
		return r, badRef(r.raw, "has a dir that leads out of its tree")
	}
	if r.rev != "" && !fullRevision.MatchString(r.rev) {
		return r, badRef(r.raw, "has a rev that is no full commit hash")
	}
	if strings.HasPrefix(r.ref, "-") {
		return r, badRef(r.raw, "has a ref that is no git reference")
	}
	return r, nil
}

// flakeDir finds the folder below root that holds flake.nix: dir where one is
// given, else start itself, else its nix/ folder. has tells whether the tree
// has a file. The result is slash-separated and "" for the root.
func flakeDir(start, dir string, has func(path string) bool) (string, error) {
	candidates := []string{start, join(start, "nix")}
	if dir != "" {
		candidates = []string{join(start, dir)}
	}
	for _, c := range candidates {
		if has(join(c, "flake.nix")) {
			return c, nil
		}
	}
	return "", errors.New("there is no flake.nix")
}

// HoldsFlake says whether a folder is one of a flake, which may be in its nix/.
func HoldsFlake(dir string) bool {
	_, err := flakeDir("", "", func(path string) bool {
		_, err := os.Stat(filepath.Join(dir, path))
		return err == nil
	})
	return err == nil
}

// join is path.Join that keeps "" for the root.
func join(a, b string) string {
	if a == "" {
		return filepath.ToSlash(filepath.Clean(b))
	}
	return filepath.ToSlash(filepath.Join(a, b))
}

// checkFolder says plainly what is wrong with a local path.
func checkFolder(r Ref) error {
	info, err := os.Stat(r.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("cannot read flake %q: there is no folder %s", r.raw, r.Path), Hint: refHint}
	case err != nil:
		return &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("cannot read flake %q", r.raw), Err: err}
	case !info.IsDir():
		return &fault.Error{Kind: fault.ErrInput, Msg: fmt.Sprintf("cannot read flake %q: %s is not a folder", r.raw, r.Path),
			Hint: "name the folder that holds flake.nix"}
	}
	return nil
}
