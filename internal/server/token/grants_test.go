package token_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func TestClientCredentials(t *testing.T) {
	w := newWorld(t)
	good := form("grant_type", "client_credentials", "scope", "read")
	for _, row := range []struct {
		name   string
		client string
		form   url.Values
		want   oauth.Code // empty: it works
	}{
		{"the good request", "service", good, ""},
		{"no scope gives all that the client may have", "service", with(good, "scope", ""), ""},
		{"for a resource of the client", "service", with(good, "resource", testAPI), ""},
		{"scope too wide", "service", with(good, "scope", "read admin"), oauth.InvalidScope},
		{"a scope about a person", "service", with(good, "scope", "openid"), oauth.InvalidScope},
		{"scope with a character that is not allowed", "service", with(good, "scope", "re\"ad"), oauth.InvalidScope},
		{"scope with two spaces", "service", with(good, "scope", "read  write"), oauth.InvalidScope},
		{"for a resource of somebody else", "service", with(good, "resource", opaqueAPI), oauth.InvalidTarget},
		{"a scope of another resource than the one asked for", "service", with(good, "resource", otherAPI), oauth.InvalidScope},
		{"grant type missing", "service", with(good, "grant_type", ""), oauth.InvalidRequest},
		{"grant type unknown", "service", with(good, "grant_type", "password"), oauth.UnsupportedGrantType},
		{"grant type not registered for the client", "web", good, oauth.UnauthorizedClient},
		{"parameter sent twice", "service", form("grant_type", "client_credentials", "scope", "read", "scope", "read"), oauth.InvalidRequest},
		{"unknown parameters are ignored", "service", with(good, "foo", "bar"), ""},
		{"a line break in a parameter", "service", with(good, "foo", "b\nar"), oauth.InvalidRequest},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.token(row.client, row.form)
			if got := oauth.Code(r.text("error")); got != row.want {
				t.Fatalf("got %d %v, want error %q", r.status, r.body, row.want)
			}
			if (r.text("access_token") != "") != (row.want == "") {
				t.Fatalf("a token in %v", r.body)
			}
			if r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the answer may be cached: %v", r.header)
			}
		})
	}
}

func TestAuthorizationCode(t *testing.T) {
	for _, row := range []struct {
		name   string
		client string
		grant  func(*authority.Grant)
		form   func(url.Values) url.Values
		after  time.Duration
		want   oauth.Code
	}{
		{name: "the good request"},
		{name: "26: another client", client: "web2", want: oauth.InvalidGrant},
		{name: "26: another redirect_uri", form: func(v url.Values) url.Values { return with(v, "redirect_uri", testRedirect+"/") }, want: oauth.InvalidGrant},
		{name: "26: no redirect_uri where there was one", form: func(v url.Values) url.Values { return with(v, "redirect_uri", "") }, want: oauth.InvalidGrant},
		{name: "26: a redirect_uri where there was none", grant: func(g *authority.Grant) { g.Code.RedirectURI = "" }, want: oauth.InvalidGrant},
		{name: "28: a minute later", after: time.Minute, want: oauth.InvalidGrant},
		{name: "28: one second before", after: 59 * time.Second},
		{name: "28: truncated", form: func(v url.Values) url.Values { return with(v, "code", v.Get("code")[:50]) }, want: oauth.InvalidGrant},
		{name: "28: case changed", form: func(v url.Values) url.Values { return with(v, "code", strings.ToUpper(v.Get("code"))) }, want: oauth.InvalidGrant},
		{name: "29: no verifier", form: func(v url.Values) url.Values { return with(v, "code_verifier", "") }, want: oauth.InvalidGrant},
		{name: "29: a wrong verifier", form: func(v url.Values) url.Values { return with(v, "code_verifier", strings.Repeat("a", 43)) }, want: oauth.InvalidGrant},
		{name: "29: a short verifier", form: func(v url.Values) url.Values { return with(v, "code_verifier", "short") }, want: oauth.InvalidGrant},
		{name: "29: the challenge as verifier", form: func(v url.Values) url.Values {
			return with(v, "code_verifier", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
		}, want: oauth.InvalidGrant},
		{name: "29: a verifier where no challenge was sent", grant: func(g *authority.Grant) { g.Code.Challenge = oauth.Challenge{} }, want: oauth.InvalidGrant},
		{name: "code missing", form: func(v url.Values) url.Values { return with(v, "code", "") }, want: oauth.InvalidRequest},
		{name: "a resource that was not approved", form: func(v url.Values) url.Values { return with(v, "resource", otherAPI) }, want: oauth.InvalidTarget},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			if row.grant == nil {
				row.grant = func(*authority.Grant) {}
			}
			if row.form == nil {
				row.form = func(v url.Values) url.Values { return v }
			}
			if row.client == "" {
				row.client = "web"
			}
			g, code := w.approve("web", "openid profile read offline_access", row.grant)
			w.Pass(row.after)
			r := w.token(row.client, row.form(redeem(code)))
			if got := oauth.Code(r.text("error")); got != row.want {
				t.Fatalf("got %d %v, want error %q", r.status, r.body, row.want)
			}
			stored, err := w.DB.Grant(context.Background(), g.ID)
			if err != nil {
				t.Fatal(err)
			}
			if row.want != "" && stored.State != authority.GrantPending {
				t.Fatalf("a refusal left the grant %s", stored.State)
			}
			if row.want == "" && (stored.State != authority.GrantActive || r.text("refresh_token") == "" || r.text("id_token") == "") {
				t.Fatalf("grant %s, answer %v", stored.State, r.body)
			}
		})
	}
}

