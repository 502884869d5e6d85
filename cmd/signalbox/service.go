package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/token"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
	"github.com/signalbox-sts/signalbox/internal/wire"
)

// service is one node: everything that `serve` and `dev` run.
type service struct {
	config    atomic.Pointer[config.Config]
	log       *slog.Logger
	lines     *server.LineWriter
	level     *slog.LevelVar
	db        *sqldb.DB
	master    keys.MasterKey
	ring      *keys.Ring
	node      string
	journal   *journal.Journal
	directory *authority.Directory
	follower  *revocation.Follower
	issuer    *issue.Issuer
	reader    *issue.Reader
	metrics   *server.Metrics
	tracer    trace.Tracer
	endTracer func(context.Context) error
	readyMemo readyMemo
}

// openService opens storage, journal and keys, in this order: nothing may
// change before it can be recorded. Close what it returns, also after an error
// later on.
func openService(ctx context.Context, cfg *config.Config, env *environment) (_ *service, err error) {
	s := &service{level: new(slog.LevelVar)}
	s.config.Store(cfg)
	s.setLogLevel(cfg)
	s.lines = server.NewLineWriter(env.Err)
	s.log = server.NewLogger(s.lines, cfg.Log.Format, s.level)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.master, err = masterKeyOf(cfg); err != nil {
		return nil, err
	}
	if s.db, err = sqldb.Open(ctx, cfg.Storage.URL.Reveal()); err != nil {
		return nil, err
	}
	if err = s.openJournal(cfg.Journal.Dir); err != nil {
		return nil, err
	}
	s.follower = &revocation.Follower{
		View: revocation.NewView(), Store: s.db, Now: time.Now, Log: s.log, Applied: s.revoked,
	}
	s.metrics = server.NewMetrics(map[string]server.Gauge{
		"signalbox_revocations": {Help: "Revocations held in memory.", Read: func() float64 { return float64(s.follower.View.Len()) }},
		"signalbox_journal_seq": {Help: "Number of the newest journal record.", Read: func() float64 { return float64(s.journal.Head()) }},
	})
	s.ring = &keys.Ring{Store: s.db, Settings: s.keySettings, Now: time.Now, Record: s.record, Log: s.log}
	if err = s.ring.Open(ctx, s.master); err != nil {
		return nil, err
	}
	if err = s.follower.Load(ctx); err != nil {
		return nil, err
	}
	s.directory = authority.NewDirectory(s.db)
	declared, err := declaredOf(cfg)
	if err != nil {
		return nil, err
	}
	if err = s.directory.Declare(ctx, declared); err != nil {
		return nil, err
	}
	opaque := seal.NewBox(s.master.Derive("opaque access token"), "access token "+cfg.Issuer)
	s.reader = issue.NewReader(cfg.Issuer, s.ring.Find, opaque, s.follower.View.Dead, time.Now)
	s.issuer = &issue.Issuer{
		Settings: s.settings, User: s.directory.User, Dead: s.follower.View.Dead,
		Signer: s.ring.Signer, Opaque: opaque, Record: s.record, Recordable: s.journal.Ready,
	}
	if endpoint := cfg.Telemetry.OTLPEndpoint; endpoint != "" {
		if s.tracer, s.endTracer, err = server.NewTracer(ctx, endpoint, version); err != nil {
			return nil, fmt.Errorf("telemetry.otlp_endpoint: %w", err)
		}
	}
	return s, nil
}

func (s *service) settings() authority.Issuer { return issuerOf(s.config.Load()) }

func (s *service) keySettings() keys.Settings {
	c := s.config.Load().Keys
	settings := keys.Settings{RotateEvery: c.RotateEvery}
	for _, name := range c.Algorithms {
		settings.Algorithms = append(settings.Algorithms, jose.Algorithm(name))
	}
	return settings
}

func (s *service) setLogLevel(cfg *config.Config) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated
	s.level.Set(level)
}

