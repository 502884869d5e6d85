// Package signalboxtest runs a real issuer inside a test: a Signalbox node on a
// temporary database, with a clock that the test can move.
//
// A service that accepts tokens is tested with tokens that are real: good, with
// too little scope, for somebody else, expired, revoked, signed with a new key.
//
//	issuer := signalboxtest.New(t,
//		signalboxtest.Resource{ID: "https://api.example.com", Scopes: []string{"orders:read"}},
//		signalboxtest.Client{ID: "shop", Resources: []string{"https://api.example.com"}, Scopes: []string{"orders:read"}},
//	)
//	token := issuer.Token(signalboxtest.Request{Client: "shop"})
//
// Whatever goes wrong ends the test, so no method returns an error.
package signalboxtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Issuer is a running issuer. Its methods may be called from several goroutines.
type Issuer struct {
	// URL is the `iss` of its tokens, and where its endpoints are: plain HTTP on a
	// port of the loopback address. Discovery is below it, as of every issuer.
	URL string

	fail    func(format string, args ...any) // ends the test
	helper  func()
	node    *node.Node
	http    *http.Client
	admin   *admin.API
	ahead   atomic.Int64 // how far the clock is before the real one
	log     *log
	closing func()

	asking  sync.RWMutex // held for writing while the clock is set back
	mu      sync.Mutex
	clients map[string]registered
	users   map[string]person
}

// New starts an issuer with what the options name. It ends with the test. Its
// warnings are in the test's output.
func New(t testing.TB, options ...Option) *Issuer {
	t.Helper()
	i := &Issuer{fail: t.Fatalf, helper: t.Helper, log: &log{to: t.Output()}}
	dir := t.TempDir() // removed after Close: what is registered last runs first
	t.Cleanup(i.Close)
	i.start(dir, options)
	return i
}

// Start is New for programs that are not tests, such as examples. It panics
// where New ends the test. Call Close.
func Start(options ...Option) *Issuer {
	i := &Issuer{fail: func(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }, helper: func() {}, log: &log{to: io.Discard}}
	dir, err := os.MkdirTemp("", "signalboxtest-")
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	i.closing = func() { _ = os.RemoveAll(dir) }
	i.start(dir, options)
	return i
}

// Close ends the issuer. An issuer of New is closed with its test.
func (i *Issuer) Close() {
	if i.closing != nil {
		i.closing()
		i.closing = nil
	}
}

// HTTPClient is a client for requests to the issuer. It follows no redirects.
func (i *Issuer) HTTPClient() *http.Client { return i.http }

// Now is the time of the issuer's clock. A verifier whose clock can be set
// should have this one.
func (i *Issuer) Now() time.Time { return time.Now().Add(time.Duration(i.ahead.Load())) }

// Advance moves the issuer's clock forward: tokens, codes, sessions and keys
// grow older. Other clocks stay where they are, so a token that is issued
// afterwards is from the future to a verifier with the real time.
func (i *Issuer) Advance(d time.Duration) {
	i.helper()
	if d < 0 {
		i.fail("signalboxtest: the clock moves forward only, not by %s", d)
	}
	i.ahead.Add(int64(d))
	if err := i.node.CatchUp(context.Background()); err != nil {
		i.fail("signalboxtest: advance: %v", err)
	}
}

// adminClient may do everything over the admin API. Nobody knows its secret.
const adminClient = "signalboxtest"

const configuration = `issuer: %[1]s
listen: {public: %[2]q, admin: %[3]q}
tls: {off: true}
storage: {url: "sqlite:signalbox.db"}
secrets: {master_key_file: master.key}
log: {level: warn, format: text}
clients:
  - client_id: ` + adminClient + `
    grant_types: [client_credentials]
    client_secret_hash: "sha256:%[4]x"
    scope: clients:read clients:write users:read users:write keys:read keys:write grants:read grants:write resources:read resources:write clusters:read clusters:write
    resources: ["urn:signalbox:admin"]
`

func (i *Issuer) start(dir string, options []Option) {
	i.helper()
	if err := i.open(dir); err != nil {
		i.Close()
		i.fail("signalboxtest: %v", err)
	}
	i.Add(options...)
}

// open starts the node. What it opened is closed by Close, also after an error.
func (i *Issuer) open(dir string) error {
	i.clients, i.users = map[string]registered{}, map[string]person{}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	i.onClose(func() { _ = public.Close() })
	forAdmin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	i.onClose(func() { _ = forAdmin.Close() })
	i.URL = "http://" + public.Addr().String()
	master := filepath.Join(dir, "master.key")
	if err := os.WriteFile(master, []byte(keys.GenerateMasterKey().Encode()), 0o600); err != nil {
		return err
	}
	hash := oauth.NewSecret(oauth.PrefixClientSecret).Hash()
	text := fmt.Sprintf(configuration, i.URL, public.Addr(), forAdmin.Addr(), hash)
	cfg, err := config.Parse(filepath.Join(dir, "signalbox.yaml"), []byte(text), nil)
	if err != nil {
		return err
	}
	if i.node, err = node.Open(context.Background(), cfg, node.Options{Now: i.Now, Log: i.log}); err != nil {
		return err
	}
	i.onClose(func() {
		i.node.Close()
		i.log.end()
	})
	transport := &http.Transport{}
	i.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if i.admin, err = i.newAdmin("http://" + forAdmin.Addr().String()); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		served <- i.node.Serve(ctx, node.Listeners{Public: public, Admin: forAdmin}, func() error { close(started); return nil })
	}()
	i.onClose(func() {
		transport.CloseIdleConnections()
		stop()
		<-served
	})
	select {
	case <-started:
		return nil
	case err := <-served:
		served <- err
		return err
	}
}

// onClose adds what Close does, the last one first.
func (i *Issuer) onClose(do func()) {
	before := i.closing
	i.closing = func() {
		do()
		if before != nil {
			before()
		}
	}
}

// log is the node's log until the issuer is closed: a test's output must not be
// written to afterwards.
type log struct {
	mu sync.Mutex
	to io.Writer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

func (l *log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = io.Discard
}