func TestCodeTwiceEndsTheGrant(t *testing.T) {
	w := newWorld(t)
	_, code := w.approve("web", "openid read offline_access")
	first := w.token("web", redeem(code))
	if r := w.token("web", redeem(code)); r.text("error") != "invalid_grant" {
		t.Fatalf("the second time: %v", r.body)
	}
	if r := w.introspect("api", first.text("access_token")); r.body["active"] != false {
		t.Fatalf("the first access token lives on: %v", r.body)
	}
	if r := w.token("web", refreshForm(first.text("refresh_token"))); r.text("error") != "invalid_grant" {
		t.Fatalf("the first refresh token lives on: %v", r.body)
	}
	if w.count(authority.EventGrantEnded) != 1 {
		t.Fatal("the end is not in the journal once")
	}
}

// While a code is redeemed, its person begins again in another tab: the code is
// gone, and nobody has used it twice.
func TestDisplacedCodeIsNoReuse(t *testing.T) {
	w := newWorld(t)
	first, code := w.approve("web", "openid read offline_access")
	var second reply
	w.justBefore("RedeemCode", func() {
		_, newer := w.approve("web", "openid read offline_access", func(g *authority.Grant) { g.SessionID = first.SessionID })
		second = w.token("web", redeem(newer))
	})
	if r := w.token("web", redeem(code)); r.text("error") != "invalid_grant" {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if second.status != 200 || w.count(authority.EventGrantEnded) != 0 {
		t.Errorf("the newer code: %d %v; %d ends are on record", second.status, second.body, w.count(authority.EventGrantEnded))
	}
	if list, err := w.DB.Revocations(t.Context(), 0, 10); err != nil || len(list) != 0 {
		t.Errorf("a grant that never was is remembered as ended for a year: %v %v", list, err)
	}
}

func TestCodeInParallelWorksOnce(t *testing.T) {
	w := newWorld(t)
	_, code := w.approve("web", "openid read")
	var mu sync.Mutex
	worked := 0
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			r := w.token("web", redeem(code))
			mu.Lock()
			defer mu.Unlock()
			if r.status == 200 {
				worked++
			} else if r.text("error") != "invalid_grant" {
				t.Errorf("%d %v", r.status, r.body)
			}
		})
	}
	group.Wait()
	if worked > 1 {
		t.Fatalf("%d of 64 redemptions of one code worked", worked)
	}
}

