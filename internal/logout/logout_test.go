package logout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// house is a world of clients, and what they hear.
type house struct {
	*Notifier
	t        *testing.T
	grants   []authority.Grant
	clients  map[string]authority.Client
	sessions map[authority.ID]bool
	after    chan time.Time // what patience waits for

	mu     sync.Mutex
	now    time.Time
	heard  []string // "client: sub sid"
	events []authority.Event
	post   func(ctx context.Context, to string) error
}

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ada   = authority.Subject{Issuer: "https://sts.example.com", ID: "ada", Kind: authority.SubjectUser}
)

func newHouse(t *testing.T) *house {
	h := &house{t: t, clients: map[string]authority.Client{}, sessions: map[authority.ID]bool{}, after: make(chan time.Time), now: start}
	h.Notifier = New(Options{
		Issuer: "https://sts.example.com",
		Grants: func(_ context.Context, f authority.GrantFilter, p authority.Page) (found []authority.Grant, _ error) {
			for _, g := range h.grants {
				if (f.SessionID.IsZero() || g.SessionID == f.SessionID) && (f.SubjectID == "" || g.Subject.ID == f.SubjectID) && g.ID.String() > p.After && len(found) < p.Limit {
					found = append(found, g)
				}
			}
			return found, nil
		},
		Session: func(_ context.Context, id authority.ID) (authority.Session, error) {
			if !h.sessions[id] {
				return authority.Session{}, authority.ErrNotFound
			}
			return authority.Session{ID: id}, nil
		},
		Client: func(_ context.Context, id string) (authority.Client, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			c, ok := h.clients[id]
			if !ok {
				return c, authority.ErrNotFound
			}
			return c, nil
		},
		Token: func(c authority.Client, subject string, session authority.ID, _ time.Time) (string, authority.ID, error) {
			return c.ID + ": " + subject + " " + session.String(), authority.NewID(start), nil
		},
		Post: func(ctx context.Context, to string, form url.Values) error {
			h.mu.Lock()
			post := h.post
			h.mu.Unlock()
			if post != nil {
				if err := post(ctx, to); err != nil {
					return err
				}
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(form) != 1 {
				t.Errorf("posted %v", form)
			}
			h.heard = append(h.heard, form.Get("logout_token"))
			return nil
		},
		Record: func(_ context.Context, e authority.Event) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
			return nil
		},
		Now:   func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now },
		After: func(time.Duration) <-chan time.Time { return h.after },
		Log:   slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { h.Notifier.die(); h.Close() })
	return h
}

// client registers a client that is told.
func (h *house) client(id string, change ...func(*authority.Client)) {
	c := authority.Client{ID: id, Name: "The " + id, BackchannelLogout: authority.Logout{URI: "https://" + id + ".example.com/out"}}
	for _, f := range change {
		f(&c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients[id] = c
}

// grant gives a client an ID token in a session.
func (h *house) grant(client string, session authority.ID, change ...func(*authority.Grant)) {
	g := authority.Grant{
		ID: authority.NewID(start), ClientID: client, Subject: ada, SessionID: session, Scopes: oauth.MustScopes("openid"),
		State: authority.GrantEnded, Code: authority.Code{Hash: [32]byte{1}, ExpiresAt: start}, ExpiresAt: start.Add(time.Hour),
	}
	for _, f := range change {
		f(&g)
	}
	h.grants = append(h.grants, g)
	slices.SortFunc(h.grants, func(a, b authority.Grant) int { return strings.Compare(a.ID.String(), b.ID.String()) })
}

// end ends a session, and waits until all has been said about it.
func (h *house) end(session authority.ID) Outcome {
	h.Ended([]authority.Revocation{{Kind: authority.RevokeSession, Key: session.String()}})
	return h.Wait(h.t.Context(), session)
}

func (h *house) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.heard))
}

func (h *house) recorded(kind authority.EventType) (found []authority.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Type == kind {
			found = append(found, e)
		}
	}
	return found
}

