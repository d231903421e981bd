package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// DefaultImage is the public Nix image, for x86_64 and aarch64, pinned by the
// digest of its index.
const DefaultImage = "ghcr.io/nixos/nix:2.34.7@sha256:bf1d938835ab96312f098fa6c2e9cab367728e0aad0646ee3e02a787c80d8fb8"

// Image is a builder image as the engine knows it.
type Image struct {
	Ref     string   `json:"ref"`
	Present bool     `json:"present"`
	ID      string   `json:"id,omitempty"`      // content id
	Digests []string `json:"digests,omitempty"` // of the registries that it came from
	Bytes   int64    `json:"bytes,omitempty"`

	ready bool // it says that its store belongs to the user that builds
}

// digest is the one that belongs to the image's reference.
func (i Image) digest() string {
	for _, d := range append([]string{i.Ref}, i.Digests...) {
		if _, digest, ok := strings.Cut(d, "@"); ok {
			return digest
		}
	}
	return ""
}

// ShowImage asks the engine for the builder image ref; "" is DefaultImage. An
// absent image is no error.
func ShowImage(ctx context.Context, engine Engine, ref string) (Image, error) {
	if ref == "" {
		ref = DefaultImage
	}
	if err := checkImageRef(ref); err != nil {
		return Image{}, err
	}
	out, err := run.Output(ctx, engine.Path, imageInspectArgs(ref)...)
	if err != nil {
		var failed *run.Error
		if errors.As(err, &failed) && saysAbsent(failed.Stderr) {
			return Image{Ref: ref}, nil
		}
		return Image{}, fmt.Errorf("cannot inspect builder image: %w", err)
	}
	var found []struct {
		ID          string `json:"Id"`
		RepoDigests []string
		Size        int64
		Config      struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(out, &found); err != nil || len(found) == 0 || found[0].ID == "" {
		return Image{}, fmt.Errorf("cannot inspect builder image: %s gave no usable answer", engine.Name)
	}
	id := found[0].ID
	if !strings.Contains(id, ":") {
		id = "sha256:" + id // podman
	}
	return Image{Ref: ref, Present: true, ID: id, Digests: found[0].RepoDigests, Bytes: found[0].Size,
		ready: found[0].Config.Labels[labelStore] == readyStore}, nil
}

func saysAbsent(stderr string) bool {
	s := strings.ToLower(stderr)
	return strings.Contains(s, "no such image") || strings.Contains(s, "not found") ||
		strings.Contains(s, "image not known") || strings.Contains(s, "failed to find image")
}

// imageName is how the engine runs an image. docker and podman take the id,
// which cannot change its meaning; nerdctl wants a name.
func (e Engine) imageName(image Image) string {
	if e.Name == "nerdctl" {
		return image.Ref
	}
	return image.ID
}

// pinned says whether ref can only ever mean one content. The local image's
// tag is the hash of its archive.
func pinned(ref string) bool {
	return strings.Contains(ref, "@sha256:") || strings.HasPrefix(ref, "sha256:") || localTag.MatchString(ref)
}

func checkImageRef(ref string) error {
	if ref == "" || strings.HasPrefix(ref, "-") || strings.ContainsAny(ref, " \t\n\"'\\") {
		return &Error{Kind: ErrInput, Msg: fmt.Sprintf("%q is no image reference", ref),
			Hint: "use name:tag@sha256:<digest> or the id of a local image"}
	}
	return nil
}

// PullImage fetches ref, which must be pinned by digest. It needs the network.
func PullImage(ctx context.Context, engine Engine, ref string) (Image, error) {
	if ref == "" {
		ref = DefaultImage
	}
	if err := checkImageRef(ref); err != nil {
		return Image{}, err
	}
	if !strings.Contains(ref, "@sha256:") {
		return Image{}, &Error{Kind: ErrInput, Msg: fmt.Sprintf("cannot pull builder image %s: it is not pinned", ref),
			Hint: "add @sha256:<digest>, so that everybody who builds with it uses the same image"}
	}
	if _, err := engine.output(ctx, "pull", "--quiet", ref); err != nil {
		return Image{}, &Error{Kind: ErrHost, Msg: "cannot pull builder image", Err: err,
			Hint: "without access to that registry, make one from Debian packages with `mvm builder build-local`"}
	}
	return ShowImage(ctx, engine, ref)
}