func TestRefreshInParallelHasOneSuccessor(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read offline_access").text("refresh_token")
	var mu sync.Mutex
	successors := map[string]int{}
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			r := w.token("web", refreshForm(token))
			mu.Lock()
			defer mu.Unlock()
			if r.status != 200 {
				t.Errorf("%d %v", r.status, r.body)
			}
			successors[r.text("refresh_token")]++
		})
	}
	group.Wait()
	if len(successors) != 1 {
		t.Fatalf("%d different successors", len(successors))
	}
	for next := range successors {
		if r := w.token("web", refreshForm(next)); r.status != 200 {
			t.Fatalf("the successor: %d %v", r.status, r.body)
		}
	}
}

func TestAnswersSayWhenTheRefreshTokenEnds(t *testing.T) {
	w := newWorld(t)
	says := func(name string, r reply, refresh, grant time.Duration) {
		t.Helper()
		if r.body["refresh_token_expires_in"] != refresh.Seconds() || r.body["authorization_expires_in"] != grant.Seconds() {
			t.Errorf("%s: %v of %v, %v of %v", name, r.body["refresh_token_expires_in"], refresh.Seconds(), r.body["authorization_expires_in"], grant.Seconds())
		}
	}
	const all, idle = 30 * 24 * time.Hour, 24 * time.Hour
	first := w.signIn("web", "openid read offline_access")
	says("at the sign-in", first, idle, all)
	w.Pass(time.Hour)
	next := w.token("web", refreshForm(first.text("refresh_token")))
	says("after a refresh", next, idle, all-time.Hour)
	w.Pass(time.Second)
	says("the same refresh again", w.token("web", refreshForm(first.text("refresh_token"))), idle-time.Second, all-time.Hour-time.Second)
	w.Pass(20 * time.Hour)
	next = w.token("web", refreshForm(next.text("refresh_token")))
	for range 30 {
		w.Pass(23 * time.Hour)
		next = w.token("web", refreshForm(next.text("refresh_token")))
	}
	if left := next.body["authorization_expires_in"].(float64); left >= idle.Seconds() || next.body["refresh_token_expires_in"] != left {
		t.Errorf("in the last hours of the grant: %v", next.body)
	}
	if r := w.token("service", form("grant_type", "client_credentials")); r.body["refresh_token_expires_in"] != nil || r.body["authorization_expires_in"] != nil {
		t.Errorf("without a refresh token: %v", r.body)
	}
}

func TestRefresh(t *testing.T) {
	for _, row := range []struct {
		name   string
		form   func(url.Values) url.Values
		client string
		after  time.Duration
		setup  func(w *world)
		want   oauth.Code
	}{
		{name: "the good request"},
		{name: "just before the idle time is over", after: 24*time.Hour - time.Second},
		{name: "after the idle time", after: 24 * time.Hour, want: oauth.InvalidGrant},
		{name: "70: another client", client: "web2", want: oauth.InvalidGrant},
		{name: "71: narrower scope", form: func(v url.Values) url.Values { return with(v, "scope", "read") }},
		{name: "71: wider scope", form: func(v url.Values) url.Values { return with(v, "scope", "read email") }, want: oauth.InvalidScope},
		{name: "71: another resource", form: func(v url.Values) url.Values { return with(v, "resource", otherAPI) }, want: oauth.InvalidTarget},
		{name: "72: truncated", form: func(v url.Values) url.Values { return with(v, "refresh_token", v.Get("refresh_token")[:60]) }, want: oauth.InvalidGrant},
		{name: "72: extended", form: func(v url.Values) url.Values { return with(v, "refresh_token", v.Get("refresh_token")+"A") }, want: oauth.InvalidGrant},
		{name: "72: case changed", form: func(v url.Values) url.Values {
			return with(v, "refresh_token", strings.ToLower(v.Get("refresh_token")))
		}, want: oauth.InvalidGrant},
		{name: "70: the user is disabled", setup: func(w *world) {
			ada := w.Static.Users["ada-id"]
			ada.Disabled = true
			w.Static.Users["ada-id"] = ada
			w.Declare()
		}, want: oauth.InvalidGrant},
		{name: "70: the user is gone", setup: func(w *world) { delete(w.Static.Users, "ada-id"); w.Declare() }, want: oauth.InvalidGrant},
		{name: "42: the client is disabled", setup: func(w *world) {
			c := w.Static.Clients["web"]
			c.Disabled = true
			w.Static.Clients["web"] = c
			w.Declare()
		}, want: oauth.InvalidClient},
		{name: "70: an epoch of the user", setup: func(w *world) { w.revoke(authority.EpochUser, "ada-id") }, want: oauth.InvalidGrant},
		{name: "an epoch of the client", setup: func(w *world) { w.revoke(authority.EpochClient, "web") }, want: oauth.InvalidGrant},
		{name: "an epoch of everything", setup: func(w *world) { w.revoke(authority.EpochEverything, "") }, want: oauth.InvalidGrant},
		{name: "an epoch of another user", setup: func(w *world) { w.revoke(authority.EpochUser, "eve-id") }},
		{name: "refresh token missing", form: func(v url.Values) url.Values { return with(v, "refresh_token", "") }, want: oauth.InvalidRequest},
		{name: "59: an access token as refresh token", form: func(v url.Values) url.Values { return with(v, "refresh_token", "eyJhbGciOiJFUzI1NiJ9.e30.AA") }, want: oauth.InvalidGrant},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			if row.form == nil {
				row.form = func(v url.Values) url.Values { return v }
			}
			if row.client == "" {
				row.client = "web"
			}
			token := w.signIn("web", "openid profile read offline_access").text("refresh_token")
			w.Pass(row.after)
			if row.setup != nil {
				row.setup(w)
			}
			r := w.token(row.client, row.form(refreshForm(token)))
			if got := oauth.Code(r.text("error")); got != row.want {
				t.Fatalf("got %d %v, want error %q", r.status, r.body, row.want)
			}
		})
	}
}

