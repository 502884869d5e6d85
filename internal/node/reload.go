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
// asked (SIGHUP), until ctx ends. It tells after each attempt how it ended.
func (n *Node) Follow(ctx context.Context, asked <-chan os.Signal, load func() (*config.Config, error), tell func(error)) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	files, again := n.config().Files, false
	for config.ReloadWanted(ctx, asked, ticker.C, func() bool { return again || config.Changed(files) }) {
		next, err := load()
		if err == nil {
			files, err = next.Files, n.Reload(ctx, next)
		} else {
			files = config.FilesOf(err)
		}
		again = errors.Is(err, errTryAgain)
		n.refused.Store(err != nil)
		if err != nil {
			n.log.Error("the new configuration is refused, the one before it stays", "error", err)
			_ = n.record(ctx, authority.Event{Type: authority.EventConfigRefused, Target: n.config().Name(), Reason: err.Error()})
		}
		tell(err)
	}
}

// errTryAgain is a reload that failed through no fault of the file's.
var errTryAgain = errors.New("it is tried again")

// Reload puts a new configuration in place, or changes nothing.
func (n *Node) Reload(ctx context.Context, next *config.Config) error {
	if fixed := n.config().Fixed(next); len(fixed) > 0 {
		return fmt.Errorf("%s cannot change while the service runs: restart it", strings.Join(fixed, ", "))
	}
	c, err := n.currentOf(next)
	if err != nil {
		return err
	}
	switch err := n.declare(ctx, c, "reloaded"); {
	case errors.Is(err, errUnrecorded):
		n.log.Error("the configuration was reloaded", "error", err)
	case err != nil:
		return unlessRefused(err)
	}
	n.logWarnings(next)
	n.log.Info("the configuration was reloaded", slog.Int("clients", len(next.Clients)), slog.Int("users", len(next.Users)))
	if err := n.ring.Tick(ctx); err != nil { // a new algorithm needs its key; it is tried again later
		n.log.Warn("signing keys could not be brought in line with the new configuration", "error", err)
	}
	return nil
}

// unlessRefused: a database that did not answer is asked again; a file that it
// refuses will be refused again.
func unlessRefused(err error) error {
	var refused config.Errors
	if errors.Is(err, authority.ErrOverlap) || errors.Is(err, authority.ErrRetired) || errors.As(err, &refused) {
		return err
	}
	return errors.Join(errTryAgain, err)
}
