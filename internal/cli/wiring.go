package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/token"
)

// publicHandler wires what the public listener serves.
func (s *service) publicHandler() http.Handler {
	cfg := s.config.Load()
	clients := &clientauth.Authenticator{
		Issuer: cfg.Issuer, Find: s.directory.Client, Tickets: s.db, Limit: clientauth.NewLimiter(time.Now), Now: time.Now,
	}
	public := server.Public{
		Issuer: s.settings(),
		Token: &token.Handler{
			Settings: s.settings, Directory: s.directory, Clients: clients, Grants: s.db,
			Refresh: s.refresh,
			Issue:   s.issuer.Issue, Live: s.reader.Live, Revoked: s.follower.View.Revoked, Fresh: s.follower.Fresh,
			Revoke: s.follower.Revoke, Took: s.follower.Took, Record: s.record, RecordLater: s.recordLater, Now: time.Now,
		},
		Authorize: &authorize.Handler{
			Settings: s.settings, Directory: s.directory, Grants: s.db, Sessions: s.db,
			Record: s.record, RecordLater: func(e authority.Event) { s.recordLater(context.Background(), e) },
			Revoked: s.follower.View.Revoked, Epoch: s.follower.View.NewestEpoch, Took: s.follower.Took, VerifyHint: s.verifyHint,
			State: seal.NewBox(s.master.Derive("authorization request"), "authorization request "+cfg.Issuer),
			Now:   time.Now, Insecure: strings.HasPrefix(cfg.Issuer, "http://"),
		},
		KeySet: s.ring.JWKS, KeySetMaxAge: int(keys.MaxAge / time.Second),
		Algorithms: cfg.Keys.Algorithms, AssertionAlgs: clientauth.AssertionAlgorithms(), ResourceScopes: s.resourceScopes(),
		Ready: s.ready,
	}
	return public.Handler(s.middleware())
}

// adminHandler wires what the admin listener serves.
func (s *service) adminHandler() http.Handler {
	api := &admin.API{
		Settings: s.settings, Directory: s.directory, Store: s.db, Grants: s.db, Follower: s.follower, Live: s.reader.Live,
		GrantOf: func(raw string) (authority.ID, error) { token, err := s.refresh.Parse(raw); return token.GrantID, err },
		Keys:    s.ring.Keys, RotateKey: s.ring.Rotate, RemoveKey: s.ring.Remove, HashPassword: password.Hash,
		Record: s.record, RecordLater: func(e authority.Event) { s.recordLater(context.Background(), e) },
		Journal: s.journal, JournalDir: s.config.Load().Journal.Dir, Node: s.node, Now: time.Now,
	}
	return server.Admin{API: api, Ready: s.ready}.Handler(s.middleware())
}

func (s *service) middleware() *server.Middleware {
	var lines *server.LineWriter
	if s.config.Load().Log.Format == "json" {
		lines = s.lines
	}
	return &server.Middleware{
		Log: s.log, Lines: lines, Metrics: s.metrics, Tracer: s.tracer, TrustedProxies: s.config.Load().TLS.TrustedProxies, Now: time.Now,
	}
}

func (s *service) resourceScopes() []string {
	var names []string
	for _, r := range s.directory.DeclaredResources() {
		if r.ID != authority.AdminResource {
			names = append(names, r.Scopes.List()...)
		}
	}
	return names
}

// verifyHint reads an id_token_hint: an ID token of ours, also an old one
// (OpenID Connect RP-Initiated Logout §4).
func (s *service) verifyHint(raw string) (clientID, subject, sid string, err error) {
	verified, err := jose.Verify(raw, jose.Expect{
		Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA}, Types: []string{"JWT"},
	}, s.ring.Find)
	if err != nil {
		return "", "", "", err
	}
	iss, _, err := verified.Claims.String("iss")
	if err != nil || iss != s.config.Load().Issuer {
		return "", "", "", errors.New("not an ID token of this issuer")
	}
	if clientID, _, err = verified.Claims.String("aud"); err != nil {
		return "", "", "", err
	}
	if subject, _, err = verified.Claims.String("sub"); err != nil {
		return "", "", "", err
	}
	sid, _, err = verified.Claims.String("sid")
	return clientID, subject, sid, err
}
