package authorize_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
)

const (
	issuerURL         = authorize.IssuerURL
	callback          = authorize.Callback
	api               = authorize.API
	verifierChallenge = authorize.VerifierChallenge
)

var good, uri, errStorage = authorize.Good, authorize.URI, errors.New("disk on fire")

// world is a node whose pages a test visits.
type world struct {
	*nodetest.Rig
	t       *testing.T
	written atomic.Int64
}

func newWorld(t *testing.T) *world { t.Helper(); return newWorldOf(t, authorize.Static(), issuerURL) }

// newWorldAt is a world whose issuer has another URL.
func newWorldAt(t *testing.T, url string) *world {
	t.Helper()
	return newWorldOf(t, authorize.Static(), url)
}

func newWorldOf(t *testing.T, declared authority.StaticObjects, url string) *world {
	t.Helper()
	wo := &world{Rig: nodetest.New(t, nodetest.Setup{Static: declared, Issuer: url}), t: t}
	reads := []string{nodetest.Record, "Grant", "Consented", "Session", "SessionByHash", "Object", "ObjectByName"}
	wo.After(func(method string) {
		if !slices.Contains(reads, method) {
			wo.written.Add(1)
		}
	})
	return wo
}

// writes is how often the handlers have changed something in the database.
func (wo *world) writes() int { return int(wo.written.Load()) }

// journal is what the pages have recorded.
func (wo *world) journal() (events []authority.Event) {
	for _, e := range wo.Recorded() {
		if e.Type != authority.EventConfigLoaded {
			events = append(events, e)
		}
	}
	return events
}

func (wo *world) state(g authority.Grant) authority.GrantState {
	wo.t.Helper()
	stored, err := wo.DB.Grant(wo.t.Context(), g.ID)
	if err != nil {
		wo.t.Fatal(err)
	}
	return stored.State
}

// set puts a client in the place of the one with that id.
func (wo *world) set(id string, c authority.Client) {
	wo.t.Helper()
	wo.Static.Clients[id] = c
	wo.Declare()
}

func (wo *world) change(id string, how func(*authority.Client)) {
	wo.t.Helper()
	c := wo.Static.Clients[id]
	how(&c)
	wo.set(id, c)
}

// withStored is a world in which a client and a user of these ids are in the
// database, where asking for them can fail. They are there from the start: an id
// of the file never becomes one of the database.
func withStored(t *testing.T, clientID, userID string) *world {
	t.Helper()
	declared := authorize.Static()
	client, isClient := declared.Clients[clientID]
	user, isUser := declared.Users[userID]
	delete(declared.Clients, clientID)
	delete(declared.Users, userID)
	wo := newWorldOf(t, declared, issuerURL)
	client.Secrets = make([]authority.ClientSecret, 1)
	if isClient {
		if err := authority.Clients(wo.DB).Create(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	if isUser {
		if err := authority.Users(wo.DB).Create(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	return wo
}

// revoke is what another node has done: this one has heard of it.
func (wo *world) revoke(kind authority.RevocationKind, key string) {
	wo.t.Helper()
	r := authority.Revocation{Kind: kind, Key: key, NotBefore: wo.Now(), ExpiresAt: wo.Now().Add(time.Hour)}
	if _, err := wo.DB.Revoke(wo.t.Context(), r); err != nil {
		wo.t.Fatal(err)
	}
	wo.Pass(0)
}

// serve is the node behind the browsers of the tests, who write
// hint-CLIENT-for-USER for an ID token of theirs.
func (wo *world) serve(w http.ResponseWriter, r *http.Request) {
	r.RemoteAddr = httpx.RequestOf(r.Context()).Remote + ":1"
	r.URL.RawQuery = hint.ReplaceAllStringFunc(r.URL.RawQuery, wo.idToken)
	if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 {
		text := hint.ReplaceAllStringFunc(string(body), wo.idToken)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
	wo.Public.ServeHTTP(w, r)
}

var hint = regexp.MustCompile(`hint-([a-z]+)-for-(u-[a-z]+)`)

func (wo *world) idToken(hinted string) string {
	of := hint.FindStringSubmatch(hinted)
	signer, err := wo.Parts.Keys.Signer("", "JWT")
	if err != nil {
		wo.t.Fatal(err)
	}
	token, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":%q,"iat":1,"exp":2}`, wo.Parts.Settings().URL, of[1], of[2]))
	if err != nil {
		wo.t.Fatal(err)
	}
	return token
}

// visitor is a browser in this world.
type visitor struct {
	*browsertest.Browser
	*world
}

func (wo *world) browser() *visitor {
	return &visitor{browsertest.New(wo.t, issuerURL, http.HandlerFunc(wo.serve)), wo}
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
	g, err := wo.DB.Grant(wo.t.Context(), code.GrantID)
	if err != nil || !g.Matches(code) {
		wo.t.Fatalf("the code's grant: %v", err)
	}
	return g
}

// redeem does what /token does, as far as consent is concerned.
func (wo *world) redeem(g authority.Grant) {
	wo.t.Helper()
	err := wo.DB.RedeemCode(wo.t.Context(), g.ID, g.Code.Hash, authority.Refresh{}, wo.Now().Add(720*time.Hour), wo.Now())
	if err != nil {
		wo.t.Fatal(err)
	}
}
