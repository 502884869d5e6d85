package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

const (
	testIssuer   = "https://sts.example.com"
	testAPI      = "https://api.example.com"
	otherAPI     = "https://other.example.com"
	opaqueAPI    = "https://opaque.example.com"
	testRedirect = "https://app.example.com/callback"
	testVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// world is a token handler on a real database, with a clock that the test moves.
type world struct {
	t         *testing.T
	h         *Handler
	db        *sqldb.DB
	follower  *revocation.Follower
	declared  authority.Declared
	directory *authority.Directory

	mu     sync.Mutex
	now    time.Time
	events []authority.Event
	later  []authority.Event
	hangUp func()
	fail   map[string]error // what must fail: "record", "redeem", "rotate", "end", "grant", "session", "ticket", "user"
}

func secretOf(name string) string { return "secret-of-" + name }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC), fail: map[string]error{}}
	ctx := context.Background()
	db, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	client := func(id string, method oauth.AuthMethod, scope string, grants ...oauth.GrantType) authority.Client {
		scopes, err := oauth.ParseScopes(scope)
		if err != nil {
			t.Fatal(err)
		}
		redirect, err := authority.ParseRedirectURI(testRedirect)
		if err != nil {
			t.Fatal(err)
		}
		return authority.Client{
			ID: id, AuthMethod: method, Scopes: scopes, GrantTypes: grants, Resources: []string{testAPI, otherAPI},
			RedirectURIs: []authority.RedirectURI{redirect},
			Secrets:      []authority.ClientSecret{{Hash: sha256.Sum256([]byte(secretOf(id)))}},
		}
	}
	web := []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	w.declared = authority.Declared{
		Clients: map[string]authority.Client{
			"service": client("service", oauth.AuthClientSecretBasic, "read write", oauth.ClientCredentials),
			"post":    client("post", oauth.AuthClientSecretPost, "read", oauth.ClientCredentials),
			"web":     client("web", oauth.AuthClientSecretBasic, "openid profile email offline_access read write", web...),
			"web2":    client("web2", oauth.AuthClientSecretBasic, "openid read", web...),
			"spa":     client("spa", oauth.AuthNone, "openid read offline_access", web...),
			"api":     client("api", oauth.AuthClientSecretBasic, ""),
			"nobody":  client("nobody", oauth.AuthClientSecretBasic, ""),
			"opaque":  client("opaque", oauth.AuthClientSecretBasic, "secret:read", oauth.ClientCredentials),
			"signed":  client("signed", oauth.AuthPrivateKeyJWT, "read", oauth.ClientCredentials),
		},
		Users: map[string]authority.User{
			"ada-id": {ID: "ada-id", Username: "ada", Name: "Ada", Email: "ada@example.com", EmailVerified: true},
		},
		Resources: map[string]authority.Resource{
			testAPI:   {ID: testAPI, Scopes: oauth.MustScopes("read", "write"), Format: authority.FormatJWT, IntrospectionClients: []string{"api"}},
			otherAPI:  {ID: otherAPI, Scopes: oauth.MustScopes("other"), Format: authority.FormatJWT},
			opaqueAPI: {ID: opaqueAPI, Scopes: oauth.MustScopes("secret:read"), Format: authority.FormatOpaque, IntrospectionClients: []string{"api"}},
		},
	}
	opaque := w.declared.Clients["opaque"]
	opaque.Resources = []string{opaqueAPI}
	w.declared.Clients["opaque"] = opaque
	w.directory = authority.NewDirectory(db)
	w.declare()

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.NewPublicKey("k1", jose.ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	find := func(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
		return public, kid == "k1" && alg == jose.ES256
	}
	w.follower = &revocation.Follower{View: revocation.NewView(), Store: db, Now: w.clock}
	if err := w.follower.Load(ctx); err != nil {
		t.Fatal(err)
	}
	box := seal.NewBox([32]byte{1}, "access token")
	reader := issue.NewReader(issue.Checks{
		Issuer: testIssuer, Find: find, Opaque: box, Revoked: w.follower.View.Revoked, Fresh: w.follower.Fresh, Alive: w.directory.Alive, Now: w.clock,
	})
	issuer := &issue.Issuer{
		Settings: w.settings, Revoked: w.follower.View.Revoked, Opaque: box, Record: w.record,
		Account: func(ctx context.Context, subject authority.Subject) (authority.User, error) {
			if err := w.failing("user"); err != nil {
				return authority.User{}, err
			}
			return w.directory.Account(ctx, subject)
		},
		Signer: func(_ jose.Algorithm, typ string) (*jose.Signer, error) {
			return jose.NewSigner("k1", jose.ES256, typ, private)
		},
	}
	w.h = &Handler{
		Settings: w.settings, Directory: w.directory,
		Clients: &clientauth.Authenticator{Issuer: testIssuer, Directory: w.directory, Tickets: failingStore{db, w}, Limit: clientauth.NewLimiter(w.clock), Now: w.clock},
		Grants:  failingStore{db, w}, Sessions: failingStore{db, w}, Refresh: authority.NewRefreshKey([32]byte{2}),
		Issue: issuer.Issue, Tokens: reader, Record: w.record, Now: w.clock,
		Endings: &revocation.Endings{Store: failingStore{db, w}, Follower: w.follower, Record: w.record, Now: w.clock},
		Tally: func(_ context.Context, e authority.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.later = append(w.later, e)
		},
	}
	return w
}

