package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
)

func (a *app) tenantSecrets() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "secrets",
		Short: "Set and list a tenant's secrets, which its guest finds below /run/secrets",
		Long: `Set and list a tenant's secrets, which its guest finds as files below
/run/secrets from the next run on. Values come from files or standard input,
never from the command line, and are never printed.`,
	})
	cmd.AddCommand(a.secretsSet(), a.secretsImport(), a.secretsList(), a.secretsRm())
	return cmd
}

func (a *app) secretsSet() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "set <id> <key>",
		Short: "Set one secret, its value taken from standard input or a file",
		Example: `  mvm tenant secrets set acme db/password --from-file ./password
  pass show acme/token | mvm tenant secrets set acme token`,
		Args: exactArgs(2, "a tenant id and a key"),
		RunE: a.onTenant("set a secret of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			value, err := a.readInput(from)
			if err != nil {
				return fmt.Errorf("cannot read it: %w", err)
			}
			if err := h.SetSecret(ctx, args[0], args[1], value); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "secret %s of tenant %s is set, from the next run on\n", args[1], args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&from, "from-file", "-", "where the value is; - is standard input")
	return cmd
}

func (a *app) secretsImport() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "import <id>",
		Short:   "Replace all secrets by the JSON object on standard input",
		Example: "  mvm tenant secrets import acme < secrets.json\n  mvm tenant secrets import acme --yes < secrets.json",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("import secrets of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			data, err := a.readInput("-")
			if err != nil {
				return fmt.Errorf("cannot read them: %w", err)
			}
			have, err := h.SecretNames(args[0])
			if err != nil {
				return err
			}
			if len(have) > 0 {
				if err := a.confirm(fmt.Sprintf("Replace the %d secrets that tenant %s has", len(have), args[0]), yes); err != nil {
					return err
				}
			}
			if err := h.ImportSecrets(ctx, args[0], data); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "secrets of tenant %s are set, from the next run on\n", args[0])
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) secretsList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list <id>",
		Example: `  mvm tenant secrets list acme`,
		Short:   "List the names of a tenant's secrets",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("list the secrets of", func(_ context.Context, h *lifecycle.Host, args []string) error {
			names, err := h.SecretNames(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(orEmpty(names))
			}
			for _, n := range names {
				fmt.Fprintln(a.Out, n)
			}
			return nil
		}),
	}
	a.jsonFlag(cmd, []string{})
	return cmd
}

func (a *app) secretsRm() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm <id> <key>",
		Example: `  mvm tenant secrets rm acme db/password`,
		Short:   "Remove one secret",
		Args:    exactArgs(2, "a tenant id and a key"),
		RunE: a.onTenant("remove a secret of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if err := a.confirm(fmt.Sprintf("Remove secret %s of tenant %s", args[1], args[0]), yes); err != nil {
				return err
			}
			removed, err := h.RemoveSecret(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if removed {
				fmt.Fprintf(a.Out, "secret %s of tenant %s is removed, from the next run on\n", args[1], args[0])
			} else {
				fmt.Fprintf(a.Out, "tenant %s has no secret %s\n", args[0], args[1])
			}
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

// maxInput bounds what is read from people.
const maxInput = 16 << 20

func (a *app) readInput(path string) (data []byte, err error) {
	f := a.In
	if path != "-" {
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	data, err = io.ReadAll(io.LimitReader(f, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = errors.New("it is larger than 16 MiB")
	}
	return data, err
}
