package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/server"
)

// Listeners are the two addresses of a node.
type Listeners struct{ Public, Admin net.Listener }

// Listen opens what the configuration names.
func Listen(cfg *config.Config) (Listeners, error) {
	public, err := net.Listen("tcp", cfg.Listen.Public)
	if err != nil {
		return Listeners{}, fmt.Errorf("listen.public: %w", err)
	}
	private, err := net.Listen("tcp", cfg.Listen.Admin)
	if err != nil {
		return Listeners{}, errors.Join(fmt.Errorf("listen.admin: %w", err), public.Close())
	}
	switch cfg.TLS.Mode {
	case config.TLSFiles:
		public, err = server.ListenTLSFiles(public, cfg.TLS.CertFile, cfg.TLS.KeyFile)
	case config.TLSACME:
		public, err = server.ListenACME(public, cfg.Issuer, cfg.TLS.ACME.CacheDir, cfg.TLS.ACME.Email, cfg.TLS.ACME.DirectoryURL)
	case config.TLSOff:
	}
	if err != nil {
		return Listeners{}, errors.Join(err, private.Close())
	}
	return Listeners{public, private}, nil
}

const maxHeader = 32 << 10

func httpServer(handler http.Handler) *http.Server {
	silent := &silentConns{open: map[net.Conn]struct{}{}}
	srv := &http.Server{
		Handler: handler, MaxHeaderBytes: maxHeader - 4096, // net/http adds 4096
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 75 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ConnState: silent.track,
	}
	srv.RegisterOnShutdown(silent.close)
	return srv
}

// silentConns are connections on which nothing has been sent yet. Browsers
// keep such ones in hand, and Shutdown would wait five seconds for each.
type silentConns struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (s *silentConns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.open[c] = struct{}{}
	} else {
		delete(s.open, c)
	}
}

func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close() // nothing was asked on it
	}
}