func (w *world) declare() {
	w.t.Helper()
	if err := w.directory.Declare(context.Background(), w.declared); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	if err := w.follower.Load(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) settings() authority.Issuer {
	return authority.Issuer{
		URL: testIssuer, AccessTTL: 5 * time.Minute, IDTTL: 5 * time.Minute, RefreshTTL: 720 * time.Hour,
		RefreshIdleTTL: 24 * time.Hour, RefreshGrace: 10 * time.Second, CodeTTL: time.Minute,
	}
}

func (w *world) record(ctx context.Context, e authority.Event) error {
	if err := errors.Join(ctx.Err(), w.failing("record")); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	return nil
}

func (w *world) failing(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fail[what]
}

func (w *world) setFailing(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[what] = err
}

// hangUpAtTheChange makes the caller of a request hang up when it has changed the state.
func (w *world) hangUpAtTheChange(r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	*r = *r.WithContext(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangUp = cancel
}

func (w *world) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hangUp != nil {
		w.hangUp()
	}
}

func (w *world) count(event authority.EventType) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Type == event {
			n++
		}
	}
	return n
}

// failingStore fails on demand, in the middle of a transition's path.
type failingStore struct {
	*sqldb.DB
	w *world
}

func (f failingStore) Grant(ctx context.Context, id authority.ID) (authority.Grant, error) {
	if err := f.w.failing("grant"); err != nil {
		return authority.Grant{}, err
	}
	return f.DB.Grant(ctx, id)
}

func (f failingStore) Session(ctx context.Context, id authority.ID) (authority.Session, error) {
	if err := f.w.failing("session"); err != nil {
		return authority.Session{}, err
	}
	return f.DB.Session(ctx, id)
}

func (f failingStore) RedeemCode(ctx context.Context, id authority.ID, hash [32]byte, r authority.Refresh, expires, now time.Time) error {
	if err := f.w.failing("redeem"); err != nil {
		return err
	}
	err := f.DB.RedeemCode(ctx, id, hash, r, expires, now)
	f.w.changed()
	return err
}

func (f failingStore) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	if err := f.w.failing("rotate"); err != nil {
		return err
	}
	err := f.DB.RotateRefresh(ctx, id, from, to)
	f.w.changed()
	return err
}

func (f failingStore) EndGrant(ctx context.Context, id authority.ID, how authority.Ending) ([]authority.Revocation, error) {
	if err := f.w.failing("end"); err != nil {
		return nil, err
	}
	ended, err := f.DB.EndGrant(ctx, id, how)
	f.w.changed()
	return ended, err
}

func (f failingStore) Revoke(ctx context.Context, r authority.Revocation) (authority.Revocation, error) {
	written, err := f.DB.Revoke(ctx, r)
	f.w.changed()
	return written, err
}

func (f failingStore) TakeTicket(ctx context.Context, t authority.Ticket) error {
	if err := f.w.failing("ticket"); err != nil {
		return err
	}
	return f.DB.TakeTicket(ctx, t)
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	body   map[string]any
}

func (r reply) text(name string) string { s, _ := r.body[name].(string); return s }

