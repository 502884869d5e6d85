package node

import (
	"errors"
	"fmt"
	"net"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/server"
)

// Listeners are the two addresses of a node.
type Listeners struct{ Public, Admin net.Listener }

// Listen opens what the configuration names, with a function that opens the
// listener of a name at an address.
func Listen(cfg *config.Config, listen func(name, address string) (net.Listener, error)) (Listeners, error) {
	public, err := listen("public", cfg.Listen.Public)
	if err != nil {
		return Listeners{}, fmt.Errorf("listen.public: %w", err)
	}
	private, err := listen("admin", cfg.Listen.Admin)
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
