package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
)

const watchEvery = 2 * time.Second

// Follow reloads the configuration when one of its files has changed, and when
// asked (SIGHUP), until ctx ends.
func (n *Node) Follow(ctx context.Context, asked <-chan os.Signal, load func() (*config.Config, error)) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	files, again := n.config.Load().Files, false
	for {
		wanted := again
		select {
		case <-ctx.Done():
			return
		case <-asked:
			wanted = true
		case <-ticker.C:
		}
		if !wanted && !config.Changed(files) {
			continue
		}
		next, err := load()
		if err == nil {
			files, err = next.Files, n.Reload(ctx, next)
		} else {
			files = config.FilesOf(err)
		}
		again = errors.Is(err, errTryAgain)
		if err != nil {
			n.log.Error("the new configuration is refused, the one before it stays", "error", err)
			_ = n.record(ctx, authority.Event{Type: authority.EventConfigRefused, Target: n.config.Load().Name(), Reason: err.Error()})
		}
	}
}

// errTryAgain is a reload that failed through no fault of the file's.
var errTryAgain = errors.New("it is tried again")

// Reload puts a new configuration in place, or changes nothing.
func (n *Node) Reload(ctx context.Context, next *config.Config) error {
	old := n.config.Load()
	if fixed := needsRestart(old, next); fixed != "" {
		return fmt.Errorf("%s cannot change while the service runs: restart it", fixed)
	}
	declared, err := declaredOf(next, n.master)
	if err != nil {
		return err
	}
	if err := n.directory.Check(ctx, declared); err != nil {
		return unlessOverlap(err)
	}
	digests := digestsOf(declared)
	// Recorded first: nothing is in force that is not on record. Then what has
	// to end is ended: if that fails, nothing has changed and it is tried again.
	if err := n.record(ctx, authority.Event{Type: authority.EventConfigLoaded, Target: next.Name(), Reason: "reloaded"}); err != nil {
		return errors.Join(errTryAgain, err)
	}
	if err := n.endChanged(ctx, digests); err != nil {
		return errors.Join(errTryAgain, err)
	}
	if err := n.directory.Declare(ctx, declared); err != nil {
		return unlessOverlap(err)
	}
	n.config.Store(next)
	n.setLogLevel(next)
	n.logWarnings(next)
	n.log.Info("the configuration was reloaded", slog.Int("clients", len(next.Clients)), slog.Int("users", len(next.Users)))
	// And once more, for what was issued between the ending and the change.
	if err := n.endChanged(ctx, digests); err != nil {
		n.log.Error("what was issued during the reload could not be ended", "error", err)
	}
	if err := n.keepDeclared(ctx, digests); err != nil {
		n.log.Error("the next start will end what this reload has ended once more", "error", err)
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
func (n *Node) endChanged(ctx context.Context, now map[string]string) error {
	var errs []error
	for id, was := range n.declared {
		is, there := now[id]
		if there && is == was {
			continue
		}
		why := "disabled or enabled in the configuration, or a new password there"
		if !there {
			why = "removed from the configuration"
		}
		kind, key, _ := strings.Cut(id, " ")
		err := n.endings.SetEpoch(ctx, authority.RevocationKind(kind), key, authority.Event{Target: id, Reason: why})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keepDeclared remembers, beyond this process, what is in force.
func (n *Node) keepDeclared(ctx context.Context, now map[string]string) error {
	n.declared = now
	return n.db.SaveDeclared(ctx, now)
}