func (w *world) post(handle http.HandlerFunc, clientID string, form url.Values, change ...func(*http.Request)) reply {
	r := httptest.NewRequest("POST", testIssuer+"/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if clientID != "" && clientID != "spa" {
		r.SetBasicAuth(clientID, secretOf(clientID))
	}
	for _, c := range change {
		c(r)
	}
	r = r.WithContext(httpx.WithRequest(r.Context(), &httpx.Request{ID: "req", Remote: "192.0.2.1"}))
	answer := httptest.NewRecorder()
	handle(answer, r)
	reply := reply{status: answer.Code, header: answer.Header()}
	if answer.Body.Len() > 0 {
		if err := json.Unmarshal(answer.Body.Bytes(), &reply.body); err != nil {
			w.t.Fatalf("not JSON: %q", answer.Body)
		}
	}
	return reply
}

func (w *world) token(clientID string, form url.Values, change ...func(*http.Request)) reply {
	return w.post(w.h.Token, clientID, form, change...)
}

func (w *world) introspect(clientID, token string) reply {
	return w.post(w.h.Introspect, clientID, url.Values{"token": {token}})
}

func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, list := range v {
		out[k] = append([]string(nil), list...)
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			out.Del(pairs[i])
			continue
		}
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

// approve makes a grant as consent does, and returns it with its code.
func (w *world) approve(clientID, scope string, change ...func(*authority.Grant)) (authority.Grant, string) {
	w.t.Helper()
	now := w.clock()
	sum := sha256.Sum256([]byte(testVerifier))
	challenge, err := oauth.ParseChallenge(base64.RawURLEncoding.EncodeToString(sum[:]), "S256")
	if err != nil {
		w.t.Fatal(err)
	}
	id := authority.NewID(now)
	code := authority.NewAuthorizationCode(id)
	g := authority.Grant{
		ID: id, ClientID: clientID, Scopes: oauth.MustScopes(strings.Fields(scope)...), Resources: []string{testAPI},
		Subject:   authority.Subject{Issuer: testIssuer, ID: "ada-id", Kind: authority.SubjectUser},
		SessionID: authority.NewID(now), AuthTime: now, AMR: []string{"pwd"}, Nonce: "n-0S6_WzA2Mj", State: authority.GrantPending,
		Code:      authority.Code{Hash: code.Hash(), Challenge: challenge, RedirectURI: testRedirect, ExpiresAt: now.Add(time.Minute)},
		CreatedAt: now, ExpiresAt: now.Add(time.Minute),
	}
	if !g.Scopes.Has(oauth.ScopeOfflineAccess) {
		g.Evidence = authority.SessionEvidence(g.SessionID)
	}
	for _, c := range change {
		c(&g)
	}
	if g.Evidence == authority.SessionEvidence(g.SessionID) {
		w.startSession(g)
	}
	if err := w.db.CreateGrant(context.Background(), g); err != nil {
		w.t.Fatal(err)
	}
	return g, code.Reveal()
}

// startSession makes the session that a grant depends on.
func (w *world) startSession(g authority.Grant) {
	w.t.Helper()
	session := authority.Session{
		ID: g.SessionID, Hash: sha256.Sum256(g.SessionID.Bytes()), Subject: g.Subject, AuthTime: g.AuthTime, ExpiresAt: g.AuthTime.Add(12 * time.Hour),
	}
	if err := w.db.StartSession(context.Background(), session); err != nil {
		w.t.Fatal(err)
	}
}

func redeem(code string) url.Values {
	return form("grant_type", "authorization_code", "code", code, "redirect_uri", testRedirect, "code_verifier", testVerifier)
}

func refreshForm(token string) url.Values {
	return form("grant_type", "refresh_token", "refresh_token", token)
}

// signIn returns the first tokens of a grant.
func (w *world) signIn(clientID, scope string) reply {
	w.t.Helper()
	_, code := w.approve(clientID, scope)
	r := w.token(clientID, redeem(code), asPublic(clientID))
	if r.status != 200 {
		w.t.Fatalf("redeeming a code: %d %v", r.status, r.body)
	}
	return r
}

// asPublic adds client_id to the body for a public client.
func asPublic(clientID string) func(*http.Request) {
	return func(r *http.Request) {
		if clientID != "spa" {
			return
		}
		body := new(strings.Builder)
		buf := make([]byte, 1<<16)
		n, _ := r.Body.Read(buf)
		body.Write(buf[:n])
		body.WriteString("&client_id=spa")
		r2 := httptest.NewRequest("POST", "/", strings.NewReader(body.String()))
		r.Body, r.ContentLength = r2.Body, r2.ContentLength
	}
}

var errDown = errors.New("the disk is gone")