func (h *house) set(post func(context.Context, string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.post = post
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	h.now = h.now.Add(d)
	h.mu.Unlock()
	h.Retry()
}

func TestWhoIsTold(t *testing.T) {
	h := newHouse(t)
	mine, other := authority.NewID(start), authority.NewID(start)
	for _, id := range []string{"web", "kept", "api", "pending", "exchanged", "elsewhere"} {
		h.client(id)
	}
	h.client("off", func(c *authority.Client) { c.Disabled = true })
	h.client("deaf", func(c *authority.Client) { c.BackchannelLogout.URI = "" })
	h.grant("web", mine)
	h.grant("web", mine) // signed in twice, told once
	h.grant("kept", mine, func(g *authority.Grant) { g.State = authority.GrantActive })
	h.grant("api", mine, func(g *authority.Grant) { g.Scopes = oauth.MustScopes("orders:read") })
	h.grant("pending", mine, func(g *authority.Grant) { g.ExpiresAt = g.Code.ExpiresAt })
	h.grant("exchanged", mine, func(g *authority.Grant) { g.Code = authority.Code{} })
	h.grant("off", mine)
	h.grant("deaf", mine)
	h.grant("gone", mine)
	h.grant("elsewhere", other)
	if got := h.end(mine); len(got.Untold) > 0 {
		t.Error(got)
	}
	want := []string{"kept: ada " + mine.String(), "web: ada " + mine.String()}
	if !slices.Equal(h.told(), want) {
		t.Errorf("told %q, want %q", h.told(), want)
	}
	events := h.recorded(authority.EventLogoutSent)
	if len(events) != 2 || events[0].SessionID != mine || events[0].Subject != ada || events[0].TokenID.IsZero() || events[0].ClientID == "" {
		t.Errorf("%+v", events)
	}
}

// Front-Channel Logout 1.0 §2. docs/security/threats.md M 123: a page is not made of a thousand frames.
func TestWhatAPageLoads(t *testing.T) {
	h := newHouse(t)
	session, crowded := authority.NewID(start), authority.NewID(start)
	front := func(uri string, required bool) func(*authority.Client) {
		return func(c *authority.Client) {
			c.BackchannelLogout, c.FrontchannelLogout = authority.Logout{}, authority.Logout{URI: uri, SessionRequired: required}
		}
	}
	h.client("plain", front("https://plain.example.com/out", false))
	h.client("strict", front("https://strict.example.com/out?a=b", true))
	h.client("off", front("https://off.example.com/out", false), func(c *authority.Client) { c.Disabled = true })
	for _, id := range []string{"plain", "strict", "off", "plain"} {
		h.grant(id, session)
	}
	got := h.end(session).Frames
	slices.Sort(got)
	if want := []string{"https://plain.example.com/out", "https://strict.example.com/out?a=b&iss=https%3A%2F%2Fsts.example.com&sid=" + session.String()}; !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	for i := range maxFrames + 3 {
		id := fmt.Sprintf("c%d", i)
		h.client(id, front("https://"+id+".example.com/out", false))
		h.grant(id, crowded)
	}
	if got := h.end(crowded); len(got.Frames) != maxFrames || len(got.Untold) != 3 {
		t.Errorf("%d frames, untold %q", len(got.Frames), got.Untold)
	}
}

// A person who has ended has no sessions left: one token without a session tells that, and
// who insists on sessions hears of each that was alive.
func TestTheEndOfAPersonIsTold(t *testing.T) {
	h := newHouse(t)
	one, two, over := authority.NewID(start), authority.NewID(start), authority.NewID(start)
	h.sessions[one], h.sessions[two] = true, true
	h.client("web")
	h.client("strict", func(c *authority.Client) { c.BackchannelLogout.SessionRequired = true })
	for _, session := range []authority.ID{one, two, over} {
		h.grant("web", session)
		h.grant("strict", session)
	}
	h.Ended([]authority.Revocation{{Kind: authority.EpochUser, Key: "ada"}, {Kind: authority.EpochClient, Key: "web"}, {Kind: authority.RevokeGrant, Key: one.String()}})
	h.working.Wait()
	want := []string{"strict: ada " + one.String(), "strict: ada " + two.String(), "web: ada "}
	slices.Sort(want)
	if !slices.Equal(h.told(), want) {
		t.Errorf("told %q, want %q", h.told(), want)
	}
}

func TestWhoFailsIsToldAgain(t *testing.T) {
	h := newHouse(t)
	session := authority.NewID(start)
	h.client("web")
	h.grant("web", session)
	h.set(func(context.Context, string) error { return errors.New("no connection") })
	if got := h.end(session); !slices.Equal(got.Untold, []string{"The web"}) {
		t.Fatalf("%+v", got)
	}
	h.pass(backoff[0] - time.Second)
	if h.Waiting() != 1 {
		t.Fatal("tried before it was due")
	}
	h.pass(time.Second) // fails once more
	if failed := h.recorded(authority.EventLogoutFailed); len(failed) != 1 || failed[0].Reason != "no connection" {
		t.Errorf("each failure is on record: %+v", failed)
	}
	h.set(nil)
	h.pass(backoff[1])
	if h.Waiting() != 0 || len(h.told()) != 1 || len(h.recorded(authority.EventLogoutSent)) != 1 {
		t.Errorf("%d wait, told %q", h.Waiting(), h.told())
	}
}

func TestNobodyIsTriedForEver(t *testing.T) {
	h := newHouse(t)
	session := authority.NewID(start)
	h.client("web")
	h.client("gone")
	h.grant("web", session)
	h.grant("gone", session)
	h.set(func(context.Context, string) error { return errors.New("no connection") })
	h.end(session)
	h.mu.Lock()
	delete(h.clients, "gone") // nobody is left to be told
	h.mu.Unlock()
	for _, wait := range backoff {
		h.pass(wait)
	}
	failed := h.recorded(authority.EventLogoutFailed)
	if h.Waiting() != 0 || len(failed) != 3 || failed[2].ClientID != "web" || !strings.HasSuffix(failed[2].Reason, "nobody tries again") {
		t.Errorf("%d wait, %+v", h.Waiting(), failed)
	}
}

// docs/security/threats.md M 123: a client that hangs holds up neither the page nor others.
func TestAClientThatHangs(t *testing.T) {
	h := newHouse(t)
	h.client("web")
	h.client("hangs")
	hang := make(chan struct{})
	h.set(func(_ context.Context, to string) error {
		if strings.Contains(to, "hangs") {
			<-hang
		}
		return nil
	})
	// More sessions than there are posts at a time: each has the client that hangs.
	var sessions []authority.ID
	for range maxPosts + 1 {
		session := authority.NewID(start)
		sessions = append(sessions, session)
		h.grant("hangs", session)
	}
	h.grant("web", sessions[maxPosts])
	for _, session := range sessions {
		h.Ended([]authority.Revocation{{Kind: authority.RevokeSession, Key: session.String()}})
	}
	heard := make(chan struct{})
	go func() {
		for len(h.told()) == 0 {
			time.Sleep(time.Millisecond)
		}
		close(heard)
	}()
	<-heard
	go func() { h.after <- time.Time{} }()
	if got := h.Wait(t.Context(), sessions[maxPosts]); !slices.Equal(got.Untold, []string{"The hangs"}) {
		t.Errorf("%+v", got)
	}
	close(hang)
	h.working.Wait()
}

// docs/security/threats.md M 123.
func TestAThousandClientsInOneSession(t *testing.T) {
	h := newHouse(t)
	session := authority.NewID(start)
	for i := range 1000 {
		id := fmt.Sprintf("c%d", i)
		h.client(id)
		h.grant(id, session)
		h.grant(id, session)
	}
	var mu sync.Mutex
	busy, most := 0, 0
	full := make(chan struct{})
	h.set(func(context.Context, string) error {
		mu.Lock()
		busy++
		if most = max(most, busy); most == maxTelling && busy == most {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		<-full // so that whoever may be at work at a time is
		for range 10 {
			runtime.Gosched()
		}
		mu.Lock()
		busy--
		mu.Unlock()
		return nil
	})
	if got := h.end(session); len(got.Untold) != 0 || len(h.told()) != 1000 || most > maxTelling {
		t.Errorf("%d heard of it, %d untold, %d at a time", len(h.told()), len(got.Untold), most)
	}
}

func TestWhoWaitsForTheNextTryWhenTheServiceStopsIsOnRecord(t *testing.T) {
	h := newHouse(t)
	session := authority.NewID(start)
	h.client("web")
	h.grant("web", session)
	h.set(func(context.Context, string) error { return errors.New("no connection") })
	h.end(session)
	h.Close()
	failed := h.recorded(authority.EventLogoutFailed)
	if len(failed) != 2 || !strings.Contains(failed[1].Reason, "service stops") || failed[1].SessionID != session {
		t.Errorf("%+v", failed)
	}
	h.Ended([]authority.Revocation{{Kind: authority.RevokeSession, Key: session.String()}})
	h.working.Wait()
	if len(h.recorded(authority.EventLogoutFailed)) != 2 {
		t.Error("a closed one still tells")
	}
}

// What a stop interrupts is on record too.
func TestAStopDoesNotWaitForAClientThatHangs(t *testing.T) {
	h := newHouse(t)
	session := authority.NewID(start)
	h.client("web")
	h.grant("web", session)
	hangs := make(chan struct{})
	h.set(func(ctx context.Context, _ string) error { close(hangs); <-ctx.Done(); return ctx.Err() })
	h.Ended([]authority.Revocation{{Kind: authority.RevokeSession, Key: session.String()}})
	<-hangs
	go func() { h.after <- time.Time{} }()
	h.Close()
	if failed := h.recorded(authority.EventLogoutFailed); len(failed) != 2 || !strings.Contains(failed[1].Reason, "service stops") {
		t.Errorf("%+v", failed)
	}
}