func TestScopeTakenFromTheClientIsGoneAtRefresh(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read write offline_access").text("refresh_token")
	c := w.Static.Clients["web"]
	c.Scopes = oauth.MustScopes("openid", "read", "offline_access")
	w.Static.Clients["web"] = c
	w.Declare()
	r := w.token("web", refreshForm(token))
	if r.text("scope") != "openid read offline_access" {
		t.Fatalf("%v", r.body)
	}
}

func TestGrantWhoseClientLostEveryScope(t *testing.T) { // 70
	w := newWorld(t)
	_, code := w.approve("web", "read")
	token := w.signIn("web", "read").text("refresh_token")
	allowed := w.Static.Clients["web"].Scopes
	w.changeClient("web", func(c *authority.Client) {
		c.Scopes, c.Resources = oauth.MustScopes("openid"), []string{testAPI}
	})
	for name, form := range map[string]url.Values{"code": redeem(code), "refresh token": refreshForm(token)} {
		if r := w.token("web", form); r.status != 400 || r.text("error") != "invalid_grant" {
			t.Errorf("%s: %d %v", name, r.status, r.body)
		}
	}
	w.changeClient("web", func(c *authority.Client) { c.Scopes = allowed })
	for name, form := range map[string]url.Values{"code": redeem(code), "refresh token": refreshForm(token)} {
		if r := w.token("web", form); r.status != 200 || r.text("scope") != "read" {
			t.Errorf("the refusal has used up the %s: %d %v", name, r.status, r.body)
		}
	}
}

