package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newRoot(env *environment) *cobra.Command {
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
	root.AddCommand(newDev(env), newServe(env), newInit(env), newConfig(env), newToken(env))
	root.AddCommand(adminCommands(env)...)
	return root
}

func quote(s string) string { return `"` + s + `"` }
