package cli

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/contexts"
)

func newContext(env *Environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Name services: which issuer, which admin URL, and as whom",
		Long: `Name services, so that commands need no flags: a context holds the issuer, the
admin URL and where the credential comes from. It never holds a secret.

Commands use the context in use, or the one of --context or SIGNALBOX_CONTEXT.
Flags and SIGNALBOX_… variables go before it; but its credential is only for its
own service, so whoever names another URL names a token too.

With a client and its secret's file, commands get a short-lived token for the
admin API when they need one. It is kept until it expires, in a file of mode
0600 in your cache folder (~/.cache/signalbox/tokens on Linux). The contexts are
in your configuration folder (~/.config/signalbox/contexts.json on Linux).`,
		Example: `  signalbox context create prod --issuer https://sts.example.com --client-id ops --client-secret-file /etc/signalbox/ops.secret
  signalbox client list
  signalbox context use staging`,
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newContextList(env), newContextShow(env), newContextUse(env), newContextCreate(env), newContextDelete(env))
	return cmd
}

// completeContexts offers the names of contexts.
func completeContexts(env *Environment) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		store, err := env.contexts()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		file, err := store.Load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return file.Names(), cobra.ShellCompDirectiveNoFileComp
	}
}

// shownContext is a context as programs read it.
type shownContext struct {
	contexts.Context
	Current bool `json:"current"`
}

// credential says in words where a context's credential comes from.
func credential(c contexts.Context) string {
	switch {
	case len(c.TokenCommand) > 0:
		return "the command " + filepath.Base(c.TokenCommand[0])
	case c.TokenFile != "":
		return "the token in " + c.TokenFile
	case c.ClientID != "":
		return "the client " + c.ClientID
	}
	return ""
}

func newContextList(env *Environment) *cobra.Command {
	var output string
	var wide bool
	cmd := &cobra.Command{
		Use: "list", Short: "List contexts", Args: noArgs,
		Example: "  signalbox context list\n  signalbox context list -o name",
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(output, nameForms); err != nil {
				return err
			}
			file, err := loadContexts(env)
			if err != nil {
				return err
			}
			shown := []shownContext{}
			var rows [][]string
			for _, c := range file.Contexts {
				current := ""
				if c.Name == file.Current {
					current = "in use"
				}
				shown = append(shown, shownContext{c, current != ""})
				rows = append(rows, []string{c.Name, current, c.Issuer, c.AdminURL, credential(c)})
			}
			if len(shown) == 0 {
				fmt.Fprintln(env.Err, "no contexts: signalbox context create makes one")
			}
			if output != "text" {
				return printList(env.Out, output, shown)
			}
			if len(shown) == 0 {
				return nil
			}
			return printTable(env.Out, screenOf(env, wide), []string{"CONTEXT", "IN USE", "ISSUER", "ADMIN URL", "CREDENTIAL"}, rows)
		},
	}
	outputFlag(cmd, cmd.Flags(), &output, nameForms)
	wideFlag(cmd, &wide)
	return cmd
}

func loadContexts(env *Environment) (contexts.File, error) {
	store, err := env.contexts()
	if err != nil {
		return contexts.File{}, err
	}
	return store.Load()
}

func newContextShow(env *Environment) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "show [NAME]", Short: "Show one context, by default the one in use",
		Example: "  signalbox context show\n  signalbox context show prod -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{fmt.Errorf("one name at most; see %s --help", cmd.CommandPath())}
			}
			return nil
		},
		ValidArgsFunction: completeContexts(env),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output, nameForms); err != nil {
				return err
			}
			file, err := loadContexts(env)
			if err != nil {
				return err
			}
			var name optional
			if len(args) == 1 {
				_ = name.Set(args[0]) // never fails
			}
			c, err := chosen(env, name)
			if err != nil {
				return err
			}
			if c.Name == "" {
				return errors.New("no context is in use: signalbox context create makes one, signalbox context use takes one")
			}
			shown := shownContext{c, c.Name == file.Current}
			if output != "text" {
				return printData(env.Out, output, shown)
			}
			return printFields(env.Out, shown, env.now())
		},
	}
	outputFlag(cmd, cmd.Flags(), &output, nameForms)
	return cmd
}

func newContextUse(env *Environment) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Use a context from now on", Args: oneArg("context's name"),
		Example:           "  signalbox context use prod",
		ValidArgsFunction: completeContexts(env),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(env, func(file *contexts.File) (string, error) {
				c, err := find(*file, args[0])
				file.Current = c.Name
				return "context " + c.Name + " is in use: " + c.Issuer, err
			})
		},
	}
}

// changeContexts reads, changes and saves the contexts, and says what was done.
func changeContexts(env *Environment, change func(*contexts.File) (said string, err error)) error {
	store, err := env.contexts()
	if err != nil {
		return err
	}
	file, err := store.Load()
	if err != nil {
		return err
	}
	said, err := change(&file)
	if err != nil {
		return err
	}
	if err := store.Save(file); err != nil {
		return err
	}
	fmt.Fprintln(env.Err, said)
	return nil
}

