package signin

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/password"
)

func TestWrongSignIn(t *testing.T) {
	wo := newWorld(t)
	var pages []string
	for row, who := range map[string][2]string{
		"a wrong password":       {"ada", "byron"},
		"J 103: an unknown user": {"eve", "lovelace"},
		"J 103: a disabled user": {"gone", "lovelace"},
		"a password too long":    {"ada", strings.Repeat("x", 2000)},
	} {
		b := wo.browser()
		got := b.SignIn(b.Get("/start"), who[0], who[1])
		if got.Code != http.StatusForbidden || got.Is() != "sign-in" || got.Attribute("password", "aria-invalid") != "true" || b.Cookies[sessionCookie] != "" {
			t.Errorf("%s: %d %s", row, got.Code, got.Is())
		}
		if got.Attribute("username", "value") != who[0] || strings.Contains(got.Body.String(), who[1]) {
			t.Errorf("%s: the page keeps the name and never the password", row)
		}
		page := got.Body.String()
		page = strings.ReplaceAll(page, got.Flow(), "")
		pages = append(pages, strings.ReplaceAll(page, `value="`+who[0]+`"`, ""))
	}
	for _, p := range pages {
		if p != pages[0] {
			t.Errorf("two refusals differ (docs/security/threats.md J 103):\n%s\n%s", pages[0], p)
		}
	}
	if wo.starts != 0 || len(wo.journal) != 0 || len(wo.tally) != len(pages) {
		t.Errorf("%d sessions, %d entries waited for, %d not waited for", wo.starts, len(wo.journal), len(wo.tally))
	}
	for _, e := range wo.tally {
		if e.Type != authority.EventSignInFailed || e.Reason == "" || e.Remote == "" {
			t.Errorf("journal entry %+v", e)
		}
		if strings.Contains(e.Reason+e.Target+e.Subject.ID, "eve") {
			t.Errorf("the journal holds a name that was typed: %+v", e)
		}
	}
}

func TestIncompleteSignIn(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	for _, who := range [][2]string{{"", "x"}, {"ada", ""}, {"  ", "x"}, {strings.Repeat("a", 300), "x"}, {"a\x1bb", "x"}, {"a\xff", "x"}} {
		if got := b.SignIn(b.Get("/start"), who[0], who[1]); got.Code != http.StatusBadRequest || got.Is() != "sign-in" {
			t.Errorf("%q: %d %s", who, got.Code, got.Is())
		}
	}
	if wo.tallies() != 0 {
		t.Error("an empty form counts as an attempt")
	}
}

// docs/security/threats.md E 76.
func TestSessionCookie(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		wo := newWorld(t)
		wo.Pages.Insecure = insecure
		name := map[bool]string{false: sessionCookie, true: "signalbox_session"}[insecure]
		b := wo.browser()
		got := b.Post("/login", url.Values{"flow": {b.Get("/start").Flow()}, "username": {"ada"}, "password": {"lovelace"}})
		if got.Code != http.StatusSeeOther || len(got.Set) != 2 {
			t.Fatalf("%d %v", got.Code, got.Set)
		}
		c := got.Set[0]
		if c.Name != name || c.Secure == insecure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
			t.Errorf("the cookie is %v", c)
		}
		session, err := wo.db.SessionByHash(t.Context(), sha256.Sum256([]byte(c.Value)))
		if err != nil || !session.ExpiresAt.Equal(wo.now.Add(12*time.Hour)) || !session.AuthTime.Equal(wo.now) || !slices.Equal(session.AMR, []string{"pwd"}) {
			t.Errorf("the session is %+v, %v", session, err)
		}

	}
}

// docs/security/threats.md E 76: whatever the browser brought, it leaves with a new value.
func TestSignInMakesANewSession(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	planted := strings.Repeat("A", 43)
	b.Cookies[sessionCookie] = planted
	b.SignIn(b.Get("/start"), "ada", "lovelace")
	first := b.Cookies[sessionCookie]
	b.SignIn(b.Get("/start"), "ada", "lovelace")
	second := b.Cookies[sessionCookie]
	if first == planted || second == first || wo.starts != 1 {
		t.Errorf("cookies %q, %q; %d sessions, want one that was renewed", first, second, wo.starts)
	}
}