func TestGrantWithoutScopesGoesToItsOnlyResource(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "").text("refresh_token")
	r := w.token("web", refreshForm(token))
	if r.status != 200 || w.claim(r.text("access_token"), "aud") != testAPI {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

func TestOldRefreshToken(t *testing.T) {
	w := newWorld(t)
	first := w.signIn("web", "openid read offline_access")
	old := first.text("refresh_token")
	second := w.token("web", refreshForm(old))

	w.Pass(9 * time.Second)
	again := w.token("web", refreshForm(old))
	if again.text("refresh_token") != second.text("refresh_token") {
		t.Fatalf("64: within grace it must be the same successor: %v", again.body)
	}
	w.Pass(time.Second) // ten seconds after the rotation, not after the retry
	if r := w.token("web", refreshForm(old)); r.text("error") != "invalid_grant" {
		t.Fatalf("64: after grace: %v", r.body)
	}
	if r := w.token("web", refreshForm(second.text("refresh_token"))); r.text("error") != "invalid_grant" {
		t.Fatalf("64: the whole grant must end: %v", r.body)
	}
	for name, token := range map[string]string{"first": first.text("access_token"), "second": second.text("access_token"), "third": again.text("access_token")} {
		if r := w.introspect("api", token); r.body["active"] != false {
			t.Errorf("the %s access token lives on: %v", name, r.body)
		}
	}
	if w.count(authority.EventRefreshReused) != 1 {
		t.Fatal("the reuse is not in the journal once")
	}
}

// drip reads its body slowly: the clock moves while it is read.
type drip struct {
	io.Reader
	w    *world
	took time.Duration
}

func (d *drip) Read(p []byte) (int, error) {
	if d.took > 0 {
		d.w.Pass(d.took)
		d.took = 0
	}
	return d.Reader.Read(p)
}

// A caller who sends its body slowly gains no time: what has run out by the end
// of the body is over, though the token is as old as the request.
func TestSlowBodyGainsNoTime(t *testing.T) {
	slowly := func(w *world, took time.Duration) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(&drip{r.Body, w, took}) }
	}
	t.Run("grace", func(t *testing.T) {
		w := newWorld(t)
		old := w.signIn("web", "openid read offline_access").text("refresh_token")
		w.token("web", refreshForm(old))
		if r := w.token("web", refreshForm(old), slowly(w, 11*time.Second)); r.text("error") != "invalid_grant" {
			t.Fatalf("%d %v", r.status, r.body)
		}
	})
	t.Run("a code", func(t *testing.T) {
		w := newWorld(t)
		_, code := w.approve("web", "openid read")
		if r := w.token("web", redeem(code), slowly(w, 61*time.Second)); r.text("error") != "invalid_grant" {
			t.Fatalf("%d %v", r.status, r.body)
		}
	})
	t.Run("idle time", func(t *testing.T) {
		w := newWorld(t)
		token := w.signIn("web", "openid read offline_access").text("refresh_token")
		w.Pass(24*time.Hour - time.Second)
		if r := w.token("web", refreshForm(token), slowly(w, 2*time.Second)); r.text("error") != "invalid_grant" {
			t.Fatalf("%d %v", r.status, r.body)
		}
	})
	t.Run("an epoch while the body is read", func(t *testing.T) {
		w := newWorld(t)
		began := w.Now()
		r := w.token("service", form("grant_type", "client_credentials"), slowly(w, 2*time.Second))
		w.revokeAt(authority.EpochClient, "service", began.Add(time.Second))
		wantInactive(t, w.introspect("service", r.text("access_token")))
	})
}

