package e2e

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/test/postgres"
	"github.com/signalbox-sts/signalbox/test/proxy"
)

// E69 and the promise about failing storage: 503 with Retry-After, never a token for which
// nothing was spent, never "invalid_grant", no half state. What needs no database still works.

// TestStorageGone cuts the connection to PostgreSQL under load, like a server that stops:
// open transactions break at any point, and new connections are refused.
func TestStorageGone(t *testing.T) {
	database := postgres.New(t)
	between := proxy.Start(t, database.Host)
	behind := *database
	behind.Host = between.Addr().String()
	w := startPostgres(t, &behind, "tokens: {refresh_grace: 60s}\n")
	w.open(t, "pgx", database.String()) // past the proxy

	var sessions []*session
	for range 4 {
		s := &session{world: w, browser: newBrowser(t)}
		s.begin(t)
		sessions = append(sessions, s)
	}
	told := &told{}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		answers := &outage{t: t, told: told}
		var load sync.WaitGroup
		for _, s := range sessions {
			load.Go(func() { answers.refresh(ctx, s) })
		}
		load.Go(func() { answers.machine(ctx, w) })
		answers.await(t, "answers with the database", func() bool { return answers.good.Load() > 200 })

		code := sessions[0].newCode(ctx)
		if code == nil {
			t.Fatal("no code")
		}
		between.Cut()
		answers.expectRefusals.Store(true)
		answers.await(t, "refusals without it", func() bool { return answers.refused.Load() > 50 })
		machine := answers.machines.Load()
		answers.await(t, "tokens for machines without the database", func() bool { return answers.machines.Load() > machine+100 })
		refusedWhileAway(t, w, sessions[0], code)

		between.Restore()
		w.proc.wait(t, "recovery", func() bool { return sessions[0].works(ctx) })
		good := answers.good.Load()
		answers.await(t, "answers with the database again", func() bool { return answers.good.Load() > good+200 })
		cancel()
		load.Wait()
		for _, s := range sessions {
			s.resume(t, told)
		}
		// A code that could not be redeemed is as good as before.
		checkTokenAnswer(t, w.post(t, "/token", code, basic(webTwo)), "")
	}
	told.check(t, w.server)
	verifyJournal(t, w.server)
	if n := w.number(t, "SELECT count(*) FROM grants WHERE state = 'ended'"); n != 0 {
		t.Errorf("the outage ended %d grants", n)
	}
	if records := journalOf(t, w.server, query.Query{Types: []string{"grant.reuse_detected"}}); len(records) != 0 {
		t.Errorf("the outage made %d clients look like thieves", len(records))
	}
}

// outage counts what a load sees.
type outage struct {
	t                       *testing.T
	told                    *told
	good, refused, machines atomic.Int64
	expectRefusals          atomic.Bool
}

func (o *outage) await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	limit := time.Now().Add(startLimit)
	for !reached() {
		if t.Failed() || time.Now().After(limit) {
			t.Fatalf("no %s: %d good, %d refused, %d for machines", what, o.good.Load(), o.refused.Load(), o.machines.Load())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// refresh rotates until it is stopped. A refusal must be one that a client can act on.
func (o *outage) refresh(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		got, err := quiet(context.WithoutCancel(ctx), s.server, "/token", params("grant_type", "refresh_token", "refresh_token", s.current), basic(webTwo))
		switch {
		case err != nil:
			o.t.Error(err)
			return
		case got.Status == http.StatusOK:
			o.good.Add(1)
			o.told.add(got.str("access_token"))
			s.rotated(got)
		case !unavailable(got):
			o.t.Errorf("E69: a refresh while the database is away: %s", got)
			return
		case !o.expectRefusals.Load() && o.refused.Load() > 20:
			o.t.Errorf("refused with the database at hand: %s", got)
			return
		default:
			o.refused.Add(1)
			time.Sleep(2 * time.Millisecond) // Retry-After asks for a second; nobody needs a storm of log lines either
		}
	}
}

func unavailable(r reply) bool {
	return r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "" && r.JSON["access_token"] == nil && r.str("error") == "temporarily_unavailable"
}

// machine gets tokens that need no database, all the time.
func (o *outage) machine(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		got, err := quiet(context.WithoutCancel(ctx), w.server, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine))
		if err != nil || got.Status != http.StatusOK {
			o.t.Errorf("client credentials without a database: %v %s", err, got)
			return
		}
		o.machines.Add(1)
		o.told.add(got.str("access_token"))
	}
}

