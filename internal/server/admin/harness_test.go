package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
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
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

const issuerURL = "https://sts.example.com"

var refreshKey = authority.NewRefreshKey([32]byte{2})

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// service is the API over a real database, journal, key ring and issuer.
type service struct {
	*testing.T
	api  *API
	http http.Handler

	description []byte // of the API, as OpenAPI

	db     *sqldb.DB
	clock  *clock
	issuer *issue.Issuer

	mu       sync.Mutex
	recorded []authority.Event
	later    []authority.Event
	broken   error // what the journal answers from now on
}

// declared is what the configuration file of the test holds.
func declared() authority.Declared {
	redirect, _ := authority.ParseRedirectURI("https://app.example.com/callback")
	return authority.Declared{
		Clients: map[string]authority.Client{
			"root": {ID: "root", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				Scopes: authority.AdminScopes, Resources: []string{authority.AdminResource}, Source: authority.FromFile},
			"web": {ID: "web", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken},
				RedirectURIs: []authority.RedirectURI{redirect}, Scopes: oauth.MustScopes("openid", "orders:read"), Resources: []string{"https://api.example.com"}, Source: authority.FromFile},
			"spa": {ID: "spa", AuthMethod: oauth.AuthNone, GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
				RedirectURIs: []authority.RedirectURI{redirect}, Source: authority.FromFile},
		},
		Users: map[string]authority.User{
			"u_ada": {ID: "u_ada", Username: "Ada", PasswordHash: "$argon2id$", Source: authority.FromFile},
		},
		Resources: map[string]authority.Resource{
			"https://api.example.com": {ID: "https://api.example.com", Scopes: oauth.MustScopes("orders:read", "orders:write"), Format: authority.FormatJWT, Source: authority.FromFile},
		},
	}
}

