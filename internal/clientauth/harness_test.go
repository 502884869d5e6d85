package clientauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

const testIssuer = "https://sts.example.com"

// world is an authenticator on a real database, with a clock that the test moves.
type world struct {
	*Authenticator
	t         testing.TB
	db        *sqldb.DB
	declared  authority.StaticObjects
	file      *authority.StaticObjects // declared, complete
	directory *authority.Directory

	mu      sync.Mutex
	now     time.Time
	lookups int
	proofs  int
	vouched map[string]authority.Proof // what other issuers have made, by the token
	shown   authority.Proof            // what the last Authenticate told of
	broken  error                      // what the ticket store answers, if it is not nil
}

func secretOf(name string) string { return "secret-of-" + name }

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)}
	db, err := sqldb.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	w.declared.Clients = map[string]authority.Client{
		"service": testClient("service", oauth.AuthClientSecretBasic),
		"post":    testClient("post", oauth.AuthClientSecretPost),
		"spa":     testClient("spa", oauth.AuthNone),
		"signed":  testClient("signed", oauth.AuthPrivateKeyJWT),
		"argocd":  federatedClient("argocd", argocdServer),
		"builder": federatedClient("builder", authority.FederatedCredential{TrustedIssuer: "ci", Subject: "repo:acme"}),
	}
	w.directory = authority.DirectoryOf(countedStore{db, w}, func() *authority.StaticObjects { return w.file })
	w.declare()
	w.Authenticator = &Authenticator{
		Issuer: testIssuer, Directory: w.directory, Tickets: breakableTickets{db, w}, Prove: w.prove, Limit: NewLimiter(w.clock), Now: w.clock,
	}
	return w
}

func testClient(id string, method oauth.AuthMethod) authority.Client {
	return authority.Client{
		ID: id, AuthMethod: method, Scopes: oauth.MustScopes("read"), GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
		Secrets: []authority.ClientSecret{{Hash: sha256.Sum256([]byte(secretOf(id)))}},
	}
}

var errNoProof = oauth.Errorf(oauth.InvalidRequest, "the token is not signed by an issuer that is trusted here")

// prove does what a node does, with tokens that the test has made up.
func (w *world) prove(_ context.Context, raw string) (authority.Proof, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proofs++
	if w.broken != nil {
		return authority.Proof{}, w.broken
	}
	proof, ok := w.vouched[raw]
	switch {
	case !ok:
		return authority.Proof{}, errNoProof
	case proof.Subject == "": // authentic, and no proof all the same
		return proof, errNoProof
	}
	return proof, nil
}

func (w *world) declare() {
	w.t.Helper()
	complete, err := w.declared.Complete()
	if err != nil {
		w.t.Fatal(err)
	}
	w.file = complete
}

var argocdServer = authority.FederatedCredential{Cluster: "hub", Namespace: "argocd", ServiceAccount: "server"}

func federatedClient(id string, f authority.FederatedCredential) authority.Client {
	c := testClient(id, oauth.AuthFederatedJWT)
	c.Secrets, c.Federated = nil, f
	return c
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// countedStore counts how often the database is asked for a client.
type countedStore struct {
	authority.ObjectStore
	w *world
}

func (s countedStore) Object(ctx context.Context, kind authority.Kind, id string) (authority.Object, error) {
	s.w.mu.Lock()
	s.w.lookups++
	s.w.mu.Unlock()
	return s.ObjectStore.Object(ctx, kind, id)
}

var errDown = errors.New("the disk is gone")

type breakableTickets struct {
	authority.TicketStore
	w *world
}

func (b breakableTickets) TakeTicket(ctx context.Context, t authority.Ticket) error {
	b.w.mu.Lock()
	err := b.w.broken
	b.w.mu.Unlock()
	if err != nil {
		return err
	}
	return b.TicketStore.TakeTicket(ctx, t)
}

func (w *world) breakTickets(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = err
}

// reply is what an endpoint that does nothing else answers.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	client string // the client that has proved itself
}

func (r reply) text(name string) string { s, _ := r.body[name].(string); return s }

func (w *world) ask(form url.Values, change ...func(*http.Request)) reply {
	w.t.Helper()
	r := httptest.NewRequest("POST", testIssuer+"/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(r)
	}
	r = r.WithContext(httpx.WithRequest(r.Context(), &httpx.Request{ID: "req", Remote: "192.0.2.1"}))
	var client authority.Client
	params, err := httpx.ReadForm(r)
	if err == nil {
		client, w.shown, err = w.Authenticate(r, params)
	}
	answer := httptest.NewRecorder()
	if err != nil {
		httpx.Error(answer, r, err)
	} else {
		httpx.JSON(answer, http.StatusOK, struct{}{})
	}
	got := reply{status: answer.Code, header: answer.Header(), client: client.ID}
	if err := json.Unmarshal(answer.Body.Bytes(), &got.body); err != nil {
		w.t.Fatalf("not JSON: %q", answer.Body)
	}
	return got
}

func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := maps.Clone(v)
	for i := 0; i < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}
