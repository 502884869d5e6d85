package signin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

const issuerURL = "https://sts.example.com"

// world is a sign-in on a real database. /start asks for one, and /done is where
// it leads; /done?other=yes if it was another person than the one asked for.
type world struct {
	*Handler
	t        testing.TB
	db       *sqldb.DB
	declared authority.StaticObjects
	file     *authority.StaticObjects // declared, complete
	mux      *http.ServeMux

	mu       sync.Mutex
	now      time.Time
	journal  []authority.Event
	tally    []authority.Event
	epochs   map[string]time.Time // by person
	noDisk   bool                 // the journal fails
	broken   map[string]bool      // methods of the store that fail
	asks     Request              // what /start asks for
	lookups  int                  // usernames that the database was asked for
	starts   int                  // sessions that were stored
	renewing func()               // what happens once, just before a session is renewed
	holds    int                  // refused callers that were kept waiting
}

// phc is a valid hash that costs nothing: few of these tests are about its cost.
func phc(password string) string {
	salt := []byte("0123456789abcdef")
	b64 := base64.RawStdEncoding
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64.EncodeToString(salt) + "$" + b64.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db, err := sqldb.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	wo := &world{
		t: t, db: db, mux: http.NewServeMux(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		epochs: map[string]time.Time{}, broken: map[string]bool{},
		asks: Request{Then: "/done?state=a%26b", Else: map[string][]string{"other": {"yes"}}, ClientID: "web", ClientName: "Example web app"},
		declared: authority.StaticObjects{Users: map[string]authority.User{
			"u-ada":  {ID: "u-ada", Username: "ada", PasswordHash: phc("lovelace")},
			"u-bob":  {ID: "u-bob", Username: "bob", PasswordHash: phc("builder")},
			"u-gone": {ID: "u-gone", Username: "gone", PasswordHash: phc("lovelace"), Disabled: true},
		}},
	}
	directory := authority.DirectoryOf(brokenDirectory{db, wo}, func() *authority.StaticObjects { return wo.file })
	pages := &browser.Pages{
		Settings: func() authority.Issuer { return authority.Issuer{URL: issuerURL} },
		State:    seal.NewBox(sha256.Sum256([]byte("test key")), "page state"), Now: wo.clock,
	}
	sessions := &browser.Sessions{
		Pages: pages, Store: brokenSessions{db, wo}, Directory: directory, Record: wo.record,
		Endings: &revocation.Endings{Store: db, Follower: &revocation.Follower{View: revocation.NewView()}, Record: wo.record, Now: wo.clock},
		Revoked: func([]authority.Link) bool { return false },
	}
	wo.Handler = &Handler{
		Pages: pages, Sessions: sessions, Directory: directory, Epoch: wo.epoch, Record: wo.record, Now: wo.clock,
		Devices: seal.NewBox(sha256.Sum256([]byte("device key")), "device"),
		After: func(d time.Duration) <-chan time.Time {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.holds++
			over := make(chan time.Time, 1)
			over <- wo.now
			return over
		},
		Tally: func(e authority.Event) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.tally = append(wo.tally, e)
		},
	}
	wo.declare()
	for _, route := range slices.Concat(wo.Routes(), sessions.Routes(), []browser.Route{
		{Path: "/start", Get: func(w http.ResponseWriter, r *http.Request) { wo.Ask(w, r, wo.asks) }},
		{Path: "/done", Get: func(w http.ResponseWriter, r *http.Request) {
			session, user, err := sessions.Of(r, wo.clock())
			if err != nil {
				http.Error(w, err.Error(), http.StatusTeapot)
				return
			}
			_, _ = w.Write([]byte(user.Username + " " + session.ID.String() + " " + r.URL.RawQuery))
		}},
	}) {
		wo.mux.HandleFunc(route.Path, pages.Serve(route))
	}
	return wo
}

func (wo *world) declare() {
	wo.t.Helper()
	complete, err := wo.declared.Complete()
	if err != nil {
		wo.t.Fatal(err)
	}
	wo.file = complete
}

// changeUser declares a user again, with one thing changed; nil removes it.
func (wo *world) changeUser(id string, change func(*authority.User)) {
	wo.t.Helper()
	u := wo.declared.Users[id]
	if delete(wo.declared.Users, id); change != nil {
		change(&u)
		wo.declared.Users[id] = u
	}
	wo.declare()
}

func (wo *world) clock() time.Time {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	return wo.now
}

func (wo *world) pass(d time.Duration) {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	wo.now = wo.now.Add(d)
}

func (wo *world) epoch(_, subjectID string) time.Time {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	return wo.epochs[subjectID]
}

var errStorage = errors.New("disk on fire")

func (wo *world) record(ctx context.Context, e authority.Event) error {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	if wo.noDisk {
		return errStorage
	}
	wo.journal = append(wo.journal, e)
	return ctx.Err()
}

func (wo *world) fails(method string) error {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	if wo.broken[method] {
		return errStorage
	}
	return nil
}

type brokenDirectory struct {
	authority.ObjectStore
	wo *world
}

func (b brokenDirectory) ObjectByName(ctx context.Context, kind authority.Kind, name string) (authority.Object, error) {
	b.wo.mu.Lock()
	b.wo.lookups++
	b.wo.mu.Unlock()
	if err := b.wo.fails("ObjectByName"); err != nil {
		return authority.Object{}, err
	}
	return b.ObjectStore.ObjectByName(ctx, kind, name)
}

type brokenSessions struct {
	authority.SessionStore
	wo *world
}

func (b brokenSessions) StartSession(ctx context.Context, s authority.Session) error {
	if err := b.wo.fails("StartSession"); err != nil {
		return err
	}
	b.wo.mu.Lock()
	b.wo.starts++
	b.wo.mu.Unlock()
	return b.SessionStore.StartSession(ctx, s)
}

func (b brokenSessions) RenewSession(ctx context.Context, hash [32]byte, next authority.Session) error {
	b.wo.mu.Lock()
	happens := b.wo.renewing
	b.wo.renewing = nil
	b.wo.mu.Unlock()
	if happens != nil {
		happens()
	}
	return b.SessionStore.RenewSession(ctx, hash, next)
}

func (wo *world) browser() *browsertest.Browser { return browsertest.New(wo.t, issuerURL, wo.mux) }

const sessionCookie = "__Host-signalbox_session"

// signedIn says whether the page is the one that a sign-in leads to.
func signedIn(p browsertest.Page) bool { return p.Code == http.StatusOK && p.Is() == "page" }

// tallies are how many counts of failures there are.
func (wo *world) tallies() int {
	wo.attempts.mu.Lock()
	defer wo.attempts.mu.Unlock()
	return len(wo.attempts.tallies)
}
