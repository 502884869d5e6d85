package authorize

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/signin"
)

const (
	issuerURL = "https://sts.example.com"
	callback  = "https://app.example.com/callback"
	api       = "https://api.example.com"
)

// memory is a store of maps. Its methods fail when broken names them.
type memory struct {
	revocation.EndingStore
	authority.ObjectStore
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
		if g.ClientID == want.ClientID && g.Subject == want.Subject && g.RedirectDigest == want.RedirectDigest && g.Alive(now) && covers && g.CreatedAt.After(since) {
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

func (m *memory) Session(_ context.Context, id authority.ID) (authority.Session, error) {
	if err := m.enter("Session"); err != nil {
		return authority.Session{}, err
	}
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return authority.Session{}, authority.ErrNotFound
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

func (m *memory) Object(_ context.Context, kind authority.Kind, id string) (authority.Object, error) {
	if err := m.enter(map[authority.Kind]string{authority.KindClient: "Client", authority.KindUser: "User"}[kind]); err != nil {
		return authority.Object{}, err
	}
	defer m.mu.Unlock()
	if c, ok := m.clients[id]; ok && kind == authority.KindClient {
		if c.AuthMethod != oauth.AuthNone {
			c.Secrets = make([]authority.ClientSecret, 1)
		}
		return object(c, authority.Clients)
	}
	if u, ok := m.users[id]; ok && kind == authority.KindUser {
		return object(u, authority.Users)
	}
	return authority.Object{}, authority.ErrNotFound
}

func (m *memory) ObjectByName(_ context.Context, _ authority.Kind, name string) (authority.Object, error) {
	if err := m.enter("UserByName"); err != nil {
		return authority.Object{}, err
	}
	defer m.mu.Unlock()
	for _, u := range m.users {
		if u.Username == name {
			return object(u, authority.Users)
		}
	}
	return authority.Object{}, authority.ErrNotFound
}

// object is v as a database holds it.
func object[T any](v T, registry func(authority.ObjectStore) authority.Registry[T]) (authority.Object, error) {
	var kept keeper
	err := registry(&kept).Create(context.Background(), v)
	return kept.object, err
}

// keeper keeps the last object that was created.
type keeper struct {
	authority.ObjectStore
	object authority.Object
}

func (k *keeper) CreateObject(_ context.Context, o authority.Object) error {
	k.object = o
	return nil
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
	tallied []authority.Event
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
			"off": {ID: "off", RedirectURIs: []authority.RedirectURI{uri(callback)}, GrantTypes: grants, AuthMethod: oauth.AuthNone, Scopes: scopes, Disabled: true},
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
	settings := func() authority.Issuer { return authority.Issuer{URL: issuerURL, CodeTTL: time.Minute} }
	clock := func() time.Time {
		wo.mu.Lock()
		defer wo.mu.Unlock()
		return wo.now
	}
	record := func(ctx context.Context, e authority.Event) error {
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
	}
	epoch := func(clientID, subjectID string) time.Time {
		if e := wo.epochs[clientID]; e.After(wo.epochs[subjectID]) {
			return e
		}
		return wo.epochs[subjectID]
	}
	pages := &browser.Pages{Settings: settings, State: seal.NewBox(sha256.Sum256([]byte("test key")), "page state"), Now: clock}
	endings := &revocation.Endings{
		Store: store, Record: record, Now: clock,
		Follower: &revocation.Follower{View: revocation.NewView(), Applied: func(r []authority.Revocation) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.took = append(wo.took, r...)
		}},
	}
	sessions := &browser.Sessions{
		Pages: pages, Store: store, Directory: directory, Endings: endings, Record: record,
		Revoked: func(links []authority.Link) bool { return wo.dead != nil && wo.dead(links) },
	}
	wo.Handler = &Handler{
		Settings: settings, Directory: directory, Pages: pages, Sessions: sessions, Grants: store, Endings: endings, Record: record, Epoch: epoch, Now: clock,
		SignIn: &signin.Handler{
			Pages: pages, Sessions: sessions, Directory: directory, Epoch: epoch, Record: record, Now: clock,
			Devices: seal.NewBox([32]byte{4}, "device"),
			After:   func(time.Duration) <-chan time.Time { return closedTimer },
			Tally: func(e authority.Event) {
				wo.mu.Lock()
				defer wo.mu.Unlock()
				wo.tallied = append(wo.tallied, e)
			},
		},
		VerifyHint: func(raw string) (string, string, string, error) {
			client, subject, ok := strings.Cut(strings.TrimPrefix(raw, "hint-"), "-for-")
			if !ok || !strings.HasPrefix(raw, "hint-") {
				return "", "", "", errors.New("not a hint")
			}
			return client, subject, "", nil
		},
	}
	for _, route := range slices.Concat(wo.Routes(), wo.SignIn.Routes(), sessions.Routes()) {
		wo.mux.HandleFunc(route.Path, pages.Serve(route))
	}
	return wo
}

func (wo *world) setURL(url string) {
	settings := func() authority.Issuer { return authority.Issuer{URL: url, CodeTTL: time.Minute} }
	wo.Settings, wo.Pages.Settings = settings, settings
}

func (wo *world) pass(d time.Duration) {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	wo.now = wo.now.Add(d)
}

// visitor is a browser in this world.
type visitor struct {
	*browsertest.Browser
	*world
}

func (wo *world) browser() *visitor {
	return &visitor{browsertest.New(wo.t, issuerURL, wo.mux), wo}
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

func (b *visitor) allow(page browsertest.Page) browsertest.Page {
	b.T.Helper()
	return b.decide(page, "allow")
}

func (b *visitor) decide(page browsertest.Page, decision string) browsertest.Page {
	b.T.Helper()
	return b.Post("/consent", url.Values{"flow": {page.Flow()}, "decision": {decision}})
}

// signedIn is a browser with ada in it.
func (wo *world) signedIn() *visitor {
	wo.t.Helper()
	b := wo.browser()
	if got := b.SignIn(b.Get(asked()), "ada", "lovelace"); got.Is() != "allow" {
		wo.t.Fatalf("after sign-in: %d %s", got.Code, got.Body)
	}
	return b
}

// grantOf finds the grant of the answer's code.
func (wo *world) grantOf(s browsertest.Page) authority.Grant {
	wo.t.Helper()
	code, err := authority.ParseAuthorizationCode(s.Back().Get("code"))
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

// closedTimer is a wait that is over.
var closedTimer = func() chan time.Time {
	over := make(chan time.Time)
	close(over)
	return over
}()