func newContextCreate(env *Environment) *cobra.Command {
	var issuer, adminURL optional
	var c contexts.Context
	var replace bool
	cmd := &cobra.Command{
		Use:   "create NAME --issuer URL [flags] [-- COMMAND [ARG...]]",
		Short: "Make a context; the first one is in use at once",
		Long: `Make a context. Its credential for the admin API is one of
  a client      --client-id and --client-secret-file: tokens are got when needed
  a file        --token-file, which somebody else keeps fresh
  a command     after --, which prints a token; it is run as it is, by no shell
or none, for commands that only need an issuer.`,
		Example: `  signalbox context create prod --issuer https://sts.example.com --client-id ops --client-secret-file /etc/signalbox/ops.secret
  signalbox context create laptop --issuer https://sts.example.com --admin-url https://admin.example.com -- pass show signalbox/admin-token`,
		Args: func(cmd *cobra.Command, args []string) error {
			if names := cmd.ArgsLenAtDash(); len(args) == 0 || names > 1 || names < 0 && len(args) > 1 || names == 0 {
				return &usageError{fmt.Errorf("one name is needed, and a command only after --; see %s --help", cmd.CommandPath())}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			c.Name, c.TokenCommand = args[0], args[1:]
			c.Issuer = issuer.or(env, "SIGNALBOX_ISSUER_URL")
			if c.Issuer == "" {
				return &usageError{errors.New("--issuer is needed")}
			}
			if c.AdminURL = adminURL.or(env, "SIGNALBOX_ADMIN_URL"); c.AdminURL == "" && !adminURL.given {
				c.AdminURL = defaultAdminURL
			}
			if err := readableCredential(env, &c); err != nil {
				return err
			}
			if c.ClientID != "" && c.ClientSecretFile == "" {
				return &usageError{errors.New("--client-id needs --client-secret-file, since the client gets no token without its secret; " +
					"a public client has none, and token revoke takes its --client-id beside a context")}
			}
			if err := c.Check(); err != nil {
				return &usageError{err}
			}
			for _, service := range []string{c.Issuer, c.AdminURL} {
				if err := inTheOpen(service, c.InsecureHTTP); err != nil {
					return err
				}
			}
			return changeContexts(env, func(file *contexts.File) (string, error) {
				if _, there := file.Find(c.Name); there && !replace {
					return "", fmt.Errorf("the context %s is there already and stays as it is: choose another name, or say --replace", c.Name)
				}
				forgetToken(env, c)
				file.Put(c)
				if file.Current == c.Name {
					return "context " + c.Name + " is made and in use", nil
				}
				return "context " + c.Name + " is made; to use it: signalbox context use " + c.Name, nil
			})
		},
	}
	cmd.Flags().Var(&issuer, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL)")
	cmd.Flags().Var(&adminURL, "admin-url", "URL of the admin listener (SIGNALBOX_ADMIN_URL; default: "+defaultAdminURL+")")
	cmd.Flags().StringVar(&c.ClientID, "client-id", "", "the client that administers")
	cmd.Flags().StringVar(&c.ClientSecretFile, "client-secret-file", "", "file with the client's secret; the file is read when a token is needed")
	cmd.Flags().StringVar(&c.TokenFile, "token-file", "", "file with an access token for the admin API; read for every request")
	insecureFlag(cmd.Flags(), &c.InsecureHTTP)
	cmd.Flags().BoolVar(&replace, "replace", false, "replace a context of the same name")
	_ = cmd.MarkFlagFilename("client-secret-file")
	_ = cmd.MarkFlagFilename("token-file")
	return cmd
}

// readableCredential makes paths whole. What is not a readable file may be the
// secret itself, which must not get into the file of contexts.
func readableCredential(env *Environment, c *contexts.Context) error {
	for _, file := range []*string{&c.ClientSecretFile, &c.TokenFile} {
		if *file == "" {
			continue
		}
		if *file == "-" {
			return &usageError{errors.New("a context needs the name of a file: standard input is there only once")}
		}
		if _, err := readSecret(env, *file); err != nil {
			return err
		}
		whole, err := filepath.Abs(*file)
		if err != nil {
			return err
		}
		*file = whole
	}
	if len(c.TokenCommand) > 0 {
		if _, err := exec.LookPath(c.TokenCommand[0]); err != nil {
			return &usageError{fmt.Errorf("there is no command %q", c.TokenCommand[0])}
		}
		if strings.ContainsRune(c.TokenCommand[0], filepath.Separator) {
			whole, err := filepath.Abs(c.TokenCommand[0])
			if err != nil {
				return err
			}
			c.TokenCommand[0] = whole
		}
	}
	return nil
}

// forgetToken removes what was kept for a context that is gone or another now.
func forgetToken(env *Environment, c contexts.Context) {
	if tokens, ok := env.tokens(); ok {
		_ = tokens.Forget(c) // it is bound to its client and expires by itself
	}
}

func newContextDelete(env *Environment) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a context and the token that was kept for it", Args: oneArg("context's name"),
		Example:           "  signalbox context delete staging",
		ValidArgsFunction: completeContexts(env),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(env, func(file *contexts.File) (string, error) {
				c, err := find(*file, args[0])
				if err != nil {
					return "", err
				}
				forgetToken(env, c)
				file.Remove(c.Name)
				return "context " + c.Name + " is deleted; its client and its secret are as they were", nil
			})
		},
	}
}