// A grant without offline_access ends with its session: at its natural end, and
// when the person signs out.
func TestGrantEndsWithItsSession(t *testing.T) {
	const natural = 12 * time.Hour
	w := newWorld(t)
	g, code := w.approve("web", "openid read")
	token := w.token("web", redeem(code)).text("refresh_token")
	stored, err := w.DB.Grant(context.Background(), g.ID)
	if err != nil || !stored.ExpiresAt.Equal(g.AuthTime.Add(natural).Truncate(time.Microsecond)) {
		t.Fatalf("the grant expires at %v, its session at %v: %v", stored.ExpiresAt, g.AuthTime.Add(natural), err)
	}
	w.Pass(natural - time.Second)
	r := w.token("web", refreshForm(token))
	if r.status != 200 || r.body["expires_in"].(float64) > 1 {
		t.Fatalf("a second before: %d %v", r.status, r.body)
	}
	w.Pass(time.Second)
	if r := w.token("web", refreshForm(r.text("refresh_token"))); r.text("error") != "invalid_grant" {
		t.Fatalf("it outlives its session: %d %v", r.status, r.body)
	}

	// A session that is gone ends it too, before any node has heard of the end.
	w = newWorld(t)
	g, code = w.approve("web", "openid read")
	pending, late := w.approve("web2", "openid read")
	token = w.token("web", redeem(code)).text("refresh_token")
	for _, session := range []authority.ID{g.SessionID, pending.SessionID} {
		if _, err := w.DB.EndSession(context.Background(), session, authority.Ending{At: w.Now(), Remember: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if r := w.token("web", refreshForm(token)); r.text("error") != "invalid_grant" {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.token("web2", redeem(late)); r.text("error") != "invalid_grant" {
		t.Fatalf("a code of a person who has signed out: %d %v", r.status, r.body)
	}

	// With offline_access it does not depend on the session.
	w = newWorld(t)
	token = w.signIn("web", "openid read offline_access").text("refresh_token")
	w.Pass(natural + time.Hour)
	if r := w.token("web", refreshForm(token)); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

// A disk or a database that hangs makes an honest client give up and come again.
// Promise 3: its grant does not end, however long that took.
func TestSlowRefreshIsNoReuse(t *testing.T) {
	const long = 11 * time.Second // longer than the grace period
	start := func(t *testing.T) (*world, string) {
		w := newWorld(t)
		return w, w.signIn("web", "openid read offline_access").text("refresh_token")
	}
	same := func(t *testing.T, w *world, first, retry reply) {
		t.Helper()
		if first.status != 200 || retry.status != 200 || first.text("refresh_token") != retry.text("refresh_token") {
			t.Fatalf("first %d %s, retry %d %s %s", first.status, first.text("error"), retry.status, retry.text("error"), retry.text("error_description"))
		}
		if w.count(authority.EventRefreshReused) != 0 {
			t.Fatal("an honest retry counts as reuse")
		}
	}
	t.Run("the journal hangs, and the retry comes afterwards", func(t *testing.T) {
		w, old := start(t)
		w.justBefore(nodetest.Record, func() { w.Pass(long) })
		first := w.token("web", refreshForm(old))
		same(t, w, first, w.token("web", refreshForm(old)))
	})
	for _, where := range []string{nodetest.Record, "RotateRefresh"} {
		t.Run(where+" hangs, and the retry comes meanwhile", func(t *testing.T) {
			w, old := start(t)
			var retry reply
			came, answered, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			w.justBefore(where, func() {
				w.Pass(long)
				w.justBefore(where, func() { close(came); <-answered }) // it has read the grant as it was
				go func() {
					defer close(done)
					retry = w.token("web", refreshForm(old))
				}()
				<-came
			})
			first := w.token("web", refreshForm(old))
			close(answered)
			<-done
			same(t, w, first, retry)
		})
	}
}

func TestTwoGenerationsOldIsReuseAtOnce(t *testing.T) {
	w := newWorld(t)
	old := w.signIn("web", "openid read offline_access").text("refresh_token")
	second := w.token("web", refreshForm(old)).text("refresh_token")
	third := w.token("web", refreshForm(second)).text("refresh_token")
	if r := w.token("web", refreshForm(old)); r.text("error") != "invalid_grant" {
		t.Fatalf("%v", r.body)
	}
	if r := w.token("web", refreshForm(third)); r.text("error") != "invalid_grant" {
		t.Fatalf("the grant lives on: %v", r.body)
	}
}

func TestSameSecondRotations(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read offline_access").text("refresh_token")
	for i := range 20 { // the clock does not move: Keycloak #50999
		r := w.token("web", refreshForm(token))
		if r.status != 200 || r.text("refresh_token") == token {
			t.Fatalf("rotation %d: %d %v", i, r.status, r.body)
		}
		token = r.text("refresh_token")
	}
}

func TestRefusedRefreshChangesNothing(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read offline_access").text("refresh_token")
	w.token("web", with(refreshForm(token), "scope", "read write email"))
	w.token("web2", refreshForm(token))
	if r := w.token("web", refreshForm(token)); r.status != 200 {
		t.Fatalf("%v", r.body)
	}
}

// A token that was refreshed on a node that had not heard of an epoch yet is
// newer than the epoch, and dies with it all the same.
func TestEpochEndsWhatWasRefreshedAfterIt(t *testing.T) {
	w := newWorld(t)
	first := w.signIn("web", "openid read offline_access")
	w.Pass(2 * time.Second)
	epoch := w.Now()
	w.Pass(time.Second)
	second := w.token("web", refreshForm(first.text("refresh_token"))) // the other node refreshes after the epoch
	w.revokeAt(authority.EpochUser, "ada-id", epoch)
	if r := w.introspect("api", second.text("access_token")); r.body["active"] != false {
		t.Fatalf("the access token lives on: %v", r.body)
	}
	if r := w.token("web", refreshForm(second.text("refresh_token"))); r.text("error") != "invalid_grant" {
		t.Fatalf("the grant lives on: %v", r.body)
	}
}

// from makes a grant come from a session.
func from(session authority.ID, signedIn time.Time) func(*authority.Grant) {
	return func(g *authority.Grant) {
		g.AuthTime, g.SessionID = signedIn, session
		if !g.Evidence.IsZero() {
			g.Evidence = authority.SessionEvidence(session)
		}
	}
}

// A session that is older than an epoch gives a grant after it, on a node that
// had not heard of it: the grant is as old as the sign-in.
func TestEpochEndsWhatAnOldSessionGaveAfterIt(t *testing.T) {
	for _, scope := range []string{"openid read", "openid read offline_access"} {
		w := newWorld(t)
		signedIn := w.Now()
		session := authority.NewID(signedIn)
		w.Pass(10 * time.Second)
		epoch := w.Now()
		w.Pass(time.Second)
		_, code := w.approve("web", scope, from(session, signedIn))
		r := w.token("web", redeem(code))
		w.revokeAt(authority.EpochUser, "ada-id", epoch)
		if r := w.introspect("api", r.text("access_token")); r.body["active"] != false {
			t.Errorf("%s: the access token lives on: %v", scope, r.body)
		}
		if r := w.token("web", refreshForm(r.text("refresh_token"))); r.text("error") != "invalid_grant" {
			t.Errorf("%s: the grant lives on: %v", scope, r.body)
		}
	}
}

// A person who is still signed in may grant again to a client whose older grants were ended.
func TestClientEpochLeavesTheSignInAlone(t *testing.T) {
	w := newWorld(t)
	signedIn := w.Now()
	w.Pass(time.Second)
	w.revoke(authority.EpochClient, "web")
	w.Pass(time.Second)
	_, code := w.approve("web", "openid read", from(authority.NewID(signedIn), signedIn))
	r := w.token("web", redeem(code))
	if r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.introspect("api", r.text("access_token")); r.body["active"] != true {
		t.Fatalf("%v", r.body)
	}
}

// A consent page that was open while an epoch passed gives nothing.
func TestGrantIsAsOldAsItsID(t *testing.T) {
	w := newWorld(t)
	shown := w.Now()
	w.Pass(time.Second)
	w.revoke(authority.EpochClient, "web")
	w.Pass(time.Second)
	code := ""
	g, _ := w.approve("web", "openid read", func(g *authority.Grant) {
		g.ID = authority.NewID(shown)
		c := authority.NewAuthorizationCode(g.ID)
		g.Code.Hash, code = c.Hash(), c.Reveal()
	})
	if r := w.token("web", redeem(code)); r.text("error") != "invalid_grant" {
		t.Fatalf("%s: %d %v", g.ID, r.status, r.body)
	}
}

// 70: a resource that was taken from the client is gone from its grants.
func TestResourceTakenFromTheClientIsGoneAtRefresh(t *testing.T) {
	w := newWorld(t)
	token := w.signIn("web", "openid read offline_access").text("refresh_token")
	c := w.Static.Clients["web"]
	c.Resources = []string{otherAPI}
	w.Static.Clients["web"] = c
	w.Declare()
	r := w.token("web", refreshForm(token))
	if r.status != 200 || r.text("scope") != "openid offline_access" {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.introspect("api", r.text("access_token")); r.body["active"] != false {
		t.Fatalf("the token is good at the resource: %v", r.body)
	}
}

// A spent code out of a browser's history is not enough to sign somebody out.
func TestSpentCodeWithoutItsVerifierEndsNothing(t *testing.T) {
	w := newWorld(t)
	_, code := w.approve("web", "openid read offline_access")
	first := w.token("web", redeem(code))
	w.token("web", with(redeem(code), "code_verifier", strings.Repeat("a", 43)))
	if r := w.token("web", refreshForm(first.text("refresh_token"))); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

// Failing storage is 503 and changes nothing: docs/security/threats.md E 69. The
// retry comes long after the grace period, so that nothing forgives it: a
// failure at any step must leave the code or the refresh token as it was.
func TestStorageFailure(t *testing.T) {
	for _, what := range []string{nodetest.Record, "RedeemCode", "Grant", "Session", "Object"} {
		t.Run("redeeming a code, "+what+" fails", func(t *testing.T) {
			w := withStoredAda(t)
			_, code := w.approve("web", "openid read")
			w.Fail(what, errDown)
			wantUnavailable(t, w.token("web", redeem(code)))
			w.Fail(what, nil)
			w.Pass(30 * time.Second)
			if r := w.token("web", redeem(code)); r.status != 200 {
				t.Fatalf("afterwards: %d %v", r.status, r.body)
			}
		})
	}
	for _, what := range []string{nodetest.Record, "RotateRefresh", "Grant", "Session", "Object"} {
		t.Run("refreshing, "+what+" fails", func(t *testing.T) {
			w := withStoredAda(t)
			token := w.signIn("web", "openid read").text("refresh_token")
			w.Fail(what, errDown)
			wantUnavailable(t, w.token("web", refreshForm(token)))
			w.Fail(what, nil)
			w.Pass(30 * time.Second)
			if r := w.token("web", refreshForm(token)); r.status != 200 {
				t.Fatalf("a retry: %d %v", r.status, r.body)
			}
		})
	}
	t.Run("ending a grant on reuse fails", func(t *testing.T) {
		w := newWorld(t)
		old := w.signIn("web", "openid read offline_access").text("refresh_token")
		w.token("web", refreshForm(old))
		w.Pass(time.Minute)
		w.Fail("EndGrant", errDown)
		wantUnavailable(t, w.token("web", refreshForm(old)))
		w.Fail("EndGrant", nil)
		if r := w.token("web", refreshForm(old)); r.text("error") != "invalid_grant" {
			t.Fatalf("%v", r.body)
		}
	})
	// Whatever ends something: if the journal fails then, the same request puts it on
	// record later, once.
	for row, tc := range map[string]struct {
		event authority.EventType
		again func(w *world) func() reply
	}{
		"the reuse of a refresh token": {authority.EventRefreshReused, func(w *world) func() reply {
			old := w.signIn("web", "openid read offline_access").text("refresh_token")
			w.token("web", refreshForm(old))
			w.Pass(time.Minute)
			return func() reply { return w.token("web", refreshForm(old)) }
		}},
		"the revocation of a refresh token": {authority.EventGrantEnded, func(w *world) func() reply {
			refresh := w.signIn("web", "openid read offline_access").text("refresh_token")
			return func() reply { return w.post(revokePath, "web", form("token", refresh)) }
		}},
		"the revocation of an access token": {authority.EventTokenRevoked, func(w *world) func() reply {
			access := w.signIn("web", "openid read offline_access").text("access_token")
			return func() reply { return w.post(revokePath, "web", form("token", access)) }
		}},
	} {
		t.Run(row+", journal fails", func(t *testing.T) {
			w := newWorld(t)
			again := tc.again(w)
			w.Fail(nodetest.Record, errDown)
			wantUnavailable(t, again())
			w.Fail(nodetest.Record, nil)
			for range 3 {
				w.Pass(time.Second)
				again()
			}
			if n := w.count(tc.event); n != 1 {
				t.Errorf("%d records of it", n)
			}
		})
	}
	t.Run("client credentials, journal fails", func(t *testing.T) {
		w := newWorld(t)
		w.Fail(nodetest.Record, errDown)
		wantUnavailable(t, w.token("service", form("grant_type", "client_credentials")))
	})
}

func wantUnavailable(t *testing.T, r reply) {
	t.Helper()
	if r.status != 503 || r.header.Get("Retry-After") == "" || r.text("error") != "temporarily_unavailable" {
		t.Fatalf("want 503 with Retry-After, got %d %v %v", r.status, r.header, r.body)
	}
	if r.text("access_token") != "" || r.text("refresh_token") != "" || strings.Contains(r.text("error_description"), "disk") {
		t.Fatalf("the answer says too much: %v", r.body)
	}
}
