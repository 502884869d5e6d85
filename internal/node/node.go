// Package node is one running node: the only place where storage, journal,
// keys, revocations, directory, handlers and background work are wired
// together. Open reads in the order of a node's life.
package node

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/logout"
	"github.com/signalbox-sts/signalbox/internal/outbound"
	"github.com/signalbox-sts/signalbox/internal/refusals"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
	"github.com/signalbox-sts/signalbox/internal/trust"
	"github.com/signalbox-sts/signalbox/internal/version"
)

// Options are what a node takes from the process around it, beside its
// configuration.
type Options struct {
	Now     func() time.Time // the node's clock; nil means time.Now
	Log     io.Writer        // where the log is written; nil means nowhere
	Version version.Info     // of the running binary; zero means that of this build
	// AcceptJournalLoss starts a node whose journal lacks records, and puts that on
	// record forever.
	AcceptJournalLoss bool
	// Patience is how long a node that stops waits for callers to come back on
	// connections that they have open. Zero closes these at once.
	Patience time.Duration
	// Hooks are for tests alone.
	Hooks Hooks
}

// Node is one running node. Open makes it.
type Node struct {
	current atomic.Pointer[current]
	now     func() time.Time
	version version.Info
	hooks   Hooks

	lines *server.LineWriter
	log   *slog.Logger
	level *slog.LevelVar

	master    keys.MasterKey
	refresh   authority.RefreshKey
	db        *sqldb.DB
	store     Store // db, but for a test's hook
	journal   *journal.Journal
	ring      *keys.Ring
	follower  *revocation.Follower
	endings   *revocation.Endings
	outbound  *outbound.Client
	logouts   *logout.Notifier
	directory *authority.Directory
	issuer    *issue.Issuer
	reader    *issue.Reader
	verifier  *trust.Verifier
	clusters  *kube.Manager
	metrics   *server.Metrics
	refusals  *refusals.Memory
	tracer    trace.Tracer
	endTracer func(context.Context) error
	readyMemo readyMemo
	served    bool
	patience  time.Duration
	refused   atomic.Bool // a newer configuration than that in force was refused

	life      context.Context // ends with Close
	die       context.CancelFunc
	declaring sync.Mutex    // one change of current at a time
	announced [32]byte      // content whose changes are on record; guarded by declaring
	ended     chan struct{} // an account, a cluster or an issuer has ended somewhere
	trusting  sync.Mutex    // one change of what is trusted at a time
	watching  bool          // clusters are watched; under trusting

	public, admin http.Handler
}

// Open opens storage, journal and keys, in this order: nothing may change
// before it can be recorded. Close what it returns. Nothing listens and nothing
// runs in the background until Serve.
func Open(ctx context.Context, cfg *config.Config, options Options) (_ *Node, err error) {
	n := newNode(cfg, options)
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.master, err = masterKeyOf(cfg); err != nil {
		return nil, err
	}
	n.refresh = authority.NewRefreshKey(n.master.Derive("refresh token"))
	first, err := n.currentOf(cfg)
	if err != nil {
		return nil, err
	}
	n.current.Store(first)
	if n.db, err = sqldb.Open(ctx, cfg.Storage.URL.Reveal()); err != nil {
		return nil, err
	}
	if err = n.db.CheckClock(ctx); err != nil {
		return nil, err
	}
	n.store = n.db
	if wrap := n.hooks.Store; wrap != nil {
		n.store = wrap(n.db)
	}
	if err = n.openJournal(ctx, cfg, options.AcceptJournalLoss); err != nil {
		return nil, err
	}
	if err = n.openKeys(ctx); err != nil {
		return nil, err
	}
	if err = n.openRevocations(ctx); err != nil {
		return nil, err
	}
	n.directory = authority.DirectoryOf(n.store, n.static)
	if err = n.declare(ctx, first, "at start"); err != nil {
		return nil, err
	}
	n.openIssuer()
	n.openLogouts()
	if err = n.openTrust(ctx); err != nil {
		return nil, err
	}
	if err = n.openTracer(ctx); err != nil {
		return nil, err
	}
	n.public, n.admin = n.publicHandler(), n.adminHandler()
	n.logWarnings(cfg)
	return n, nil
}

func newNode(cfg *config.Config, options Options) *Node {
	n := &Node{now: options.Now, version: options.Version, hooks: options.Hooks, patience: options.Patience, level: new(slog.LevelVar), refusals: refusals.NewMemory(), ended: make(chan struct{}, 1)}
	n.life, n.die = context.WithCancel(context.Background())
	if n.now == nil {
		n.now = time.Now
	}
	if options.Log == nil {
		options.Log = io.Discard
	}
	if n.version == (version.Info{}) {
		n.version = version.Get()
	}
	n.setLogLevel(cfg)
	n.lines = server.NewLineWriter(options.Log)
	n.log = server.NewLogger(n.lines, cfg.Log.Format, n.level)
	n.metrics = server.NewMetrics(n.figures()...)
	return n
}

