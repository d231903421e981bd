package build

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/auser/mvm/internal/run"
)

// loadArchive wraps the file system at path into a one-layer image archive, in
// the format of `docker save`, and streams it into `load`.
func loadArchive(ctx context.Context, engine Engine, path, ref string) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeImageArchive(w, path, ref)
		w.CloseWithError(err)
		written <- err
	}()
	err := run.Run(ctx, run.Command{Name: engine.Path, Args: []string{"load"}, Stdin: r})
	r.CloseWithError(errors.New("the engine stopped reading"))
	return errors.Join(err, <-written)
}

func writeImageArchive(w io.Writer, path, ref string) error {
	layer, err := hashArtifact(path)
	if err != nil {
		return err
	}
	arch := strings.TrimSuffix(HostSystem(), "-linux")
	config, err := json.Marshal(map[string]any{
		"architecture": map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch],
		"os":           "linux",
		"config":       map[string]any{"Labels": map[string]string{labelStore: readyStore}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layer.SHA256}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{ref}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewWriter(w)
	for name, data := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o444, Size: layer.Size}); err != nil {
		return err
	}
	if _, err := io.Copy(t, f); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return t.Close()
}
