package node

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/kubernetes"
	"github.com/signalbox-sts/signalbox/internal/server/token"
	"github.com/signalbox-sts/signalbox/internal/signin"
)

// publicHandler wires what the public listener serves.
func (n *Node) publicHandler() http.Handler {
	cfg := n.config()
	clients := &clientauth.Authenticator{
		Issuer: cfg.Issuer, Directory: n.directory, Tickets: n.store, Prove: n.prove, Limit: clientauth.NewLimiter(n.now), Now: n.now,
	}
	pages := &browser.Pages{
		Settings: n.settings, State: seal.NewBox(n.master.Derive("page state"), "page state "+cfg.Issuer),
		Now: n.now, Insecure: strings.HasPrefix(cfg.Issuer, "http://"),
	}
	sessions := &browser.Sessions{
		Pages: pages, Store: n.store, Directory: n.directory, Endings: n.endings, Revoked: n.follower.View.Revoked, Record: n.record,
	}
	signIn := &signin.Handler{
		Pages: pages, Sessions: sessions, Directory: n.directory, Epoch: n.follower.View.NewestEpoch,
		Record: n.record, Tally: func(e authority.Event) { n.tally(context.Background(), e) }, Now: n.now, After: time.After,
		Devices: seal.NewBox(n.master.Derive("known devices"), "known device "+cfg.Issuer),
	}
	public := server.Public{
		Issuer: n.settings(),
		Token: &token.Handler{
			Settings: n.settings, Directory: n.directory, Clients: clients, Grants: n.store, Sessions: n.store,
			Refresh: n.refresh, Issue: n.issuer.Issue, Tokens: n.reader, Endings: n.endings,
			Prove: n.prove, Decide: n.decide, Standing: token.NewStanding(n.store, n.endings, n.record, n.now),
			Ends: token.NewEndLimit(n.now), Record: n.record, Tally: n.tally, Now: n.now,
		},
		Pages: pages, Sessions: sessions, SignIn: signIn,
		Authorize: &authorize.Handler{
			Settings: n.settings, Directory: n.directory, Pages: pages, Sessions: sessions, SignIn: signIn, Grants: n.store, Endings: n.endings,
			Record: n.record, Epoch: n.follower.View.NewestEpoch, ReadIDToken: n.reader.IDToken, Told: n.logouts.Wait, Now: n.now,
		},
		Kubernetes: &kubernetes.Handler{
			Settings: n.settings, Directory: n.directory, Clients: clients, Tokens: n.reader, Record: n.record, Tally: n.tally, Now: n.now,
		},
		KeySet: n.ring.JWKS, Cluster: n.directory.Cluster, ClusterKeys: n.verifier.Keys,
		Supported: n.supported, AssertionAlgs: clientauth.AssertionAlgorithms(), Ready: n.ready,
	}
	return public.Handler(n.publicMiddleware())
}

// adminHandler wires what the admin listener serves.
func (n *Node) adminHandler() http.Handler {
	api := &admin.API{
		Settings: n.settings, Directory: n.directory, Store: n.store, Grants: n.store, Sessions: n.store, Tokens: n.reader, Endings: n.endings,
		GrantOf: func(raw string) (authority.ID, error) { token, err := n.refresh.Parse(raw); return token.GrantID, err },
		Keys:    n.ring.Keys, RotateKey: n.ring.Rotate, RemoveKey: n.ring.Remove, HashPassword: password.Hash,
		ClusterStatus: n.clusterStatus, IssuerStatus: n.issuerStatus,
		Record: n.record, Tally: func(e authority.Event) { n.tally(context.Background(), e) },
		Journal: n.journal, JournalDir: n.config().Journal.Dir, Node: n.journal.Node(), Journals: n.store, Refusals: n.refusals, Now: n.now,
	}
	return server.Admin{API: api, Ready: n.ready}.Handler(n.middleware())
}

// middleware surrounds the admin listener, which is plain HTTP where the operator
// has put it.
func (n *Node) middleware() *server.Middleware {
	return &server.Middleware{
		Log: n.log, Metrics: n.metrics, Tracer: n.tracer, TrustedProxies: n.config().TLS.TrustedProxies,
		Node: n.journal.Node(), Refusals: n.refusals, Now: n.now,
	}
}

// publicMiddleware surrounds the public listener.
func (n *Node) publicMiddleware() *server.Middleware {
	cfg, m := n.config(), n.middleware()
	m.HTTPS = strings.HasPrefix(cfg.Issuer, "https://")
	if cfg.TLS.Mode == config.TLSOff {
		m.PlainFrom = plainFrom(cfg)
	}
	return m
}

// plainFrom is who may speak plain HTTP to us: the proxies that end TLS, and this
// machine itself where it is the only one that should come.
func plainFrom(cfg *config.Config) []netip.Prefix {
	from := slices.Clone(cfg.TLS.TrustedProxies)
	if strings.HasPrefix(cfg.Issuer, "http://") || config.OnLoopback(cfg.Listen.Public) {
		from = append(from, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	}
	return from
}
