package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/server"
)

func newServe(env *Environment) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the service",
		Long: `Run the service with a configuration file (signalbox init writes one).

A changed file, or SIGHUP, reloads clients, users, resources, lifetimes and the
log level. A file with a mistake is refused and the configuration before it
stays. Listeners, TLS, storage, issuer and secrets need a restart, and the log
says so. SIGTERM stops listening, finishes the requests that are under way, and
ends.`,
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
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return err
	}
	s, err := openService(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer s.close()
	for _, warning := range cfg.Warnings {
		s.log.Warn(warning)
	}
	err = s.record(ctx, authority.Event{Type: authority.EventConfigLoaded, Target: file, Reason: "at start"})
	if err != nil {
		return err
	}
	ln, err := listen(cfg)
	if err != nil {
		return err
	}
	go s.followConfig(ctx, file)
	return s.serve(ctx, ln, func() error {
		s.log.Info("serving", "issuer", cfg.Issuer, "public", ln.public.Addr().String(), "admin", ln.admin.Addr().String(),
			"storage", cfg.Storage.URL, "version", version)
		return nil
	})
}

func listen(cfg *config.Config) (listeners, error) {
	public, err := net.Listen("tcp", cfg.Listen.Public)
	if err != nil {
		return listeners{}, fmt.Errorf("listen.public: %w", err)
	}
	private, err := net.Listen("tcp", cfg.Listen.Admin)
	if err != nil {
		return listeners{}, errors.Join(fmt.Errorf("listen.admin: %w", err), public.Close())
	}
	switch cfg.TLS.Mode {
	case config.TLSFiles:
		public, err = server.ListenTLSFiles(public, cfg.TLS.CertFile, cfg.TLS.KeyFile)
	case config.TLSACME:
		public, err = server.ListenACME(public, cfg.Issuer, cfg.TLS.ACME.CacheDir, cfg.TLS.ACME.Email, cfg.TLS.ACME.DirectoryURL)
	case config.TLSOff:
	}
	if err != nil {
		return listeners{}, errors.Join(err, private.Close())
	}
	return listeners{public, private}, nil
}

const watchEvery = 2 * time.Second

// followConfig reloads on SIGHUP and when one of the files has changed.
func (s *service) followConfig(ctx context.Context, file string) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	files, again := s.config.Load().Files, false
	for {
		asked := again
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			asked = true
		case <-ticker.C:
		}
		if !asked && !config.Changed(files) {
			continue
		}
		looked, err := s.reload(ctx, file)
		files, again = looked, errors.Is(err, errTryAgain)
		if err != nil {
			s.log.Error("the new configuration is refused, the one before it stays", "error", err)
			_ = s.record(ctx, authority.Event{Type: authority.EventConfigRefused, Target: file, Reason: err.Error()})
		}
	}
}

// errTryAgain is a reload that failed through no fault of the file's.
var errTryAgain = errors.New("it is tried again")

// reload puts a new configuration in place, or changes nothing. It returns the
// files that this rests on.
func (s *service) reload(ctx context.Context, file string) ([]config.File, error) {
	next, err := config.Load(file, os.Environ())
	if err != nil {
		return config.FilesOf(err), err
	}
	return next.Files, s.replace(ctx, file, next)
}

func (s *service) replace(ctx context.Context, file string, next *config.Config) error {
	old := s.config.Load()
	if fixed := needsRestart(old, next); fixed != "" {
		return fmt.Errorf("%s cannot change while the service runs: restart it", fixed)
	}
	declared, err := declaredOf(next, s.master)
	if err != nil {
		return err
	}
	if err := s.directory.Check(ctx, declared); err != nil {
		return unlessOverlap(err)
	}
	state := stateOf(declared)
	// Recorded first: nothing is in force that is not on record. Then what has
	// to end is ended: if that fails, nothing has changed and it is tried again.
	if err := s.record(ctx, authority.Event{Type: authority.EventConfigLoaded, Target: file, Reason: "reloaded"}); err != nil {
		return errors.Join(errTryAgain, err)
	}
	if err := s.endChanged(ctx, state); err != nil {
		return errors.Join(errTryAgain, err)
	}
	if err := s.directory.Declare(ctx, declared); err != nil {
		return unlessOverlap(err)
	}
	s.config.Store(next)
	s.setLogLevel(next)
	for _, warning := range next.Warnings {
		s.log.Warn(warning)
	}
	s.log.Info("the configuration was reloaded", slog.Int("clients", len(next.Clients)), slog.Int("users", len(next.Users)))
	// And once more, for what was issued between the ending and the change.
	if err := s.endChanged(ctx, state); err != nil {
		s.log.Error("what was issued during the reload could not be ended", "error", err)
	}
	if err := s.keepDeclared(ctx, state); err != nil {
		s.log.Error("the next start will end what this reload has ended once more", "error", err)
	}
	return nil
}

// unlessOverlap: a database that did not answer is asked again; one that holds
// an id of the file too will go on doing so.
func unlessOverlap(err error) error {
	if errors.Is(err, authority.ErrOverlap) {
		return err
	}
	return errors.Join(errTryAgain, err)
}

func needsRestart(old, next *config.Config) string {
	switch {
	case old.Issuer != next.Issuer:
		return "issuer"
	case old.Listen != next.Listen:
		return "listen"
	case old.TLS.Mode != next.TLS.Mode || old.TLS.CertFile != next.TLS.CertFile || old.TLS.KeyFile != next.TLS.KeyFile,
		fmt.Sprint(old.TLS.TrustedProxies) != fmt.Sprint(next.TLS.TrustedProxies):
		return "tls"
	case old.Storage.URL.Reveal() != next.Storage.URL.Reveal():
		return "storage"
	case old.Secrets.MasterKey.Reveal() != next.Secrets.MasterKey.Reveal():
		return "secrets.master_key_file"
	case old.Journal != next.Journal:
		return "journal"
	case old.Telemetry != next.Telemetry:
		return "telemetry"
	case old.Log.Format != next.Log.Format:
		return "log.format"
	}
	return ""
}

// endChanged ends every token of clients and users that the file no longer has
// or has disabled, and of users with a new password.
func (s *service) endChanged(ctx context.Context, now map[string]string) error {
	at := time.Now().Truncate(time.Millisecond)
	expires := at.Add(authority.MaxGrantTTL + authority.Leeway)
	var errs []error
	for id, was := range s.declared {
		is, there := now[id]
		if there && is == was {
			continue
		}
		why := "disabled or enabled in the configuration, or a new password there"
		if !there {
			why = "removed from the configuration"
		}
		kind, key, _ := strings.Cut(id, " ")
		err := s.follower.Revoke(ctx, authority.Revocation{Kind: authority.RevocationKind(kind), Key: key, NotBefore: at, ExpiresAt: expires})
		if err == nil {
			err = s.record(ctx, authority.Event{Type: authority.EventEpochSet, At: at, Target: id, Reason: why})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keepDeclared remembers, beyond this process, what is in force.
func (s *service) keepDeclared(ctx context.Context, now map[string]string) error {
	s.declared = now
	return s.db.SaveDeclared(ctx, now)
}