func (n *Node) openKeys(ctx context.Context) error {
	n.ring = &keys.Ring{Store: n.db, Settings: n.keySettings, Now: n.now, Record: n.record, Log: n.log}
	return n.ring.Open(ctx, n.master)
}

func (n *Node) openRevocations(ctx context.Context) error {
	n.follower = &revocation.Follower{View: revocation.NewView(), Store: n.db, Now: n.now, Log: n.log, Applied: n.revoked}
	n.endings = &revocation.Endings{Store: n.store, Follower: n.follower, Record: n.record, Now: n.now}
	return n.follower.Load(ctx)
}

func (n *Node) openIssuer() {
	url := n.config().Issuer
	opaque := seal.NewBox(n.master.Derive("opaque access token"), "access token "+url)
	n.reader = issue.NewReader(issue.Checks{
		Issuer: url, Find: n.ring.Find, Opaque: opaque,
		Revoked: n.follower.View.Revoked, Fresh: n.follower.Fresh, Alive: n.directory.Alive, Now: n.now,
	})
	n.issuer = &issue.Issuer{
		Settings: n.settings, Account: n.directory.Account, Revoked: n.follower.View.Revoked,
		Signer: n.ring.Signer, ClusterSigner: n.ring.ClusterSigner, Opaque: opaque, Record: n.record,
	}
}

// openLogouts makes what tells clients that a session has ended. From here on nothing
// ends without it.
func (n *Node) openLogouts() {
	out := n.config().Outbound
	options := outbound.Options{AllowLoopback: out.AllowLoopback}
	if len(out.CA) > 0 {
		options.CAs = x509.NewCertPool()
		options.CAs.AppendCertsFromPEM(out.CA) // validated
	}
	n.outbound = outbound.New(options)
	n.logouts = logout.New(logout.Options{
		Issuer: n.config().Issuer,
		Grants: n.store.Grants, Session: n.store.Session, Client: n.directory.Client, Token: n.issuer.LogoutToken,
		Post: n.outbound.PostForm, Record: n.record, Now: n.now, After: time.After, Log: n.log,
	})
	n.endings.Ended = n.logouts.Ended
}

func (n *Node) openTracer(ctx context.Context) (err error) {
	endpoint := n.config().Telemetry.OTLPEndpoint
	if endpoint == "" {
		return nil
	}
	if n.tracer, n.endTracer, err = server.NewTracer(ctx, endpoint, n.version.Version, n.log); err != nil {
		return fmt.Errorf("telemetry.otlp_endpoint: %w", err)
	}
	return nil
}

func (n *Node) setLogLevel(cfg *config.Config) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated
	n.level.Set(level)
}

func (n *Node) logWarnings(cfg *config.Config) {
	for _, warning := range cfg.Warnings {
		n.log.Warn(warning)
	}
}

// revoked reacts to what any node has revoked: a key that was removed in an
// emergency must be gone here too, now; and whoever has ended may be gone from
// the file of another node.
func (n *Node) revoked(news []authority.Revocation) {
	for _, r := range news {
		switch r.Kind {
		case authority.RevokeKey:
			go n.dropKey(r.Key)
		case authority.EpochClient, authority.EpochUser, authority.EpochCluster, authority.EpochIssuer:
			select {
			case n.ended <- struct{}{}:
			default: // it looks already
			}
		}
	}
}

// dropKey reads the keys until the removed one is not among them. The
// revocation comes first, so the key may still be there for a moment.
func (n *Node) dropKey(kid string) {
	ctx, cancel := context.WithTimeout(n.life, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		err := n.ring.Reload(ctx)
		if err == nil && !slices.ContainsFunc(n.ring.Keys(), func(k authority.Key) bool { return k.ID == kid }) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if n.life.Err() != nil {
		return
	}
	n.log.Error("a key that was revoked is still in the database", "kid", kid)
}

// Close ends what Open opened. The journal goes before the database, since its
// last checkpoint is anchored there.
func (n *Node) Close() {
	n.die()
	if n.logouts != nil {
		n.logouts.Close()
	}
	defer func() { _ = n.lines.Flush() }()
	if n.journal != nil {
		if err := n.journal.Close(); err != nil {
			n.log.Error("the journal did not close well", "error", err)
		}
	}
	if n.endTracer != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = n.endTracer(ctx) // what could not be sent by now is lost, and only spans
	}
	if n.db != nil {
		if err := n.db.Close(); err != nil {
			n.log.Error("the database did not close well", "error", err)
		}
	}
	if n.served {
		n.log.Info("stopped")
	}
}