func newService(t *testing.T) *service {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	s := &service{T: t, clock: &clock{at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}}
	db, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), "n1", journal.Options{Now: s.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(j.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	s.db = db
	directory := authority.NewDirectory(db)
	if err := directory.Declare(ctx, declared()); err != nil {
		t.Fatal(err)
	}
	record := func(ctx context.Context, e authority.Event) error {
		s.mu.Lock()
		broken := s.broken
		if broken == nil {
			s.recorded = append(s.recorded, e)
		}
		s.mu.Unlock()
		if broken != nil {
			return broken
		}
		return j.Append(ctx, e)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	ring := &keys.Ring{
		Store: db, Settings: func() keys.Settings {
			return keys.Settings{Algorithms: []jose.Algorithm{jose.ES256}, RotateEvery: 720 * time.Hour}
		},
		Now: s.clock.Now, Record: func(context.Context, authority.Event) error { return nil }, Log: quiet,
	}
	if err := ring.Open(ctx, keys.GenerateMasterKey()); err != nil {
		t.Fatal(err)
	}
	if err := ring.Tick(ctx); err != nil {
		t.Fatal(err)
	}
	follower := &revocation.Follower{View: revocation.NewView(), Store: db, Now: s.clock.Now, Log: quiet}
	opaque := seal.NewBox([32]byte{1}, "opaque")
	settings := func() authority.Issuer {
		return authority.Issuer{URL: issuerURL, AccessTTL: 5 * time.Minute, IDTTL: 5 * time.Minute, RefreshTTL: 720 * time.Hour, RefreshIdleTTL: 24 * time.Hour}
	}
	reader := issue.NewReader(issue.Checks{
		Issuer: issuerURL, Find: ring.Find, Opaque: opaque, Revoked: follower.View.Revoked, Fresh: follower.Fresh, Alive: directory.Alive, Now: s.clock.Now,
	})
	s.issuer = &issue.Issuer{
		Settings: settings, Account: directory.Account, Revoked: follower.View.Revoked, Signer: ring.Signer, Opaque: opaque,
		Record: func(context.Context, authority.Event) error { return nil },
	}
	s.api = &API{
		Settings: settings, Directory: directory, Store: db, Grants: db, Tokens: reader,
		Endings: &revocation.Endings{Store: db, Follower: follower, Record: record, Now: s.clock.Now},
		GrantOf: func(raw string) (authority.ID, error) { token, err := refreshKey.Parse(raw); return token.GrantID, err },
		Keys:    ring.Keys, RotateKey: ring.Rotate, RemoveKey: ring.Remove,
		HashPassword: func(p string) (string, error) { return "hash of " + p, nil },
		Record:       record,
		Tally: func(e authority.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.later = append(s.later, e)
		},
		Journal: j, JournalDir: filepath.Join(dir, "journal"), Node: "n1", Journals: db, Now: s.clock.Now,
	}
	mux := http.NewServeMux()
	s.api.Mount(func(method, path string, serve http.HandlerFunc) { mux.HandleFunc(method+" "+path, serve) })
	s.http = mux
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/admin/v1/openapi.json", nil))
	s.description = w.Body.Bytes()
	return s
}

// token issues an access token of the client root for the admin resource.
func (s *service) token(scopes ...string) string {
	s.Helper()
	return s.tokenFor("root", authority.AdminResource, scopes...)
}

func (s *service) admin() string { return s.token(authority.AdminScopes.List()...) }

func (s *service) tokenFor(clientID, resource string, scopes ...string) string {
	s.Helper()
	ctx := s.Context()
	client, err := s.api.Directory.Client(ctx, clientID)
	if err != nil {
		s.Fatal(err)
	}
	now := s.clock.Now()
	response, err := s.issuer.Issue(ctx, authority.Authorization{
		GrantType: oauth.ClientCredentials, Client: client, At: now, Format: authority.FormatJWT, Life: 5 * time.Minute,
		Grant: authority.Grant{
			ID: authority.NewID(now), ClientID: clientID, Subject: authority.Subject{Issuer: issuerURL, ID: clientID, Kind: authority.SubjectClient},
			State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		},
		Target: authority.Target{
			Scopes:    oauth.MustScopes(scopes...),
			Resources: []authority.Resource{{ID: resource, Scopes: oauth.MustScopes(scopes...), Format: authority.FormatJWT}},
		},
	}, nil)
	if err != nil {
		s.Fatal(err)
	}
	return response.AccessToken
}

// grant stores an active grant of a user, below its ancestors.
func (s *service) grant(clientID, userID string, ancestors ...authority.Grant) authority.Grant {
	s.Helper()
	now := s.clock.Now()
	g := authority.Grant{
		ID: authority.NewID(now), ClientID: clientID,
		Subject: authority.Subject{Issuer: issuerURL, ID: userID, Kind: authority.SubjectUser},
		Scopes:  oauth.MustScopes("orders:read"), Resources: []string{"https://api.example.com"},
		State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(720 * time.Hour),
	}
	for _, a := range ancestors {
		g.Lineage = append(g.Lineage, authority.Ancestor{GrantID: a.ID, ClientID: a.ClientID})
	}
	if err := s.db.CreateGrant(s.Context(), g); err != nil {
		s.Fatal(err)
	}
	s.clock.Advance(time.Millisecond)
	return g
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (a answer) wants(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !bytes.Contains(a.body, []byte(text)) {
			a.t.Fatalf("answer lacks %q: %s", text, a.body)
		}
	}
	return a
}

func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

// call sends a request. body is a value, raw text, or nil.
func (s *service) call(token, method, path string, body any) answer {
	s.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	if err := s.api.Endings.Follower.Load(s.Context()); err != nil {
		s.Fatal(err)
	}
	request := httptest.NewRequest(method, "/admin/v1"+path, r)
	if r != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request = request.WithContext(httpx.WithRequest(request.Context(), &httpx.Request{ID: "req-1", Remote: "192.0.2.7"}))
	w := httptest.NewRecorder()
	s.http.ServeHTTP(w, request)
	got := answer{s.T, w.Code, w.Header(), w.Body.Bytes()}
	s.described(method, path, got)
	return got
}

func (s *service) events() []authority.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]authority.Event(nil), s.recorded...)
}

func (s *service) breakJournal(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *service) createClient(id string) ClientCredentials {
	s.Helper()
	var c ClientCredentials
	s.call(s.admin(), "POST", "/clients", object{"client_id": id, "grant_types": []string{"client_credentials"}, "scope": "orders:read", "resources": []string{"https://api.example.com"}}).
		wants(http.StatusCreated).into(&c)
	return c
}

func (s *service) createUser(name string) User {
	s.Helper()
	var u User
	s.call(s.admin(), "POST", "/users", object{"username": name, "password": "correct horse"}).wants(http.StatusCreated).into(&u)
	return u
}

func escape(id string) string { return url.PathEscape(id) }
