package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/node"
	"github.com/signalbox-sts/signalbox/internal/systemd"
	"github.com/signalbox-sts/signalbox/internal/version"
)

func newServe(env *Environment) *cobra.Command {
	var file string
	var acceptLoss bool
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Run the service",
		Long: `Run the service with a configuration file (signalbox init writes one), or
without one: then environment variables say all that has no default, which is
SIGNALBOX_ISSUER, SIGNALBOX_SECRETS_MASTER_KEY_FILE, and where TLS ends. Clients,
users and resources are then made over the admin API, by the client ops whose
secret is in SIGNALBOX_SECRETS_OPERATOR_SECRET_FILE.

A changed file, or SIGHUP, reloads clients, users, resources, lifetimes,
algorithms and the log level. A file with a mistake is refused and the
configuration before it stays. Listeners, TLS, storage, issuer and secrets need
a restart, and the log says so. A file that another node has replaced by a newer
one is refused too; signalbox config explain revision says what to do. SIGTERM
stops listening, finishes the requests that have begun, and ends.

The service does not start when its journal lacks records that the database
remembers: the folder was cut, emptied, or replaced by an older copy. Bring it
back. If that is not possible, start once with --accept-journal-loss: the
missing records stay on record, in the database and in the journal.`,
		Example: `  signalbox serve --config /etc/signalbox/signalbox.yaml
  SIGNALBOX_ISSUER=http://127.0.0.1:8443 SIGNALBOX_LISTEN_PUBLIC=127.0.0.1:8443 \
    SIGNALBOX_SECRETS_MASTER_KEY_FILE=master.key signalbox serve`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" && cmd.Flags().Changed("config") {
				return &usageError{errors.New("--config needs the name of a file")}
			}
			return serve(cmd.Context(), env, file, acceptLoss)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (YAML); without it the environment says all")
	cmd.Flags().BoolVar(&acceptLoss, "accept-journal-loss", false, "start although records of the journal are missing, and record that forever")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("%s takes no argument %q; see %s --help", cmd.Name(), args[0], cmd.CommandPath())}
	}
	return nil
}

// patience is how long callers may still use a connection that they have open
// when the service stops. A proxy in front asks again well within it.
const patience = time.Second

func serve(ctx context.Context, env *Environment, file string, acceptLoss bool) error {
	load := func() (*config.Config, error) { return config.Load(file, os.Environ()) }
	cfg, err := load()
	if err != nil {
		return err
	}
	n, err := node.Open(ctx, cfg, node.Options{Log: env.Err, Version: version.Get(), AcceptJournalLoss: acceptLoss, Patience: patience})
	if err != nil {
		return err
	}
	defer n.Close()
	manager := systemd.Find(env.Getenv)
	ln, err := node.Listen(cfg, manager.Listen)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	// From here on systemd is only told. That it does not hear is its trouble.
	reload := func() (*config.Config, error) {
		_ = manager.Notify(systemd.Reloading()...)
		return load()
	}
	go n.Follow(ctx, hangup, reload, func(err error) { _ = manager.Notify(systemd.Ready, statusAfter(err)) })
	defer context.AfterFunc(ctx, func() { _ = manager.Notify(systemd.Stopping) })()
	return n.Serve(ctx, ln, func() error { return manager.Notify(systemd.Ready) })
}

// statusAfter is what systemctl status says after a reload.
func statusAfter(err error) string {
	if err != nil {
		return "STATUS=The new configuration was refused, see the log. The one before it is in use."
	}
	return "STATUS="
}
