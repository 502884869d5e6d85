package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// service is one node: everything that `serve` and `dev` run.
type service struct {
	config    atomic.Pointer[config.Config]
	log       *slog.Logger
	lines     *server.LineWriter
	level     *slog.LevelVar
	db        *sqldb.DB
	master    keys.MasterKey
	refresh   authority.RefreshKey
	ring      *keys.Ring
	node      string
	journal   *journal.Journal
	directory *authority.Directory
	declared  map[string]string // stateOf what is in force; only start and reload touch it
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
func openService(ctx context.Context, cfg *config.Config, env *Environment) (_ *service, err error) {
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
	s.refresh = authority.NewRefreshKey(s.master.Derive("refresh token"))
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
	declared, err := declaredOf(cfg, s.master)
	if err != nil {
		return nil, err
	}
	if err = s.directory.Declare(ctx, declared); err != nil {
		return nil, err
	}
	// What the file no longer says ends, also where it was changed while nobody looked.
	state := stateOf(declared)
	if s.declared, err = s.db.Declared(ctx); err != nil {
		return nil, err
	}
	if err = s.endChanged(ctx, state); err != nil {
		return nil, err
	}
	if err = s.keepDeclared(ctx, state); err != nil {
		return nil, err
	}
	opaque := seal.NewBox(s.master.Derive("opaque access token"), "access token "+cfg.Issuer)
	s.reader = issue.NewReader(cfg.Issuer, s.ring.Find, opaque, s.follower.View.Revoked, time.Now)
	s.issuer = &issue.Issuer{
		Settings: s.settings, User: s.directory.User, Revoked: s.follower.View.Revoked,
		Signer: s.ring.Signer, Opaque: opaque, Record: s.record, Recordable: s.journal.Ready,
	}
	if endpoint := cfg.Telemetry.OTLPEndpoint; endpoint != "" {
		if s.tracer, s.endTracer, err = server.NewTracer(ctx, endpoint, version, s.log); err != nil {
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
