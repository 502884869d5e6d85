package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/node"
	"github.com/signalbox-sts/signalbox/internal/version"
)

func newServe(env *Environment) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the service",
		Long: `Run the service with a configuration file (signalbox init writes one).

A changed file, or SIGHUP, reloads clients, users, resources, lifetimes,
algorithms and the log level. A file with a mistake is refused and the
configuration before it stays. Listeners, TLS, storage, issuer and secrets need
a restart, and the log says so. A file that another node has replaced by a newer
one is refused too; signalbox config explain revision says what to do. SIGTERM
stops listening, finishes the requests that are under way, and ends.`,
		Example: "  signalbox serve --config /etc/signalbox/signalbox.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return &usageError{errors.New("--config is needed; signalbox init writes a configuration to start from")}
			}
			return serve(cmd.Context(), env, file)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (YAML)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("%s takes no argument %q; see %s --help", cmd.Name(), args[0], cmd.CommandPath())}
	}
	return nil
}

func serve(ctx context.Context, env *Environment, file string) error {
	load := func() (*config.Config, error) { return config.Load(file, os.Environ()) }
	cfg, err := load()
	if err != nil {
		return err
	}
	n, err := node.Open(ctx, cfg, node.Options{Log: env.Err, Version: version.Get()})
	if err != nil {
		return err
	}
	defer n.Close()
	ln, err := node.Listen(cfg)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go n.Follow(ctx, hangup, load)
	return n.Serve(ctx, ln, nil)
}
