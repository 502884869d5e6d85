// Package nodetest is a real node for the tests of handlers: wired as every
// node is, on a temporary database and journal, with a clock that stays where
// the test puts it and a storage that fails when it is told to.
package nodetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node"
)

// Issuer is the URL of every rig's issuer.
const Issuer = "https://sts.example.com"

// Rig is a node and what a test can do to it.
type Rig struct {
	T             testing.TB
	Node          *node.Node
	Parts         node.Parts
	Public, Admin http.Handler
	DB            node.Store              // the database itself, which never fails on demand
	Directory     *authority.Directory    // as the handlers see it
	Static        authority.StaticObjects // see Declare

	log      buffer
	mu       sync.Mutex
	config   *config.Config
	now      time.Time
	failing  map[string]error
	before   func(method string)
	after    func(method string)
	recorded []authority.Event
	tallied  []authority.Event
	sessions map[authority.ID]authority.Session
}

// Setup is what a rig starts with.
type Setup struct {
	Static authority.StaticObjects // what the configuration file declares
	Now    time.Time               // zero means noon on 2026-03-01
	Config string                  // more of the configuration file
	Issuer string                  // its URL; empty means Issuer
}

const configuration = `
listen: {public: "127.0.0.1:1", admin: "127.0.0.1:2"}
tls: {cert_file: tls.crt, key_file: tls.key}
storage: {url: "sqlite:signalbox.db"}
secrets: {master_key_file: master.key}
`

// New opens a node. Nothing listens: tests call the handlers.
func New(t testing.TB, setup Setup) *Rig {
	t.Helper()
	r := &Rig{T: t, Static: setup.Static, now: setup.Now, failing: map[string]error{}, sessions: map[authority.ID]authority.Session{}}
	if r.now.IsZero() {
		r.now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	}
	dir := folder(t)
	certificate, key := pair()
	for name, content := range map[string][]byte{"tls.crt": certificate, "tls.key": key, "master.key": []byte(keys.GenerateMasterKey().Encode())} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.config, err = config.Parse(filepath.Join(dir, "signalbox.yaml"), []byte("issuer: "+cmp.Or(setup.Issuer, Issuer)+configuration+setup.Config), nil); err != nil {
		t.Fatal(err)
	}
	r.Node, err = node.Open(t.Context(), r.config, node.Options{Now: r.Now, Log: &r.log, Hooks: node.Hooks{
		Store:  func(db node.Store) node.Store { r.DB = db; return &store{db, r} },
		Record: r.record,
		Tally:  r.tally,
		Static: func() authority.StaticObjects { // the test keeps changing its own
			return authority.StaticObjects{
				Clients: maps.Clone(r.Static.Clients), Users: maps.Clone(r.Static.Users), Resources: maps.Clone(r.Static.Resources),
				Clusters: maps.Clone(r.Static.Clusters), TrustedIssuers: maps.Clone(r.Static.TrustedIssuers), Policies: maps.Clone(r.Static.Policies),
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Node.Close)
	r.Public, r.Admin = r.Node.Handlers()
	r.Parts = r.Node.Parts()
	r.Directory = authority.DirectoryOf(r.DB, func() *authority.StaticObjects {
		declared := r.Static
		declared.Issuer = r.config.Issuer
		complete, err := declared.Complete()
		if err != nil {
			t.Fatal(err)
		}
		return complete
	})
	r.recorded = nil // the start is nobody's subject
	return r
}

// folder is in memory where the system has such a place: nothing of a test has
// to outlive it, and it would wait for the disk most of its time.
func folder(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "signalbox-nodetest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Declare puts r.Static in force, as a reload does.
func (r *Rig) Declare() {
	r.T.Helper()
	if err := r.Node.Reload(context.Background(), r.config); err != nil {
		r.T.Fatal(err)
	}
}

// Now is the node's clock.
func (r *Rig) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Pass moves the clock, and the node hears what others have done meanwhile.
func (r *Rig) Pass(d time.Duration) {
	r.T.Helper()
	r.Wait(d)
	if err := r.Node.CatchUp(context.Background()); err != nil {
		r.T.Fatal(err)
	}
}

// Wait moves the clock of a node that hears nothing.
func (r *Rig) Wait(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// Record is the name of the journal for Fail. All other names are those of the
// store's methods.
const Record = "Record"

// Fail makes something fail with err, until it is nil again.
func (r *Rig) Fail(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing[what] = err
}

// Before calls fn with the name of a store's method, or Record, before each call of
// it, and After does so after it has succeeded.
func (r *Rig) Before(fn func(method string)) { r.mu.Lock(); defer r.mu.Unlock(); r.before = fn }

// After is explained at Before.
func (r *Rig) After(fn func(method string)) { r.mu.Lock(); defer r.mu.Unlock(); r.after = fn }

// Recorded is what the journal was given, and Tallied what it only counts.
func (r *Rig) Recorded() []authority.Event { return r.copy(&r.recorded) }

// Tallied is explained at Recorded.
func (r *Rig) Tallied() []authority.Event { return r.copy(&r.tallied) }

// Sessions are the browsers that are signed in, as far as the handlers' own
// changes have made them so.
func (r *Rig) Sessions() []authority.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.sessions))
}

// EndSession ends a session as another node does, before this one hears of it.
func (r *Rig) EndSession(id authority.ID) {
	r.T.Helper()
	if _, err := r.DB.EndSession(context.Background(), id, authority.Ending{At: r.Now(), Remember: time.Hour}); err != nil {
		r.T.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, id)
}

// Grants are all grants.
func (r *Rig) Grants() []authority.Grant {
	r.T.Helper()
	grants, err := r.DB.Grants(context.Background(), authority.GrantFilter{}, authority.Page{Limit: 1000})
	if err != nil {
		r.T.Fatal(err)
	}
	return grants
}

// Ended is all that has ended, in order.
func (r *Rig) Ended() []authority.Revocation {
	r.T.Helper()
	ended, err := r.DB.Revocations(context.Background(), -1, 1000)
	if err != nil {
		r.T.Fatal(err)
	}
	return ended
}

// Log is what the node has written to its log.
func (r *Rig) Log() string {
	r.Node.FlushLog()
	return r.log.String()
}

// Metrics is the page for Prometheus.
func (r *Rig) Metrics() string {
	r.T.Helper()
	answer := httptest.NewRecorder()
	r.Admin.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		r.T.Fatal(answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// buffer may be read while somebody writes.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (r *Rig) copy(events *[]authority.Event) []authority.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]authority.Event(nil), *events...)
}

func (r *Rig) record(ctx context.Context, e authority.Event) error {
	return do(r, Record, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		r.recorded = append(r.recorded, e)
		return nil
	})
}

func (r *Rig) tally(e authority.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tallied = append(r.tallied, e)
}

// pair is a certificate for the issuer, made once.
var pair = sync.OnceValues(func() (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"sts.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
})
