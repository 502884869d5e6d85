package e2e

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// TestKill ends the service with SIGKILL at random moments under load. Whatever a client
// was told before stays true: its tokens are in the journal, what it spent is spent, and
// what it holds still works.
//
// SIGKILL does not lose the kernel's page cache, so this proves the order of writes and
// the recovery, but not the syncs: the tests of store and journal do.
func TestKill(t *testing.T) {
	onEachEngine(t, "tokens: {refresh_grace: 60s}\n", func(t *testing.T, w *world) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		var sessions []*session
		for range 4 {
			s := &session{world: w, browser: newBrowser(t)}
			s.begin(t)
			sessions = append(sessions, s)
		}
		told := &told{}
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for _, s := range sessions {
				wg.Go(func() { s.run(ctx, t, told) })
			}
			for _, resource := range []string{api, "https://opaque.example.com"} {
				wg.Go(func() { machineLoad(ctx, w, resource, told) })
			}
			time.Sleep(time.Duration(200+random.IntN(1300)) * time.Millisecond) // the moment is the point
			w.kill()
			cancel()
			wg.Wait()
			w.serve(t)
			// An honest client continues, even if it missed the last answer.
			for _, s := range sessions {
				s.resume(t, told)
			}
		}
		told.check(t, w.server)
		verifyJournal(t, w.server)

		w.shiftRefresh(t, 61)
		for _, s := range sessions {
			for i, chain := range s.chains {
				// The first of them ends the grant, so the kinds take turns in being first.
				if i%2 == 0 {
					checkSpent(t, "a spent code", w.post(t, "/token", chain.code, basic(webTwo)))
				}
				for _, token := range chain.spent {
					checkSpent(t, "a spent refresh token", w.refresh(t, webTwo, token))
				}
				if i%2 == 1 {
					checkSpent(t, "a spent code", w.post(t, "/token", chain.code, basic(webTwo)))
				}
			}
		}
		verifyJournal(t, w.server)
	})
}

func checkSpent(t *testing.T, what string, r reply) {
	t.Helper()
	if r.Status != http.StatusBadRequest || r.str("error") != "invalid_grant" {
		t.Errorf("%s was presented again: %s", what, r)
	}
}

// told is every access token that any client has received.
type told struct {
	mu     sync.Mutex
	tokens []string
}

func (o *told) add(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens = append(o.tokens, token)
}

// check looks for every token in the journal, by its hash.
func (o *told) check(t *testing.T, s *server) {
	t.Helper()
	recorded := map[string]bool{}
	err := query.Search(t.Context(), filepath.Join(s.dir, "journal"), query.Query{Types: []string{"token.issued"}}, func(r query.Record) error {
		recorded[r.TokenHash] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, token := range o.tokens {
		if !recorded[journalHash(token)] {
			missing++
		}
	}
	t.Logf("clients received %d tokens, the journal holds %d", len(o.tokens), len(recorded))
	if missing > 0 {
		t.Errorf("%d of %d tokens that clients received are not in the journal", missing, len(o.tokens))
	}
	if len(o.tokens) < 100 {
		t.Errorf("only %d tokens: that was no load", len(o.tokens))
	}
}

// session is one person with one browser, who signs in repeatedly and refreshes in
// between.
type session struct {
	*world
	browser *browser
	current string // the refresh token that the client holds
	chains  []*chain
}

// chain is what one sign-in has spent: its code and all its refresh tokens but the last.
type chain struct {
	code  url.Values
	spent []string
}

// begin gets the first tokens, with sign-in and consent.
func (s *session) begin(t *testing.T) {
	t.Helper()
	if s.current != "" {
		return
	}
	r := newCodeRequest(webTwo)
	form := r.redeem(s.browser.authorize(s.authorizeURL(r.query), ada, "allow").Get("code"))
	got := s.post(t, "/token", form, basic(webTwo))
	checkTokenAnswer(t, got, "")
	s.spent(form, got)
}

func (s *session) spent(form url.Values, got reply) {
	s.chains = append(s.chains, &chain{code: form})
	s.current = got.str("refresh_token")
}

func (s *session) rotated(got reply) {
	last := s.chains[len(s.chains)-1]
	last.spent = append(last.spent, s.current)
	s.current = got.str("refresh_token")
}

// run works until the service is killed.
func (s *session) run(ctx context.Context, t *testing.T, told *told) {
	for ctx.Err() == nil {
		// A grant lives as long as its chain, so a new code leaves the old chain alone.
		if form := s.newCode(ctx); form != nil {
			got, err := quiet(ctx, s.server, "/token", form, basic(webTwo))
			if err != nil {
				return
			}
			if got.Status != http.StatusOK {
				t.Errorf("redeeming a code under load: %s", got)
				return
			}
			told.add(got.str("access_token"))
			s.spent(form, got)
		}
		for range 20 {
			got, err := quiet(ctx, s.server, "/token", params("grant_type", "refresh_token", "refresh_token", s.current), basic(webTwo))
			if err != nil {
				return
			}
			if got.Status != http.StatusOK {
				t.Errorf("a refresh under load: %s", got)
				return
			}
			told.add(got.str("access_token"))
			s.rotated(got)
		}
	}
}

// resume presents the current token of the client. The service may have rotated it already,
// if it was killed before it could answer.
func (s *session) resume(t *testing.T, told *told) {
	t.Helper()
	got := s.refresh(t, webTwo, s.current)
	if got.Status != http.StatusOK {
		t.Errorf("after a crash an honest client is signed out: %s", got)
		s.current = ""
		s.begin(t)
		return
	}
	told.add(got.str("access_token"))
	s.rotated(got)
}

// newCode gets a code from /authorize with an existing session and consent, or nil if
// the service was killed.
func (s *session) newCode(ctx context.Context) url.Values {
	r := newCodeRequest(webTwo)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.authorizeURL(r.query), nil)
	if err != nil {
		return nil
	}
	resp, err := s.browser.http.Do(req)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		return nil
	}
	return r.redeem(to.Query().Get("code"))
}

func machineLoad(ctx context.Context, w *world, resource string, told *told) {
	for ctx.Err() == nil {
		got, err := quiet(ctx, w.server, "/token", params("grant_type", "client_credentials", "resource", resource), basic(machine))
		if err != nil {
			return
		}
		if got.Status == http.StatusOK {
			told.add(got.str("access_token"))
		}
	}
}

// quiet is post for a service that may be killed meanwhile: it returns an error and does
// not fail the test.
func quiet(ctx context.Context, s *server, path string, form url.Values, change func(*http.Request)) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	change(req)
	resp, err := plainClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	return readAll(resp)
}
