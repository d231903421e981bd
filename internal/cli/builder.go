package cli

import (
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

// withEngine opens the host and finds the container engine.
func (a *app) withEngine(cmd *cobra.Command, preferred string) (*lifecycle.Host, build.Engine, error) {
	h, err := a.host()
	if err != nil {
		return nil, build.Engine{}, err
	}
	engine, err := h.Engine(cmd.Context(), preferred)
	return h, engine, err
}

func engineFlag(cmd *cobra.Command, engine *string) {
	cmd.Flags().StringVar(engine, "engine", "", "docker, nerdctl or podman (default: build.engine, else the first that answers)")
}

func (a *app) printImage(verb string, image build.Image) {
	fmt.Fprintf(a.Out, "%s builder image %s\n", verb, image.Ref)
}

func (a *app) builderShow() *cobra.Command {
	var engineName string
	cmd := &cobra.Command{
		Use:     "show",
		Example: `  mvm builder show`,
		Short:   "Print which image builds use and whether the engine has it",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, engine, err := a.withEngine(cmd, engineName)
			if err != nil {
				return err
			}
			ref, err := h.BuilderImage()
			if err != nil {
				return err
			}
			image, err := build.ShowImage(cmd.Context(), engine, ref)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(image)
			}
			there := "is not there yet: mvm builder pull, or mvm builder build-local"
			if image.Present {
				there = fmt.Sprintf("has id %s, %d MB", image.ID, image.Bytes/1e6)
			}
			fmt.Fprintf(a.Out, "%s %s\n%s %s\n", engine.Name, engine.Version, image.Ref, there)
			return nil
		},
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
		RunE: func(cmd *cobra.Command, args []string) error {
			h, engine, err := a.withEngine(cmd, engineName)
			if err != nil {
				return err
			}
			ref := ""
			if len(args) == 1 {
				ref = args[0]
			}
			image, err := h.PullBuilderImage(cmd.Context(), engine, ref)
			if err != nil {
				return err
			}
			a.printImage("pulled", image)
			return nil
		},
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
		RunE: func(cmd *cobra.Command, args []string) error {
			h, engine, err := a.withEngine(cmd, engineName)
			if err != nil {
				return err
			}
			image, err := h.SetBuilderImage(cmd.Context(), engine, args[0])
			if err != nil {
				return err
			}
			a.printImage("builds use", image)
			return nil
		},
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
			fmt.Fprintf(a.Out, "%s %s\n", verb, path)
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, engine, err := a.withEngine(cmd, engineName)
			if err != nil {
				return err
			}
			if from == "" {
				from = h.Store.BuilderDir()
			}
			archive, _, err := lifecycle.EnsureBuilderArchive(cmd.Context(), from, false)
			if err != nil {
				return err
			}
			image, err := h.BuildLocalImage(cmd.Context(), engine, archive)
			if err != nil {
				return err
			}
			a.printImage("builds use", image)
			return nil
		},
	}
	engineFlag(cmd, &engineName)
	cmd.Flags().StringVar(&from, "from", "", "folder that mvm builder fetch has filled (default: builder/ in the state directory)")
	return cmd
}