// refusedWhileAway asks for everything else that needs the database.
func refusedWhileAway(t *testing.T, w *world, s *session, code url.Values) {
	t.Helper()
	// The answer is remembered for a second.
	w.proc.wait(t, "503 from /readyz", func() bool { return w.get(t, "/readyz").Status == http.StatusServiceUnavailable })
	if r := send(t, adminGet(t, w.server, "/livez")); r.Status != http.StatusOK {
		t.Errorf("/livez without a database: %s", r)
	}
	for what, r := range map[string]reply{
		"redeeming a code":              w.post(t, "/token", code, basic(webTwo)),
		"revoking a refresh token":      w.post(t, "/revoke", params("token", s.current), basic(webTwo)),
		"revoking an access token":      w.post(t, "/revoke", params("token", w.machineToken(t)), basic(machine)),
		"introspecting a refresh token": w.post(t, "/introspect", params("token", s.current), basic(webTwo)),
		"revoking a client by admin":    w.administer(t, "POST", "/revocations", map[string]any{"client_id": "web"}),
	} {
		if !unavailable(r) {
			t.Errorf("%s without a database: %s", what, r)
		}
	}
	p := s.browser.get(s.authorizeURL(newCodeRequest(webTwo).query))
	if to := p.redirect(); (to == nil || to.Query().Get("error") != "temporarily_unavailable") && p.Status != http.StatusServiceUnavailable {
		t.Errorf("/authorize without a database: %s", p.reply)
	}
}

func adminGet(t *testing.T, s *server, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.AdminURL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func (s *session) works(ctx context.Context) bool {
	resp, err := http.Get(s.Issuer + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK && ctx.Err() == nil
}

// TestStorageHangs: a database that does not answer must not make the service hang.
func TestStorageHangs(t *testing.T) {
	t.Parallel() // it waits for time-outs
	database := postgres.New(t)
	between := proxy.Start(t, database.Host)
	behind := *database
	behind.Host = between.Addr().String()
	w := startPostgres(t, &behind, "tokens: {refresh_grace: 60s}\n")
	tokens := w.signedIn(t, webTwo, ada)
	between.Hang()
	var wg sync.WaitGroup
	ask := func(what string, f func() reply, ok func(reply) bool) {
		wg.Go(func() {
			began := time.Now()
			if r := f(); !ok(r) {
				t.Errorf("%s after %v: %s", what, time.Since(began).Round(time.Second), r)
			}
		})
	}
	ask("a refresh", func() reply { return w.refresh(t, webTwo, tokens.str("refresh_token")) }, unavailable)
	ask("another refresh", func() reply { return w.refresh(t, webTwo, tokens.str("refresh_token")) }, unavailable)
	ask("a revocation", func() reply {
		return w.post(t, "/revoke", params("token", tokens.str("refresh_token")), basic(webTwo))
	}, unavailable)
	ask("client credentials", func() reply {
		return w.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine))
	}, func(r reply) bool { return r.Status == http.StatusOK })
	wg.Wait()
	if t.Failed() {
		return
	}
	// A view of the revocations that is too old must say so.
	w.proc.wait(t, "a refusal to introspect", func() bool {
		return unavailable(w.post(t, "/introspect", params("token", tokens.str("access_token")), basic(apiServer)))
	})
	between.Restore()
	w.proc.wait(t, "recovery", func() bool { return w.get(t, "/readyz").Status == http.StatusOK })
	if w.number(t, "SELECT count(*) FROM grants WHERE state = 'active'") == 1 {
		r := w.refresh(t, webTwo, tokens.str("refresh_token"))
		checkTokenAnswer(t, r, "")
	}
}

// TestStorageLocked: another program holds SQLite's write lock.
func TestStorageLocked(t *testing.T) {
	t.Parallel() // it waits for time-outs
	w := newSQLite(t, "tokens: {refresh_grace: 60s}\n")
	tokens := w.signedIn(t, webTwo, ada)
	r := newCodeRequest(webTwo)
	redeem := r.redeem(w.code(t, r, bob))
	conn, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for what, ask := range map[string]func() reply{
		"a refresh":           func() reply { return w.refresh(t, webTwo, tokens.str("refresh_token")) },
		"redeeming a code":    func() reply { return w.post(t, "/token", redeem, basic(webTwo)) },
		"revoking a token":    func() reply { return w.post(t, "/revoke", params("token", tokens.str("refresh_token")), basic(webTwo)) },
		"ending all by admin": func() reply { return w.administer(t, "POST", "/revocations", map[string]any{"everything": true}) },
	} {
		wg.Go(func() {
			if r := ask(); !unavailable(r) {
				t.Errorf("%s while SQLite is locked: %s", what, r)
			}
		})
	}
	wg.Wait()
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	// No half state: everything is as before the requests.
	checkTokenAnswer(t, w.post(t, "/token", redeem, basic(webTwo)), "")
	if !w.active(t, tokens.str("access_token")) {
		t.Error("a revocation that answered 503 has been done all the same")
	}
	checkTokenAnswer(t, w.refresh(t, webTwo, tokens.str("refresh_token")), "")
}