// openJournal opens the audit record. Its checkpoints are signed with a key of
// their own, derived from the master key: signing keys go, the journal stays.
func (s *service) openJournal(dir string) error {
	var err error
	if s.node, err = nodeName(dir); err != nil {
		return err
	}
	signer, err := journalSigner(s.master)
	if err != nil {
		return err
	}
	s.journal, err = journal.Open(dir, s.node, journal.Options{
		Sign: signer.Sign,
		Anchor: func(c journal.Checkpoint) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.db.SaveJournalHead(ctx, c.Node, int64(c.Seq), c.Head, c.Time); err != nil {
				s.log.Warn("the journal's head could not be anchored in the database", "error", err)
			}
		},
	})
	return err
}

func journalSigner(master keys.MasterKey) (*jose.Signer, error) {
	seed := master.Derive("journal checkpoint")
	return jose.NewSigner("journal", jose.EdDSA, "signalbox-journal+jwt", ed25519.NewKeyFromSeed(seed[:]))
}

// nodeName is this node's name in the journal. It is made once and kept beside
// the journal, since a host name may change or be shared.
func nodeName(dir string) (string, error) {
	file := nodeFile(dir)
	if data, err := os.ReadFile(file); err == nil {
		return strings.TrimSpace(string(data)), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	host = regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(host, "-")
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	name := fmt.Sprintf("%.100s_%s", host, hex.EncodeToString(suffix[:]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return name, os.WriteFile(file, []byte(name+"\n"), 0o600)
}

func nodeFile(dir string) string { return filepath.Join(dir, "node") }

// record and recordLater are the one way into the journal: they add what is
// known about the request.
func (s *service) record(ctx context.Context, e authority.Event) error {
	s.complete(ctx, &e)
	return s.journal.Append(ctx, e)
}

func (s *service) recordLater(ctx context.Context, e authority.Event) {
	s.complete(ctx, &e)
	s.journal.AppendLater(e)
}

func (s *service) complete(ctx context.Context, e *authority.Event) {
	req := wire.RequestOf(ctx)
	if e.RequestID == "" && e.Remote == "" {
		e.RequestID, e.Remote = req.ID, req.Remote
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if s.metrics != nil {
		s.metrics.Event(string(e.Type), e.GrantType)
	}
}

// revoked reacts to what any node has revoked: a key that was removed in an
// emergency must be gone here too, now.
func (s *service) revoked(news []authority.Revocation) {
	for _, r := range news {
		if r.Kind == authority.RevokeKey && s.ring != nil {
			go s.dropKey(r.Key)
		}
	}
}

// dropKey reads the keys until the removed one is not among them. The
// revocation comes first, so the key may still be there for a moment.
func (s *service) dropKey(kid string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		err := s.ring.Reload(ctx)
		if err == nil && !slices.ContainsFunc(s.ring.Keys(), func(k authority.Key) bool { return k.ID == kid }) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.log.Error("a key that was revoked is still in the database", "kid", kid)
}

// publicHandler wires what the public listener serves.
func (s *service) publicHandler() http.Handler {
	cfg := s.config.Load()
	clients := &token.Authenticator{
		Issuer: cfg.Issuer, Find: s.directory.Client, Tickets: s.db, Limit: token.NewLimiter(time.Now), Now: time.Now,
	}
	public := server.Public{
		Issuer: s.settings(),
		Token: &token.Handler{
			Settings: s.settings, Directory: s.directory, Clients: clients, Grants: s.db,
			Refresh: authority.NewRefreshKey(s.master.Derive("refresh token")),
			Issue:   s.issuer.Issue, Live: s.reader.Live, Dead: s.follower.View.Dead, Fresh: s.follower.Fresh,
			Revoke: s.follower.Revoke, Took: s.follower.Took, Record: s.record, RecordLater: s.recordLater, Now: time.Now,
		},
		Authorize: &authorize.Handler{
			Settings: s.settings, Directory: s.directory, Grants: s.db, Sessions: s.db,
			Record: s.record, RecordLater: func(e authority.Event) { s.recordLater(context.Background(), e) },
			Dead: s.follower.View.Dead, Epoch: s.follower.View.NewestEpoch, Took: s.follower.Took, VerifyHint: s.verifyHint,
			State: seal.NewBox(s.master.Derive("authorization request"), "authorization request "+cfg.Issuer),
			Now:   time.Now, Insecure: strings.HasPrefix(cfg.Issuer, "http://"),
		},
		KeySet: s.ring.JWKS, KeySetMaxAge: int(keys.MaxAge / time.Second),
		Algorithms: cfg.Keys.Algorithms, AssertionAlgs: token.AssertionAlgorithms(), ResourceScopes: s.resourceScopes(),
		Ready: s.ready,
	}
	return public.Handler(s.shell())
}

// adminHandler wires what the admin listener serves.
func (s *service) adminHandler() http.Handler {
	api := &admin.API{
		Settings: s.settings, Directory: s.directory, Store: s.db, Grants: s.db, Follower: s.follower, Live: s.reader.Live,
		Keys: s.ring.Keys, RotateKey: s.ring.Rotate, RemoveKey: s.ring.Remove, HashPassword: password.Hash,
		Record: s.record, RecordLater: func(e authority.Event) { s.recordLater(context.Background(), e) },
		Journal: s.journal, JournalDir: s.config.Load().Journal.Dir, Node: s.node, Now: time.Now,
	}
	return server.Admin{API: api, Ready: s.ready}.Handler(s.shell())
}

func (s *service) shell() *server.Shell {
	var lines *server.LineWriter
	if s.config.Load().Log.Format == "json" {
		lines = s.lines
	}
	return &server.Shell{
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

// readyMemo remembers the last answer for a moment, so that anonymous callers
// of /readyz cannot keep the database busy.
type readyMemo struct{ last atomic.Pointer[readiness] }

type readiness struct {
	at  time.Time
	err error
}

const readyFor = time.Second

// ready says whether this node can do its work.
func (s *service) ready(ctx context.Context) error {
	now := time.Now()
	if last := s.readyMemo.last.Load(); last != nil && now.Sub(last.at) < readyFor {
		return last.err
	}
	// Not the caller's context: one who hangs up must not make the node look ill
	// to the next.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := errors.Join(s.journal.Ready(), s.db.Ping(ctx), s.follower.Fresh())
	s.readyMemo.last.Store(&readiness{now, err})
	return err
}

// background runs what a node does by itself until ctx ends. The returned
// group is done when all of it has ended.
func (s *service) background(ctx context.Context) *sync.WaitGroup {
	var group sync.WaitGroup
	group.Go(func() { s.follower.Run(ctx, s.db.Changes(ctx)) })
	group.Go(func() { s.ring.Run(ctx) })
	group.Go(func() { s.sweep(ctx) })
	return &group
}

const (
	sweepEvery = 10 * time.Second
	sweepBatch = 500
)

// sweep removes expired rows in small batches, so that nobody needs a janitor.
func (s *service) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		removed, err := s.db.Sweep(ctx, time.Now(), sweepBatch)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("expired rows could not be removed", "error", err)
		}
		if removed == sweepBatch && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// listeners are the two addresses of a node.
type listeners struct{ public, admin net.Listener }

const (
	maxHeader    = 32 << 10
	drainTimeout = 20 * time.Second
)

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

// serve runs the node until ctx ends, then drains: it stops listening, lets
// requests finish, and closes the journal last.
func (s *service) serve(ctx context.Context, ln listeners, started func() error) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	background := s.background(work)
	public, private := httpServer(s.publicHandler()), httpServer(s.adminHandler())
	private.WriteTimeout = 0 // the journal can be followed
	private.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(ln.public) }()
	go func() { failed <- private.Serve(ln.admin) }()
	// work and not ctx: a service that is stopped in its first moment stops well.
	err := s.record(work, authority.Event{Type: authority.EventServiceStarted, Reason: "version " + version})
	if err == nil && started != nil {
		err = started()
	}
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
			s.log.Info("stopping: requests that are under way are finished first")
		}
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err = errors.Join(err, public.Shutdown(drain), private.Shutdown(drain))
	stop()
	background.Wait() // whatever it changes last is still recorded
	return errors.Join(err, s.record(drain, authority.Event{Type: authority.EventServiceStopped}))
}

// close ends what openService opened. The journal goes before the database,
// since its last checkpoint is anchored there.
func (s *service) close() {
	defer func() { _ = s.lines.Flush() }()
	if s.journal != nil {
		if err := s.journal.Close(); err != nil {
			s.log.Error("the journal did not close well", "error", err)
		}
	}
	if s.endTracer != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.endTracer(ctx) // what could not be sent by now is lost, and only spans
	}
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.log.Error("the database did not close well", "error", err)
		}
	}
}
