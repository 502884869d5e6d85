package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/node"
)

func newInit(env *Environment) *cobra.Command {
	var issuer, output string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented production configuration",
		Example: `  signalbox init --issuer https://sts.example.com > signalbox.yaml
  signalbox init --issuer https://sts.example.com --output /etc/signalbox/signalbox.yaml`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			text := config.Sample(issuer)
			if err := issuerProblem(text); err != nil {
				return &usageError{fmt.Errorf("--issuer: %w", err)}
			}
			if output == "" {
				_, err := env.Out.Write(text)
				return err
			}
			f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s is there already and stays as it is", output)
			}
			if err != nil {
				return err
			}
			if _, err := f.Write(text); err != nil {
				return errors.Join(err, f.Close())
			}
			fmt.Fprintf(env.Err, "%s is written. Next: make the master key that it names, then signalbox config validate %s\n", output, output)
			return f.Close()
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", "https://sts.example.com", "the issuer's URL")
	cmd.Flags().StringVarP(&output, "output", "f", "", "write to this file, which must not exist (default: standard output)")
	return cmd
}

// issuerProblem is what config validate would say of the issuer. The files that
// the sample names need not be there yet.
func issuerProblem(text []byte) error {
	_, err := config.Parse("signalbox.yaml", text, nil)
	var found config.Errors
	errors.As(err, &found)
	for _, e := range found {
		if e.Key == "issuer" {
			return errors.New(e.Problem + ": " + e.Fix)
		}
	}
	return nil
}

func newConfig(env *Environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check and explain the configuration",
		Example: "  signalbox config validate signalbox.yaml\n  signalbox config explain tokens.refresh_grace",
		Args:    noSubcommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var file string
	validate := &cobra.Command{
		Use:     "validate FILE",
		Short:   "Check a configuration file without starting anything",
		Example: "  signalbox config validate signalbox.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (file != "") {
				return &usageError{errors.New("name one configuration file; see signalbox config validate --help")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				file = args[0]
			}
			cfg, err := config.Load(file, os.Environ())
			if err != nil {
				return err
			}
			if err := node.Check(cfg); err != nil {
				return err
			}
			for _, warning := range cfg.Warnings {
				fmt.Fprintln(env.Err, "warning:", warning)
			}
			fmt.Fprintf(env.Err, "%s is valid: issuer %s, %s, %s, %s\n",
				file, cfg.Issuer, count(len(cfg.Clients), "client"), count(len(cfg.Users), "user"), count(len(cfg.Resources), "resource"))
			return nil
		},
	}
	validate.Flags().StringVarP(&file, "config", "c", "", "configuration file (YAML), as serve takes it")
	_ = validate.MarkFlagFilename("config", "yaml", "yml")
	explain := &cobra.Command{
		Use:     "explain KEY",
		Short:   "Explain one configuration key",
		Example: "  signalbox config explain tokens.refresh_grace",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("name one key, for example tokens.access_ttl; the keys are: " + strings.Join(config.Keys(), ", "))}
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return config.Keys(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := config.Explain(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(env.Out, strings.TrimRight(text, "\n"))
			return nil
		},
	}
	schema := &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the configuration",
		Example: "  signalbox config schema > signalbox.schema.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := env.Out.Write(append([]byte(strings.TrimSpace(string(config.Schema()))), '\n'))
			return err
		},
	}
	cmd.AddCommand(validate, explain, schema)
	return cmd
}