// Two tabs sign in at once. There is one session all the same, so that one sign-out ends all.
func TestTwoTabsSignIn(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	b.SignIn(b.Get("/start"), "ada", "lovelace")
	one, two := b.Get("/start"), b.Get("/start")
	wo.renewing = func() { b.SignIn(two, "ada", "lovelace") }
	if got := b.SignIn(one, "ada", "lovelace"); !signedIn(got) {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	if wo.starts != 1 {
		t.Errorf("%d sessions, and the browser can end one of them", wo.starts)
	}
}

// docs/security/threats.md J 109 and the promises of the sealed state.
func TestSignInFormMustBeOurs(t *testing.T) {
	for row, tc := range map[string]struct {
		spoil func(wo *world, b *browsertest.Browser, form url.Values)
		send  func(*http.Request)
		want  int
	}{
		"untouched":                      {nil, nil, http.StatusSeeOther},
		"sent by another site":           {nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"sent by a neighbouring site":    {nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		"an old browser, another origin": {nil, oldBrowser("https://evil.example.com"), http.StatusForbidden},
		"an old browser, a null origin":  {nil, oldBrowser("null"), http.StatusForbidden},
		"an old browser, our own origin": {nil, oldBrowser(issuerURL), http.StatusSeeOther},
		"a proxy with another Host":      {nil, func(r *http.Request) { oldBrowser(issuerURL)(r); r.Host = "10.0.0.3:8443" }, http.StatusSeeOther},
		"begun in another browser": {func(wo *world, b *browsertest.Browser, f url.Values) {
			f.Set("flow", wo.browser().Get("/start").Flow())
		}, nil, http.StatusBadRequest},
		"without the browser's cookie":   {func(_ *world, b *browsertest.Browser, _ url.Values) { b.Cookies = map[string]string{} }, nil, http.StatusBadRequest},
		"with a cookie of another shape": {func(_ *world, b *browsertest.Browser, _ url.Values) { b.Cookies["__Host-signalbox_browser"] = "x" }, nil, http.StatusBadRequest},
		"without state":                  {func(_ *world, _ *browsertest.Browser, f url.Values) { f.Del("flow") }, nil, http.StatusBadRequest},
		"with state of one changed bit": {func(_ *world, _ *browsertest.Browser, f url.Values) {
			f.Set("flow", browsertest.Spoiled(f.Get("flow")))
		}, nil, http.StatusBadRequest},
		"with state cut off":            {func(_ *world, _ *browsertest.Browser, f url.Values) { f.Set("flow", f.Get("flow")[:80]) }, nil, http.StatusBadRequest},
		"with state that is not base64": {func(_ *world, _ *browsertest.Browser, f url.Values) { f.Set("flow", "…") }, nil, http.StatusBadRequest},
		"after nine minutes":            {func(wo *world, _ *browsertest.Browser, _ url.Values) { wo.pass(9 * time.Minute) }, nil, http.StatusSeeOther},
		"after ten minutes":             {func(wo *world, _ *browsertest.Browser, _ url.Values) { wo.pass(10 * time.Minute) }, nil, http.StatusBadRequest},
		"with the state of another page": {func(wo *world, b *browsertest.Browser, f url.Values) {
			seal := func(w http.ResponseWriter, r *http.Request) {
				flow, err := wo.Pages.Seal(w, r, "consent", state{Step: first})
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write([]byte(`<input name="flow" value="` + flow + `">`))
			}
			wo.mux.HandleFunc("/other", seal)
			f.Set("flow", b.Get("/other").Flow())
		}, nil, http.StatusBadRequest},
		"with a field twice":   {func(_ *world, _ *browsertest.Browser, f url.Values) { f.Add("username", "bob") }, nil, http.StatusBadRequest},
		"with a query as well": {func(_ *world, _ *browsertest.Browser, f url.Values) { f.Set("target", "/login?x=y") }, nil, http.StatusBadRequest},
	} {
		wo := newWorld(t)
		b := wo.browser()
		form := url.Values{"flow": {b.Get("/start").Flow()}, "username": {"ada"}, "password": {"lovelace"}}
		if tc.spoil != nil {
			tc.spoil(wo, b, form)
		}
		before := wo.starts
		if tc.send == nil {
			tc.send = func(*http.Request) {}
		}
		target := "/login"
		if form.Has("target") {
			target = form.Get("target")
		}
		got := b.Do(http.MethodPost, target, form, tc.send)
		if got.Code != tc.want {
			t.Errorf("%s: %d; want %d: %s", row, got.Code, tc.want, got.Body)
		}
		if tc.want != http.StatusSeeOther && (wo.starts != before || len(got.Set) != 0 || got.Location() != "") {
			t.Errorf("%s: something came of it: %v", row, got.Set)
		}
	}
}

func TestStorageFailureAtSignIn(t *testing.T) {
	for _, method := range []string{"ObjectByName", "StartSession"} {
		wo := newWorld(t)
		b := wo.browser()
		page := b.Get("/start")
		wo.broken[method] = true
		name := map[string]string{"ObjectByName": "eve", "StartSession": "ada"}[method] // ada is in the file
		got := b.SignIn(page, name, "lovelace")
		if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || b.Cookies[sessionCookie] != "" {
			t.Errorf("%s fails: %d, cookies %v", method, got.Code, b.Cookies)
		}
		if wo.tallies() != 0 {
			t.Errorf("%s fails: the attempt counts against the person", method)
		}
	}
	wo := newWorld(t)
	b := wo.browser()
	page := b.Get("/start")
	wo.noDisk = true
	if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusServiceUnavailable || b.Cookies[sessionCookie] != "" {
		t.Errorf("the journal fails: %d, cookies %v", got.Code, b.Cookies)
	}

	// A sign-in that fails leaves an earlier one as it was.
	wo = newWorld(t)
	b = wo.browser()
	if got := b.SignIn(b.Get("/start"), "ada", "lovelace"); !signedIn(got) {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	page = b.Get("/start")
	wo.noDisk = true
	if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusServiceUnavailable {
		t.Errorf("the journal fails: %d", got.Code)
	}
	if got := b.Get("/done"); !signedIn(got) {
		t.Errorf("afterwards nobody can end the session, since nobody has its cookie: %d %s", got.Code, got.Body)
	}
}

func TestManyWrongPasswordsSlowDown(t *testing.T) {
	wo := newWorld(t)
	attacker := wo.browser()
	page := attacker.Get("/start")
	for range freeTries {
		if got := attacker.SignIn(page, "ada", "guess"); got.Code != http.StatusForbidden {
			t.Fatalf("%d", got.Code)
		}
	}
	got := attacker.SignIn(page, "ADA ", "lovelace")
	if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" || got.Is() != "sign-in" || got.Attribute("password", "aria-invalid") != "" {
		t.Fatalf("J 104: the sixth try, spelled differently: %d %s", got.Code, got.Body)
	}
	victim := wo.browser()
	victim.IP = "198.51.100.4"
	if got := victim.SignIn(victim.Get("/start"), "ada", "lovelace"); !signedIn(got) {
		t.Errorf("J 104: a stranger has locked ada out: %d", got.Code)
	}
	wo.pass(time.Second)
	if got := attacker.SignIn(page, "ada", "lovelace"); !signedIn(got) {
		t.Errorf("after the wait: %d", got.Code)
	}
}

// A hash that was made elsewhere may cost more than ours. What a check costs is
// seen by the memory that it fills.
func TestAnUnknownUserCostsWhatTheDearestDeclaredUserCosts(t *testing.T) {
	wo := newWorld(t)
	dear := strings.Replace(phc("x"), "m=8,", "m=65536,", 1)
	wo.declared.Users["u-dear"] = authority.User{ID: "u-dear", Username: "dear", PasswordHash: dear}
	wo.declared.Users["u-none"] = authority.User{ID: "u-none", Username: "none", PasswordHash: "unusable"}
	wo.declare()
	for _, name := range []string{"dear", "nobody", "none"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, reason, err := wo.authenticate(t.Context(), password.Caller{}, name, "guess")
		runtime.ReadMemStats(&after)
		if filled := after.TotalAlloc - before.TotalAlloc; err != nil || reason == "" || filled < 64<<20 {
			t.Errorf("%s: %q, %v, %d MiB", name, reason, err, filled>>20)
		}
	}
}

func oldBrowser(origin string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", origin)
	}
}

func TestWhereASignInLeads(t *testing.T) {
	for row, tc := range map[string]struct {
		subject, username, password string
		want                        string
	}{
		"nobody is asked for by name":   {"", "ada", "lovelace", "ada"},
		"the person who is asked for":   {"u-ada", "ada", "lovelace", "ada"},
		"another than who is asked for": {"u-ada", "bob", "builder", "no session"},
	} {
		wo := newWorld(t)
		wo.asks.Subject = tc.subject
		b := wo.browser()
		got := b.Post("/login", url.Values{"flow": {b.Get("/start").Flow()}, "username": {tc.username}, "password": {tc.password}})
		if tc.want == "no session" {
			if got.Code != http.StatusSeeOther || got.Location() != "/done?other=yes&state=a%26b" || wo.starts != 0 || got.Log.Error != "login_required" {
				t.Errorf("%s: %d %q, %d sessions, the log has %+v", row, got.Code, got.Location(), wo.starts, got.Log)
			}
			if len(wo.journal) != 1 || wo.journal[0].Type != authority.EventSignInFailed || wo.journal[0].Subject.ID != "u-bob" || wo.journal[0].ClientID != "web" {
				t.Errorf("%s: the journal has %+v", row, wo.journal)
			}
			continue
		}
		if got.Code != http.StatusSeeOther || got.Location() != "/done?state=a%26b" {
			t.Errorf("%s: %d %q", row, got.Code, got.Location())
		}
		if page := b.Get(got.Location()); !strings.HasPrefix(page.Body.String(), tc.want+" ") {
			t.Errorf("%s: signed in as %s", row, page.Body)
		}
	}
}

// The number on the page leads to the line of the log that says why.
func TestEveryRefusalIsInTheLog(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	page := b.Get("/start")
	for _, tc := range []struct{ row, username, password, cause string }{
		{"nothing typed", "", "", "Enter your username"},
		{"an unknown user", "eve", "x", "unknown user"},
		{"a wrong password", "ada", "x", "wrong password"},
		{"a disabled user", "gone", "lovelace", "the account is disabled"},
	} {
		got := b.SignIn(page, tc.username, tc.password)
		if got.Log.Error != "access_denied" || got.Log.Cause == nil || !strings.Contains(got.Log.Cause.Error(), tc.cause) || got.Log.ClientID != "web" {
			t.Errorf("%s: the log has %+v", tc.row, got.Log)
		}
		if !strings.Contains(got.Body.String(), "req-1") {
			t.Errorf("%s: the page has no number", tc.row)
		}
	}
	if got := b.SignIn(page, "ada", "x"); got.Log.Cause == nil || !strings.Contains(got.Log.Cause.Error(), "wrong") {
		t.Errorf("%+v", got.Log)
	}
}

// docs/security/threats.md J 103: the database is asked as often for an unknown name as for a known one.
func TestEveryRefusalAsksTheDatabaseOnce(t *testing.T) {
	wo := newWorld(t)
	now := wo.clock()
	stored := authority.User{ID: "u-eve", Username: "eve", PasswordHash: phc("x"), CreatedAt: now, UpdatedAt: now}
	if err := authority.Users(wo.db).Create(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nobody", "ada", "Ada", "gone", "eve"} {
		b := wo.browser()
		page := b.Get("/start")
		wo.lookups = 0
		if got := b.SignIn(page, name, "guess"); got.Code != http.StatusForbidden || wo.lookups != 1 {
			t.Errorf("%s: %d after %d look-ups", name, got.Code, wo.lookups)
		}
	}
}
