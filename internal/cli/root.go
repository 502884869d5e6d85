package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/signalbox-sts/signalbox/internal/suggest"
	"github.com/signalbox-sts/signalbox/internal/version"
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
		Version:       version.Get().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noSubcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newDev(env), newServe(env), newHealthcheck(env), newInit(env), newConfig(env), newLogin(env), newWhoami(env), newLogout(env), newToken(env), newPolicy(env), newKubeCredential(env), newGitCredential(env), newAgent(env), newContext(env), newVersion(env))
	root.AddCommand(adminCommands(env)...)
	root.AddCommand(newMan(root))
	fixHelp(root)
	fixCompletion(root)
	return root
}

// noSubcommand is for a command that only holds others: what follows it is a
// mistyped one.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return &usageError{errors.New("unknown command " + quote(args[0]) + meant(args[0], names) + "; see " + cmd.CommandPath() + " --help")}
}

// meant is the question that follows an unknown word, if one is near to it.
func meant(word string, among []string) string {
	if near := suggest.DidYouMean(word, among); near != "" {
		return ": " + near
	}
	return ""
}

// flagError says what is wrong with the flags in our words. It repeats no value
// of a flag that does not exist: that may be a secret.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	text := err.Error()
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		text = "unknown flag -" + unknown.GetSpecifiedName()
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		text = "unknown flag --" + unknown.GetSpecifiedName() + meant("--"+unknown.GetSpecifiedName(), names)
	case errors.As(err, &invalid):
		text = "--" + invalid.GetFlag().Name + " must be " + cmp.Or(kindOf[invalid.GetFlag().Value.Type()], invalid.GetFlag().Value.Type()) +
			", not " + quote(invalid.GetValue())
	}
	return &usageError{errors.New(text + "; see " + cmd.CommandPath() + " --help")}
}

// kindOf is what the types of flags are called.
var kindOf = map[string]string{
	"int": "a whole number", "uint64": "a whole number", "bool": "true or false", "duration": "a duration such as 90s, 5m or 24h",
}

func newVersion(env *Environment) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version, commit and date of this build", Args: noArgs,
		Example: "  signalbox version\n  signalbox version -o json",
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			if output != "text" {
				return printData(env.Out, output, version.Get())
			}
			_, err := fmt.Fprintln(env.Out, "signalbox version", version.Get())
			return err
		},
	}
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

// fixHelp makes a wrong topic wrong usage: the library prints its help and
// ends well.
func fixHelp(root *cobra.Command) {
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

// fixCompletion does the same for shells, and gives the examples that the
// library has only in its prose.
func fixCompletion(root *cobra.Command) {
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
