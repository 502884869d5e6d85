package authorize

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/net/html"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

const (
	issuerURL = "https://sts.example.com"
	callback  = "https://app.example.com/callback"
	api       = "https://api.example.com"
)

// memory is a store of maps. Its methods fail when broken names them.
type memory struct {
	revocation.EndingStore
	authority.DirectoryStore
	mu       sync.Mutex
	grants   map[authority.ID]authority.Grant
	sessions map[[32]byte]authority.Session
	clients  map[string]authority.Client
	users    map[string]authority.User
	ended    []authority.Evidence
	writes   int
	broken   map[string]bool
	hook     func(method string) // called before, without the lock
}

var errStorage = errors.New("disk on fire")

func (m *memory) enter(method string) error {
	if m.hook != nil {
		m.hook(method)
	}
	m.mu.Lock()
	if m.broken[method] {
		m.mu.Unlock()
		return errStorage
	}
	return nil
}

func (m *memory) CreateGrant(_ context.Context, g authority.Grant) error {
	if err := m.enter("CreateGrant"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, exists := m.grants[g.ID]; exists {
		return authority.ErrExists
	}
	if slices.Contains(m.ended, g.Evidence) && !g.Evidence.IsZero() {
		return authority.ErrEnded
	}
	m.writes++
	m.grants[g.ID] = g
	return nil
}

func (m *memory) Grant(_ context.Context, id authority.ID) (authority.Grant, error) {
	if err := m.enter("Grant"); err != nil {
		return authority.Grant{}, err
	}
	defer m.mu.Unlock()
	g, ok := m.grants[id]
	if !ok {
		return g, authority.ErrNotFound
	}
	return g, nil
}

func (m *memory) EndGrant(_ context.Context, id authority.ID, how authority.Ending) ([]authority.Revocation, error) {
	if err := m.enter("EndGrant"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.writes++
	return m.end(func(g authority.Grant) bool { return g.ID == id }, how), nil
}

func (m *memory) EndSession(_ context.Context, id authority.ID, how authority.Ending) ([]authority.Revocation, error) {
	if err := m.enter("EndSession"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.writes++
	for hash, s := range m.sessions {
		if s.ID == id {
			delete(m.sessions, hash)
		}
	}
	m.ended = append(m.ended, authority.SessionEvidence(id))
	ended := m.end(func(g authority.Grant) bool { return g.Evidence == authority.SessionEvidence(id) }, how)
	return append(ended, authority.Revocation{Kind: authority.RevokeSession, Key: id.String(), NotBefore: how.At, ExpiresAt: how.At.Add(how.Remember)}), nil
}

func (m *memory) end(which func(authority.Grant) bool, how authority.Ending) (ended []authority.Revocation) {
	for id, g := range m.grants {
		if which(g) && g.State != authority.GrantEnded {
			g.State, g.EndReason, g.EndedAt = authority.GrantEnded, how.Reason, how.At
			m.grants[id] = g
			ended = append(ended, authority.Revocation{Kind: authority.RevokeGrant, Key: id.String(), NotBefore: how.At, ExpiresAt: how.At.Add(how.Remember)})
		}
	}
	return ended
}

func (m *memory) Consented(_ context.Context, want authority.Grant, since, now time.Time) (bool, error) {
	if err := m.enter("Consented"); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	for _, g := range m.grants {
		covers := g.Scopes.Covers(want.Scopes) && !slices.ContainsFunc(want.Resources, func(r string) bool { return !slices.Contains(g.Resources, r) })
		if g.ClientID == want.ClientID && g.Subject == want.Subject && g.Alive(now) && covers && g.CreatedAt.After(since) {
			return true, nil
		}
	}
	return false, nil
}

func (m *memory) StartSession(_ context.Context, s authority.Session) error {
	if err := m.enter("StartSession"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.writes++
	m.sessions[s.Hash] = s
	return nil
}

func (m *memory) SessionByHash(_ context.Context, hash [32]byte) (authority.Session, error) {
	if err := m.enter("SessionByHash"); err != nil {
		return authority.Session{}, err
	}
	defer m.mu.Unlock()
	s, ok := m.sessions[hash]
	if !ok {
		return s, authority.ErrNotFound
	}
	return s, nil
}

func (m *memory) RenewSession(_ context.Context, hash [32]byte, next authority.Session) error {
	if err := m.enter("RenewSession"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.sessions[hash].ID != next.ID {
		return authority.ErrNotFound
	}
	m.writes++
	delete(m.sessions, hash)
	m.sessions[next.Hash] = next
	return nil
}

func (m *memory) Client(_ context.Context, id string) (authority.Client, error) {
	if err := m.enter("Client"); err != nil {
		return authority.Client{}, err
	}
	defer m.mu.Unlock()
	c, ok := m.clients[id]
	if !ok {
		return c, authority.ErrNotFound
	}
	return c, nil
}

func (m *memory) User(_ context.Context, id string) (authority.User, error) {
	if err := m.enter("User"); err != nil {
		return authority.User{}, err
	}
	defer m.mu.Unlock()
	u, ok := m.users[id]
	if !ok {
		return u, authority.ErrNotFound
	}
	return u, nil
}

func (m *memory) UserByName(_ context.Context, name string) (authority.User, error) {
	if err := m.enter("UserByName"); err != nil {
		return authority.User{}, err
	}
	defer m.mu.Unlock()
	for _, u := range m.users {
		if u.Username == name {
			return u, nil
		}
	}
	return authority.User{}, authority.ErrNotFound
}

func (m *memory) Resource(_ context.Context, id string) (authority.Resource, error) {
	if err := m.enter("Resource"); err != nil {
		return authority.Resource{}, err
	}
	defer m.mu.Unlock()
	return authority.Resource{}, authority.ErrNotFound
}

// world is a handler with everything that it needs, all of it in memory.
type world struct {
	*Handler
	t       *testing.T
	store   *memory
	mux     *http.ServeMux
	mu      sync.Mutex
	now     time.Time
	journal []authority.Event
	later   []authority.Event
	took    []authority.Revocation
	dead    func([]authority.Link) bool
	epochs  map[string]time.Time // by client or person
	noDisk  bool                 // the journal fails
}

func uri(s string) authority.RedirectURI {
	u, err := authority.ParseRedirectURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// phc is a valid hash that costs nothing: these tests are not about its cost.
func phc(password string) string {
	salt := []byte("0123456789abcdef")
	b64 := base64.RawStdEncoding
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64.EncodeToString(salt) + "$" + b64.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

func newWorld(t *testing.T) *world {
	grants := []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	scopes := oauth.MustScopes("openid", "profile", "email", "offline_access", "orders:read", "orders:write")
	store := &memory{
		grants: map[authority.ID]authority.Grant{}, sessions: map[[32]byte]authority.Session{}, broken: map[string]bool{},
		users: map[string]authority.User{
			"u-ada":  {ID: "u-ada", Username: "ada", Name: "Ada", PasswordHash: phc("lovelace")},
			"u-bob":  {ID: "u-bob", Username: "bob", Name: "Bob", PasswordHash: phc("builder")},
			"u-gone": {ID: "u-gone", Username: "gone", PasswordHash: phc("lovelace"), Disabled: true},
		},
		clients: map[string]authority.Client{
			"web": {ID: "web", Name: "Example web app", RedirectURIs: []authority.RedirectURI{uri(callback)},
				PostLogoutRedirectURIs: []authority.RedirectURI{uri("https://app.example.com/bye"), uri("http://127.0.0.1/bye")},
				GrantTypes:             grants, AuthMethod: oauth.AuthClientSecretBasic, Scopes: scopes, Resources: []string{api}},
			"spa": {ID: "spa", Name: "Browser app", RedirectURIs: []authority.RedirectURI{uri("https://spa.example.com/cb")},
				GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Resources: []string{api}},
			"cli": {ID: "cli", Name: "Command line", RedirectURIs: []authority.RedirectURI{uri("http://127.0.0.1/cb"), uri("com.example.cli:/cb")},
				GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Resources: []string{api}},
			"daemon": {ID: "daemon", RedirectURIs: []authority.RedirectURI{uri(callback)}, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				AuthMethod: oauth.AuthClientSecretBasic, Scopes: scopes, Resources: []string{api}},
			"off": {ID: "off", RedirectURIs: []authority.RedirectURI{uri(callback)}, GrantTypes: grants, Scopes: scopes, Disabled: true},
		},
	}
	directory := authority.NewDirectory(store)
	err := directory.Declare(t.Context(), authority.Declared{Resources: map[string]authority.Resource{
		api:                           {ID: api, Scopes: oauth.MustScopes("orders:read", "orders:write"), Format: authority.FormatJWT},
		"https://billing.example.com": {ID: "https://billing.example.com", Scopes: oauth.MustScopes("bills:read"), Format: authority.FormatJWT},
	}})
	if err != nil {
		t.Fatal(err)
	}
	wo := &world{t: t, store: store, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), mux: http.NewServeMux()}
	wo.Handler = &Handler{
		Settings:  func() authority.Issuer { return authority.Issuer{URL: issuerURL, CodeTTL: time.Minute} },
		Directory: directory, Grants: store, Sessions: store,
		Record: func(ctx context.Context, e authority.Event) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			wo.mu.Lock()
			defer wo.mu.Unlock()
			if wo.noDisk {
				return errStorage
			}
			wo.journal = append(wo.journal, e)
			return nil
		},
		Tally: func(e authority.Event) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.later = append(wo.later, e)
		},
		Revoked: func(links []authority.Link) bool { return wo.dead != nil && wo.dead(links) },
		Epoch: func(clientID, subjectID string) time.Time {
			if e := wo.epochs[clientID]; e.After(wo.epochs[subjectID]) {
				return e
			}
			return wo.epochs[subjectID]
		},
		VerifyHint: func(raw string) (string, string, string, error) {
			client, subject, ok := strings.Cut(strings.TrimPrefix(raw, "hint-"), "-for-")
			if !ok || !strings.HasPrefix(raw, "hint-") {
				return "", "", "", errors.New("not a hint")
			}
			return client, subject, "", nil
		},
		State: seal.NewBox(sha256.Sum256([]byte("test key")), "signalbox authorize"),
		Now: func() time.Time {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			return wo.now
		},
	}
	wo.Endings = &revocation.Endings{
		Store: store, Record: wo.Record, Now: wo.Now,
		Follower: &revocation.Follower{View: revocation.NewView(), Applied: func(r []authority.Revocation) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.took = append(wo.took, r...)
		}},
	}
	wo.Mount(wo.mux)
	return wo
}

func (wo *world) pass(d time.Duration) {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	wo.now = wo.now.Add(d)
}

// browser keeps cookies and sends what a browser sends.
type browser struct {
	*world
	mu      sync.Mutex
	cookies map[string]string
	ip      string
	ctx     context.Context // of its next requests; nil for the test's
}

func (wo *world) browser() *browser {
	return &browser{world: wo, cookies: map[string]string{}, ip: "192.0.2.7"}
}

// shown is one answer.
type shown struct {
	t *testing.T
	*httptest.ResponseRecorder
	cookies []*http.Cookie
}

func (b *browser) do(method, target string, form url.Values, change ...func(*http.Request)) shown {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, issuerURL+strings.TrimPrefix(target, issuerURL), body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "null") // Referrer-Policy: no-referrer makes it so
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	b.mu.Lock()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	b.mu.Unlock()
	for _, c := range change {
		c(r)
	}
	ctx := b.ctx
	if ctx == nil {
		ctx = b.t.Context()
	}
	r = r.WithContext(httpx.WithRequest(ctx, &httpx.Request{ID: "req-1", Remote: b.ip}))
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, r)
	s := shown{b.t, w, w.Result().Cookies()}
	b.mu.Lock()
	for _, c := range s.cookies {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	b.mu.Unlock()
	return s
}

func (b *browser) get(target string) shown { b.t.Helper(); return b.do(http.MethodGet, target, nil) }

func (b *browser) post(target string, form url.Values) shown {
	b.t.Helper()
	return b.do(http.MethodPost, target, form)
}

// location is where the answer redirects to, relative to the issuer if it is there.
func (s shown) location() string { return strings.TrimPrefix(s.Header().Get("Location"), issuerURL) }

// back is the parameters that the client gets; nil if the answer is not a
// redirect to a client.
func (s shown) back() url.Values {
	u, err := url.Parse(s.Header().Get("Location"))
	if err != nil || s.Code != http.StatusSeeOther || u.Scheme == "" {
		return nil
	}
	return u.Query()
}

func (s shown) flow() string {
	s.t.Helper()
	return s.attribute("flow", "value")
}

// attribute finds an attribute of the element with that name or id.
func (s shown) attribute(element, name string) string {
	root, err := html.Parse(strings.NewReader(s.Body.String()))
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range root.Descendants() {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		if n.Type == html.ElementNode && (at["name"] == element || at["id"] == element) {
			return at[name]
		}
	}
	return ""
}

// is says which page was shown.
func (s shown) is() string {
	body := s.Body.String()
	for _, id := range []string{"sign-in", "allow", "sign-out"} {
		if strings.Contains(body, `id="`+id+`"`) {
			return id
		}
	}
	if s.Header().Get("Location") != "" {
		return "redirect"
	}
	return cmp.Or(map[bool]string{true: "page"}[body != ""], "nothing")
}

const verifierChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636 Appendix B

// good is one good authorization request that a row then changes.
func good(change ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {"web"}, "redirect_uri": {callback}, "scope": {"openid orders:read"},
		"state": {"xyz"}, "nonce": {"n-1"}, "code_challenge": {verifierChallenge}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == "" {
			v.Del(change[i])
		} else {
			v.Set(change[i], change[i+1])
		}
	}
	return v
}

func asked(change ...string) string { return "/authorize?" + good(change...).Encode() }

// signIn signs in at the page and follows the redirect.
func (b *browser) signIn(page shown, username, password string) shown {
	b.t.Helper()
	got := b.post("/login", url.Values{"flow": {page.flow()}, "username": {username}, "password": {password}})
	if got.Code == http.StatusSeeOther && strings.HasPrefix(got.location(), "/") {
		return b.get(got.location())
	}
	return got
}

func (b *browser) allow(page shown) shown { b.t.Helper(); return b.decide(page, "allow") }

func (b *browser) decide(page shown, decision string) shown {
	b.t.Helper()
	return b.post("/consent", url.Values{"flow": {page.flow()}, "decision": {decision}})
}

// signedIn is a browser with ada in it.
func (wo *world) signedIn() *browser {
	wo.t.Helper()
	b := wo.browser()
	if got := b.signIn(b.get(asked()), "ada", "lovelace"); got.is() != "allow" {
		wo.t.Fatalf("after sign-in: %d %s", got.Code, got.Body)
	}
	return b
}

// grantOf finds the grant of the answer's code.
func (wo *world) grantOf(s shown) authority.Grant {
	wo.t.Helper()
	code, err := authority.ParseAuthorizationCode(s.back().Get("code"))
	if err != nil {
		wo.t.Fatalf("no code in %d %q %s", s.Code, s.Header().Get("Location"), s.Body)
	}
	g, err := wo.store.Grant(wo.t.Context(), code.GrantID)
	if err != nil || !g.Matches(code) {
		wo.t.Fatalf("the code's grant: %v", err)
	}
	return g
}

// redeem does what /token does, as far as consent is concerned.
func (wo *world) redeem(g authority.Grant) {
	g.State, g.ExpiresAt = authority.GrantActive, wo.Now().Add(720*time.Hour)
	wo.store.mu.Lock()
	defer wo.store.mu.Unlock()
	wo.store.grants[g.ID] = g
}
