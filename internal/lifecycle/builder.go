package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/fault"
	"github.com/auser/mvm/internal/store"
	"github.com/auser/mvm/internal/tenant"
)

// chosenImage is the content of builder.json.
type chosenImage struct {
	Image string `json:"image"`
}

// BuilderImage is the image that builds use: what config.toml says, else what
// mvm builder chose, else "", the pinned public one. The dev microVM's is the
// tenants'.
func (h *Host) BuilderImage() (string, error) {
	if h.Parent != nil {
		return h.Parent.BuilderImage()
	}
	if h.Config.Build.Image != "" {
		return h.Config.Build.Image, nil
	}
	data, err := os.ReadFile(h.Store.BuilderFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the choice of builder image: %w", err)
	}
	var chosen chosenImage
	if err := json.Unmarshal(data, &chosen); err != nil {
		return "", &store.DamagedError{Path: h.Store.BuilderFile(), Err: err, Remedy: "choose the image anew with mvm builder pull, build-local or set"}
	}
	return chosen.Image, nil
}

// SetBuilderImage makes builds use the image ref, which the engine must have.
func (h *Host) SetBuilderImage(ctx context.Context, engine build.Engine, ref string) (build.Image, error) {
	if ref == "" { // which would be the image that builds use by default
		return build.Image{}, &tenant.InputError{Msg: `"" is no image`, Hint: "name one that the engine has, such as localhost/mvm-builder:local"}
	}
	image, err := build.ShowImage(ctx, engine, ref)
	if err != nil {
		return image, err
	}
	if !image.Present {
		return image, &Error{Kind: ErrState, Msg: fmt.Sprintf("%s has no image %s", engine.Name, image.Ref), Hint: "mvm builder pull " + ref}
	}
	return image, h.choose(image)
}

// PullBuilderImage fetches ref, or the pinned public image, and uses it.
func (h *Host) PullBuilderImage(ctx context.Context, engine build.Engine, ref string) (build.Image, error) {
	image, err := build.PullImage(ctx, engine, ref)
	if err != nil {
		return image, err
	}
	return image, h.choose(image)
}

// BuildLocalImage makes an image of Debian packages and uses it. With an
// archive that FetchLocalImage made, it needs no network.
func (h *Host) BuildLocalImage(ctx context.Context, engine build.Engine, archive string) (build.Image, error) {
	image, err := build.ImportLocalImage(ctx, engine, archive)
	if err != nil {
		return image, err
	}
	return image, h.choose(image)
}

// EnsureBuilderArchive makes the archive of a local builder image in dir,
// unless it is there and update is not asked for.
func EnsureBuilderArchive(ctx context.Context, dir string, update bool) (path string, made bool, err error) {
	there := build.LocalImagePath(dir, build.LocalImageOptions{})
	if _, err := os.Stat(there); err == nil && !update {
		return there, false, nil
	}
	path, err = build.FetchLocalImage(ctx, dir, build.LocalImageOptions{})
	return path, true, err
}

// BuilderArchive is the archive that EnsureBuilderArchive has made in dir.
func BuilderArchive(dir string) (string, error) {
	path := build.LocalImagePath(dir, build.LocalImageOptions{})
	if _, err := os.Stat(path); err != nil {
		return "", &Error{Kind: fault.ErrInput, Msg: dir + " holds no archive of a builder image", Err: err, Hint: "mvm builder fetch --to " + dir + " makes it"}
	}
	return path, nil
}

func (h *Host) choose(image build.Image) error {
	before, err := h.BuilderImage()
	if damaged := (*store.DamagedError)(nil); err != nil && !errors.As(err, &damaged) {
		return err
	}
	if before == image.Ref {
		return nil
	}
	detail := map[string]any{"image": image.Ref, "id": image.ID, "before": before}
	if err := h.record("", "builder", detail, nil); err != nil {
		return err
	}
	return h.recordFailure("", "builder", detail, store.WriteJSON(h.Store.BuilderFile(), chosenImage{image.Ref}))
}
