package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
	"github.com/signalbox-sts/signalbox/internal/server/metadata"
	"github.com/signalbox-sts/signalbox/internal/server/token"
	"github.com/signalbox-sts/signalbox/internal/signin"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

const testIssuer = "https://sts.example.com"

// logBuffer is a log that a test may read while a server writes.
type logBuffer struct {
	lines *LineWriter
	mu    sync.Mutex
	buf   bytes.Buffer
}

func newLog(format string, level slog.Level) (*slog.Logger, *logBuffer) {
	log := new(logBuffer)
	log.lines = NewLineWriter(log)
	return NewLogger(log.lines, format, level), log
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	_ = b.lines.Flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newMiddleware() (*Middleware, *logBuffer) {
	logger, log := newLog("json", slog.LevelInfo)
	return &Middleware{Log: logger, Metrics: NewMetrics(nil), Now: time.Now}, log
}

// newPublic wires the public listener over a database of its own.
func newPublic(t *testing.T) Public {
	t.Helper()
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	settings := func() authority.Issuer {
		return authority.Issuer{URL: testIssuer, AccessTTL: 5 * time.Minute, IDTTL: 5 * time.Minute, CodeTTL: time.Minute}
	}
	directory := authority.NewDirectory(db)
	err = directory.Declare(t.Context(), authority.Declared{Clients: map[string]authority.Client{"service": {
		ID: "service", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
		Secrets: []authority.ClientSecret{{Hash: sha256.Sum256([]byte("the secret"))}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.NewPublicKey("k1", jose.ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	follower := &revocation.Follower{View: revocation.NewView(), Store: db, Now: time.Now}
	if err := follower.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	record := func(context.Context, authority.Event) error { return nil }
	box := seal.NewBox([32]byte{1}, "access token")
	issuer := &issue.Issuer{
		Settings: settings, Account: directory.Account, Revoked: follower.View.Revoked, Opaque: box, Record: record,
		Signer: func(_ jose.Algorithm, typ string) (*jose.Signer, error) {
			return jose.NewSigner("k1", jose.ES256, typ, private)
		},
	}
	reader := issue.NewReader(issue.Checks{
		Issuer: testIssuer, Find: jose.KeySet{public}.Find, Opaque: box, Revoked: follower.View.Revoked, Fresh: follower.Fresh, Alive: directory.Alive, Now: time.Now,
	})
	endings := &revocation.Endings{Store: db, Follower: follower, Record: record, Now: time.Now}
	pages := &browser.Pages{Settings: settings, State: seal.NewBox([32]byte{3}, "page state"), Now: time.Now}
	sessions := &browser.Sessions{
		Pages: pages, Store: db, Directory: directory, Endings: endings, Revoked: follower.View.Revoked, Record: record,
	}
	signIn := &signin.Handler{
		Pages: pages, Sessions: sessions, Directory: directory, Epoch: follower.View.NewestEpoch,
		Record: record, Tally: func(authority.Event) {}, Now: time.Now, After: time.After, Devices: seal.NewBox([32]byte{4}, "device"),
	}
	return Public{
		Issuer: settings(),
		Token: &token.Handler{
			Settings: settings, Directory: directory, Grants: db, Refresh: authority.NewRefreshKey([32]byte{2}),
			Clients: &clientauth.Authenticator{Issuer: testIssuer, Directory: directory, Tickets: db, Limit: clientauth.NewLimiter(time.Now), Now: time.Now},
			Issue:   issuer.Issue, Tokens: reader, Endings: endings, Sessions: db,
			Record: record, Tally: func(context.Context, authority.Event) {}, Now: time.Now,
		},
		Pages: pages, Sessions: sessions, SignIn: signIn,
		Authorize: &authorize.Handler{
			Settings: settings, Directory: directory, Pages: pages, Sessions: sessions, SignIn: signIn, Grants: db, Endings: endings,
			Record: record, Epoch: follower.View.NewestEpoch, Now: time.Now,
			VerifyHint: func(string) (string, string, string, error) { return "", "", "", authority.ErrNotFound },
		},
		KeySet:       func() ([]byte, string) { return []byte(`{"keys":[]}`), `"tag-1"` },
		KeySetMaxAge: int(keys.MaxAge / time.Second), AssertionAlgs: clientauth.AssertionAlgorithms(),
		Supported: func() metadata.Supported {
			return metadata.Supported{Algorithms: []string{"ES256"}, ResourceScopes: []string{"read"}}
		},
		Ready: func(context.Context) error { return nil },
	}
}

// ask sends one request to a handler.
func ask(h http.Handler, method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, r)
	return answer.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
