package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newRoot(env *Environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "signalbox",
		Short: "A security token service: issue, validate, rotate and revoke tokens",
		Long: `Signalbox turns proof of who you are into a short-lived token that says what
you may do, and keeps that token accountable from birth to death.

Start with: signalbox dev`,
		Example: `  signalbox dev                          # everything, on this machine, in a second
  signalbox init > signalbox.yaml        # a commented production configuration
  signalbox serve --config signalbox.yaml`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{errors.New("unknown command " + quote(args[0]) + "; see signalbox --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{errors.New(err.Error() + "; see " + cmd.CommandPath() + " --help")}
	})
	root.AddCommand(newDev(env), newServe(env), newInit(env), newConfig(env), newToken(env), newVersion(env))
	root.AddCommand(adminCommands(env)...)
	mendHelp(root)
	mendCompletion(root)
	return root
}

func newVersion(env *Environment) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, as --version does", Args: noArgs,
		Example: "  signalbox version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(env.Out, "signalbox version %s\n", version)
			return err
		},
	}
}

// mendHelp makes a wrong topic wrong usage: the library prints its help and
// ends well.
func mendHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help := mustFind(root, "help")
	help.Example = "  signalbox help token get"
	help.Args = func(_ *cobra.Command, args []string) error {
		if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
			return &usageError{errors.New("there is no help on " + quote(strings.Join(args, " ")) + "; see signalbox --help")}
		}
		return nil
	}
}

// mendCompletion does the same for shells, and gives the examples that the
// library has only in its prose.
func mendCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion := mustFind(root, "completion")
	completion.Example = "  source <(signalbox completion bash)"
	completion.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{errors.New("completion knows bash, zsh, fish and powershell, not " + quote(args[0]) + "; see signalbox completion --help")}
		}
		return nil
	}
	completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for shell, example := range map[string]string{
		"bash":       "  signalbox completion bash > /etc/bash_completion.d/signalbox",
		"zsh":        `  signalbox completion zsh > "${fpath[1]}/_signalbox"`,
		"fish":       "  signalbox completion fish > ~/.config/fish/completions/signalbox.fish",
		"powershell": "  signalbox completion powershell | Out-String | Invoke-Expression",
	} {
		cmd := mustFind(completion, shell)
		cmd.Example, cmd.Args = example, noArgs
	}
}

// mustFind finds what the library has just made.
func mustFind(parent *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(parent.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
	return parent.Commands()[i]
}

func quote(s string) string { return `"` + s + `"` }
