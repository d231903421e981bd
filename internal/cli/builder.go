package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) builderCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "builder",
		Short: "Manage the container image that guests are built in",
		Example: `  mvm builder pull
  mvm builder show`,
	})
	cmd.AddCommand(a.builderShow(), a.builderPull(), a.builderSet(), a.builderFetch(), a.builderBuildLocal(), a.builderShare())
	return cmd
}

// onEngine is the body of a verb that works with the container engine of that
// name, or with the one that builds use.
func (a *app) onEngine(name *string, do func(ctx context.Context, h *lifecycle.Host, engine build.Engine, args []string) error) func(*cobra.Command, []string) error {
	return a.onHost(func(ctx context.Context, h *lifecycle.Host, args []string) error {
		engine, err := h.Engine(ctx, *name)
		if err != nil {
			return err
		}
		return do(ctx, h, engine, args)
	})
}

// engineFlag adds --engine.
func engineFlag(cmd *cobra.Command, engine *string) {
	cmd.Flags().StringVar(engine, "engine", "", "container engine: docker, nerdctl or podman (default: build.engine, else the first that answers)")
}

func (a *app) printImage(verb string, image build.Image) {
	a.result("%s builder image %s", verb, image.Ref)
}

func (a *app) builderShow() *cobra.Command {
	var engineName string
	cmd := &cobra.Command{
		Use:     "show",
		Example: `  mvm builder show`,
		Short:   "Print which image builds use and whether the engine has it",
		Args:    exactArgs(0, "no arguments"),
		RunE: a.onEngine(&engineName, func(ctx context.Context, h *lifecycle.Host, engine build.Engine, _ []string) error {
			ref, err := h.BuilderImage()
			if err != nil {
				return err
			}
			image, err := build.ShowImage(ctx, engine, ref)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(image)
			}
			fmt.Fprintf(a.Out, "engine  %s %s\nimage   %s\n", engine.Name, engine.Version, image.Ref)
			switch {
			case !image.Present:
				fmt.Fprintln(a.Out, "size    it is not there yet: mvm builder pull, or mvm builder build-local")
			case image.ID != image.Ref:
				fmt.Fprintf(a.Out, "id      %s\n", image.ID)
				fallthrough
			default:
				fmt.Fprintf(a.Out, "size    %s\n", byteSize(image.Bytes))
			}
			return nil
		}),
	}
	a.jsonFlag(cmd, build.Image{})
	engineFlag(cmd, &engineName)
	return cmd
}

func (a *app) builderPull() *cobra.Command {
	var engineName string
	cmd := &cobra.Command{
		Use:     "pull [image]",
		Example: `  mvm builder pull`,
		Short:   "Fetch an image that is pinned by digest, by default the public Nix image, and use it",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.onEngine(&engineName, func(ctx context.Context, h *lifecycle.Host, engine build.Engine, args []string) error {
			image, err := h.PullBuilderImage(ctx, engine, optional(args))
			if err != nil {
				return err
			}
			a.printImage("pulled", image)
			return nil
		}),
	}
	engineFlag(cmd, &engineName)
	return cmd
}

func (a *app) builderSet() *cobra.Command {
	var engineName string
	cmd := &cobra.Command{
		Use:     "set <image>",
		Example: `  mvm builder set localhost/mvm-builder:local`,
		Short:   "Use an image that the engine has",
		Args:    exactArgs(1, "one image"),
		RunE: a.onEngine(&engineName, func(ctx context.Context, h *lifecycle.Host, engine build.Engine, args []string) error {
			image, err := h.SetBuilderImage(ctx, engine, args[0])
			if err != nil {
				return err
			}
			a.printImage("builds use", image)
			return nil
		}),
	}
	engineFlag(cmd, &engineName)
	return cmd
}

func (a *app) builderFetch() *cobra.Command {
	var dir string
	var update bool
	cmd := &cobra.Command{
		Use:     "fetch",
		Example: `  mvm builder fetch --to ./builder`,
		Short:   "Make the archive of a local builder image from Debian packages, without an engine",
		Long: `Make the archive of a local builder image from Debian packages.

This needs a Debian mirror and no container engine; build-local --from needs an
engine and no network. So the two can run in different places.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, made, err := lifecycle.EnsureBuilderArchive(cmd.Context(), dir, update)
			if err != nil {
				return err
			}
			verb := "there is already"
			if made {
				verb = "made"
			}
			a.result("%s %s", verb, path)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "to", "", "folder for the archive")
	cmd.Flags().BoolVar(&update, "update", false, "make it anew from today's packages")
	requireFlag(cmd, "to", "mvm builder fetch --to ./builder")
	return cmd
}

func (a *app) builderBuildLocal() *cobra.Command {
	var engineName, from string
	cmd := &cobra.Command{
		Use: "build-local",
		Example: `  mvm builder build-local
  mvm builder build-local --from ./builder`,
		Short: "Make a builder image from Debian packages and use it, where no registry can be reached",
		Args:  exactArgs(0, "no arguments"),
		RunE: a.onEngine(&engineName, func(ctx context.Context, h *lifecycle.Host, engine build.Engine, _ []string) error {
			var archive string
			var err error
			if from == "" {
				archive, _, err = lifecycle.EnsureBuilderArchive(ctx, h.Store.BuilderDir(), false)
			} else {
				archive, err = lifecycle.BuilderArchive(from)
			}
			if err != nil {
				return err
			}
			image, err := h.BuildLocalImage(ctx, engine, archive)
			if err != nil {
				return err
			}
			a.printImage("builds use", image)
			return nil
		}),
	}
	engineFlag(cmd, &engineName)
	cmd.Flags().StringVar(&from, "from", "", "folder that mvm builder fetch has filled (default: builder/ in the state directory)")
	return cmd
}
