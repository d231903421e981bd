package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantSecrets() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "secrets",
		Short: "Set and list a tenant's secrets, which its guest finds below /run/secrets",
		Example: `  mvm tenant secrets set acme db/password --from-file ./password
  mvm tenant secrets list acme`,
		Long: `Set and list a tenant's secrets, which its guest finds as files below
/run/secrets from the next run on, or from a push on. Values come from files,
standard input or the environment, and are never printed.`,
	})
	cmd.AddCommand(a.secretsSet(), a.secretsImport(), a.secretsList(), a.secretsRm(), a.secretsPush())
	waitFlags(cmd, "list")
	return cmd
}

func (a *app) secretsSet() *cobra.Command {
	var file, env string
	cmd := &cobra.Command{
		Use:   "set <id> <key>",
		Short: "Set one secret, its value taken from standard input, a file or the environment",
		Example: `  mvm tenant secrets set acme db/password --from-file ./password
  pass show acme/token | mvm tenant secrets set acme token
  mvm tenant secrets set acme token --from-env ACME_TOKEN`,
		Args: oneValue,
		RunE: a.onTenant("set a secret of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			key, value, err := a.secretGiven(args[1], file, env)
			if err != nil {
				return err
			}
			if err := h.SetSecret(ctx, args[0], key, value); err != nil {
				return err
			}
			a.result("secret %s of tenant %s is set, %s", key, args[0], whenSecretsReach)
			return nil
		}),
	}
	cmd.Flags().StringVar(&file, "from-file", "-", "where the value is; - is standard input")
	cmd.Flags().StringVar(&env, "from-env", "", "the environment variable that holds the value")
	return cmd
}

// oneValue takes a tenant id and a key, and one place at most that the value is in.
func oneValue(cmd *cobra.Command, args []string) error {
	if err := exactArgs(2, "a tenant id and a key")(cmd, args); err != nil {
		return err
	}
	key, _, behind := strings.Cut(args[1], "=")
	file, env := cmd.Flags().Lookup("from-file"), cmd.Flags().Lookup("from-env")
	switch {
	case file.Changed && env.Changed:
		return &tenant.InputError{Msg: fmt.Sprintf("the value of %s is given twice", key), Hint: "say --from-file or --from-env, not both"}
	case behind && (file.Changed || env.Changed):
		return &tenant.InputError{Msg: fmt.Sprintf("the value of %s is given twice", key), Hint: "leave it out behind the key"}
	case env.Changed && env.Value.String() == "":
		return &tenant.InputError{Msg: "--from-env names no variable", Hint: "say its name, without $: --from-env ACME_TOKEN"}
	}
	return nil
}

const whenSecretsReach = "from the next run or push on"

// secretGiven is the key and the value that a person gave. A value may stand
// behind the key, but that is no secret from whoever lists processes.
func (a *app) secretGiven(given, file, env string) (key string, value []byte, err error) {
	key, behind, inPlace := strings.Cut(given, "=")
	switch {
	case inPlace:
		a.note("the value was in this command's arguments, which every user of this host can list; standard input is safer")
		return key, []byte(behind), nil
	case env != "":
		text, ok := os.LookupEnv(env)
		if !ok {
			return key, nil, &tenant.InputError{Msg: fmt.Sprintf("the environment has no variable %s", env), Hint: "export it first"}
		}
		return key, []byte(text), nil
	}
	if value, err = a.readInput(file); err != nil {
		err = fmt.Errorf("cannot read the secret: %w", err)
	}
	return key, value, err
}

func (a *app) secretsPush() *cobra.Command {
	return &cobra.Command{
		Use:   "push <id>",
		Short: "Give a guest that runs the secrets as they are now",
		Long: `Give a guest that runs the secrets as they are now.

The guest lets go of its secrets disk, the disk's content is exchanged, and the
guest mounts it again: for that moment /run/secrets is empty. Where any step
fails the guest has the secrets from before. A program in the guest that has
read a secret already must be told; where the guest has an executable
/etc/mvm/secrets-pushed, that is run.`,
		Example: "  mvm tenant secrets push acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: a.onTenant("push the secrets of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
			if err := h.PushSecrets(ctx, args[0]); err != nil {
				return err
			}
			a.result("the guest of tenant %s has its secrets as they are now", args[0])
			return nil
		}),
	}
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
				if err := a.confirm(ctx, fmt.Sprintf("Replace the %d secrets that tenant %s has", len(have), args[0]), yes); err != nil {
					return err
				}
			}
			if err := h.ImportSecrets(ctx, args[0], data); err != nil {
				return err
			}
			a.result("secrets of tenant %s are set, %s", args[0], whenSecretsReach)
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
			have, err := h.SecretNames(args[0])
			if err != nil {
				return err
			}
			if slices.Contains(have, args[1]) { // what is not there is no question
				if err := a.confirm(ctx, fmt.Sprintf("Remove secret %s of tenant %s", args[1], args[0]), yes); err != nil {
					return err
				}
			}
			removed, err := h.RemoveSecret(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if removed {
				a.result("secret %s of tenant %s is removed, %s", args[1], args[0], whenSecretsReach)
			} else {
				a.result("tenant %s has no secret %s", args[0], args[1])
			}
			return nil
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}
