package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/node"
)

func newConfig(env *Environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check and explain the configuration",
		Example: "  signalbox config validate signalbox.yaml\n  signalbox config explain tokens.refresh_grace",
		Args:    noSubcommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	validate := newConfigValidate(env)
	var whose string
	explain := &cobra.Command{
		Use:     "explain KEY",
		Short:   "Explain one configuration key",
		Example: "  signalbox config explain tokens.refresh_grace\n  signalbox config explain --for agent tokens.file",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("name one key, for example tokens.access_ttl; the keys are: " + strings.Join(keysOf(whose), ", "))}
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return keysOf(whose), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "for", whose, withFile); err != nil {
				return err
			}
			explain := config.Explain
			if whose == "agent" {
				explain = config.ExplainAgent
			}
			text, err := explain(args[0])
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
		Example: "  signalbox config schema > signalbox.schema.json\n  signalbox config schema --for agent > agent.schema.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "for", whose, withFile); err != nil {
				return err
			}
			text := config.Schema()
			if whose == "agent" {
				text = config.AgentSchema()
			}
			_, err := env.Out.Write(append([]byte(strings.TrimSpace(string(text))), '\n'))
			return err
		},
	}
	for _, c := range []*cobra.Command{explain, schema} {
		c.Flags().StringVar(&whose, "for", "serve", "whose file: "+oneOfWords(withFile))
		_ = c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(withFile, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.AddCommand(validate, explain, schema)
	return cmd
}

// withFile are the commands that have a file.
var withFile = []string{"serve", "agent"}

func keysOf(whose string) []string {
	if whose == "agent" {
		return config.AgentKeys()
	}
	return config.Keys()
}

func newConfigValidate(env *Environment) *cobra.Command {
	var file, output string
	var clusters []string
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a configuration file without starting anything",
		Long: `Check a configuration file, and the files that it names, without starting
anything. - reads it from standard input; paths in it then start at the current
folder. With -o json the mistakes are a list for programs; the exit code is the
same. A policy may name a cluster that is kept by the admin API and not in the
file: say with --cluster that it is.`,
		Example: `  signalbox config validate signalbox.yaml
  signalbox config validate --config - -o json < signalbox.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (file != "") {
				return &usageError{errors.New("name one configuration file; see signalbox config validate --help")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			if len(args) == 1 {
				file = args[0]
			}
			cfg, name, err := checkedConfig(env, file)
			if err == nil {
				err = cfg.Alone(clusters)
			}
			if output != "text" {
				if printed := printData(env.Out, output, validated(cfg, name, err)); printed != nil || err == nil {
					return printed
				}
				return errSilent
			}
			if err != nil {
				return err
			}
			for _, warning := range cfg.Warnings {
				fmt.Fprintln(env.Err, "warning:", warning)
			}
			fmt.Fprintf(env.Err, "%s is valid: issuer %s, %s, %s, %s\n",
				name, cfg.Issuer, count(len(cfg.Clients), "client"), count(len(cfg.Users), "user"), count(len(cfg.Resources), "resource"))
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (YAML), as serve takes it; - for standard input")
	cmd.Flags().StringSliceVar(&clusters, "cluster", nil, "name of a cluster that the admin API keeps; may be given several times")
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// maxConfig is more than a configuration may have: config says so in its words.
const maxConfig = 2 << 20

func checkedConfig(env *Environment, file string) (cfg *config.Config, name string, err error) {
	if file != "-" {
		name = file
		cfg, err = config.Load(file, os.Environ())
	} else {
		in, from, end, opened := openInput(env, file, "a configuration")
		if opened != nil {
			return nil, from, opened
		}
		defer end()
		data, read := io.ReadAll(io.LimitReader(in, maxConfig))
		if read != nil {
			return nil, from, read
		}
		name = from
		cfg, err = config.Parse(name, data, os.Environ())
	}
	if err == nil {
		err = node.Check(cfg)
	}
	return cfg, name, err
}

// validation is what programs read of a check.
type validation struct {
	Valid     bool      `json:"valid"`
	File      string    `json:"file"`
	Issuer    string    `json:"issuer,omitempty"`
	Clients   int       `json:"clients"`
	Users     int       `json:"users"`
	Resources int       `json:"resources"`
	Warnings  []string  `json:"warnings"`
	Errors    []mistake `json:"errors"`
}

type mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // missing where the environment is to blame
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem"`
	Fix     string `json:"fix,omitempty"`
}

func validated(cfg *config.Config, name string, err error) validation {
	v := validation{Valid: err == nil, File: name, Warnings: []string{}, Errors: []mistake{}}
	var found config.Errors
	switch {
	case errors.As(err, &found):
		for _, e := range found {
			v.Errors = append(v.Errors, mistake{e.File, e.Line, e.Column, e.Key, e.Problem, e.Fix})
		}
	case err != nil:
		v.Errors = append(v.Errors, mistake{File: name, Problem: err.Error()})
	default:
		v.Issuer, v.Clients, v.Users, v.Resources = cfg.Issuer, len(cfg.Clients), len(cfg.Users), len(cfg.Resources)
		v.Warnings = append(v.Warnings, cfg.Warnings...)
	}
	return v
}
