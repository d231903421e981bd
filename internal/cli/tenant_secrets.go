package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			value, err := a.readInput(from)
			if err != nil {
				return fmt.Errorf("cannot read the secret: %w", err)
			}
			if err := h.SetSecret(cmd.Context(), args[0], args[1], value); err != nil {
				return fmt.Errorf("cannot set secret %s of tenant %s: %w", args[1], args[0], err)
			}
			fmt.Fprintf(a.Out, "secret %s of tenant %s is set, from the next run on\n", args[1], args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from-file", "-", "where the value is; - is standard input")
	return cmd
}

func (a *app) secretsImport() *cobra.Command {
	return &cobra.Command{
		Use:     "import <id>",
		Short:   "Replace all secrets by the JSON object on standard input",
		Example: "  mvm tenant secrets import acme < secrets.json",
		Args:    exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			data, err := a.readInput("-")
			if err != nil {
				return fmt.Errorf("cannot read the secrets: %w", err)
			}
			if err := h.ImportSecrets(cmd.Context(), args[0], data); err != nil {
				return fmt.Errorf("cannot import secrets of tenant %s: %w", args[0], err)
			}
			fmt.Fprintf(a.Out, "secrets of tenant %s are set, from the next run on\n", args[0])
			return nil
		},
	}
}

func (a *app) secretsList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list <id>",
		Example: `  mvm tenant secrets list acme`,
		Short:   "List the names of a tenant's secrets",
		Args:    exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
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
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) secretsRm() *cobra.Command {
	return &cobra.Command{
		Use:     "rm <id> <key>",
		Example: `  mvm tenant secrets rm acme db/password`,
		Short:   "Remove one secret",
		Args:    exactArgs(2, "a tenant id and a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			removed, err := h.RemoveSecret(cmd.Context(), args[0], args[1])
			if err != nil {
				return fmt.Errorf("cannot remove secret %s of tenant %s: %w", args[1], args[0], err)
			}
			if removed {
				fmt.Fprintf(a.Out, "secret %s of tenant %s is removed, from the next run on\n", args[1], args[0])
			} else {
				fmt.Fprintf(a.Out, "tenant %s has no secret %s\n", args[0], args[1])
			}
			return nil
		},
	}
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
