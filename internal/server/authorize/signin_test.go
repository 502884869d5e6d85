package authorize

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
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
		got := b.signIn(b.get(asked()), who[0], who[1])
		if got.Code != http.StatusForbidden || got.is() != "sign-in" || got.attribute("password", "aria-invalid") != "true" || b.cookies["__Host-signalbox_session"] != "" {
			t.Errorf("%s: %d %s", row, got.Code, got.is())
		}
		if got.attribute("username", "value") != who[0] || strings.Contains(got.Body.String(), who[1]) {
			t.Errorf("%s: the page keeps the name and never the password", row)
		}
		page := got.Body.String()
		page = strings.ReplaceAll(page, got.flow(), "")
		pages = append(pages, strings.ReplaceAll(page, `value="`+who[0]+`"`, ""))
	}
	for _, p := range pages {
		if p != pages[0] {
			t.Errorf("two refusals differ (threats.md J 103):\n%s\n%s", pages[0], p)
		}
	}
	if wo.store.writes != 0 || len(wo.journal) != 0 || len(wo.later) != len(pages) {
		t.Errorf("%d writes, %d entries waited for, %d not waited for", wo.store.writes, len(wo.journal), len(wo.later))
	}
	for _, e := range wo.later {
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
		if got := b.signIn(b.get(asked()), who[0], who[1]); got.Code != http.StatusBadRequest || got.is() != "sign-in" {
			t.Errorf("%q: %d %s", who, got.Code, got.is())
		}
	}
	if len(wo.attempts.tallies) != 0 {
		t.Error("an empty form counts as an attempt")
	}
}

// threats.md E 76.
func TestSessionCookie(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		wo := newWorld(t)
		wo.Insecure = insecure
		name := map[bool]string{false: "__Host-signalbox_session", true: "signalbox_session"}[insecure]
		b := wo.browser()
		got := b.post("/login", url.Values{"flow": {b.get(asked()).flow()}, "username": {"ada"}, "password": {"lovelace"}})
		if got.Code != http.StatusSeeOther || len(got.cookies) != 1 {
			t.Fatalf("%d %v", got.Code, got.cookies)
		}
		c := got.cookies[0]
		if c.Name != name || c.Secure == insecure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
			t.Errorf("the cookie is %v", c)
		}
		for hash, s := range wo.store.sessions {
			if s.Hash != hash || strings.Contains(string(hash[:]), c.Value) || !s.ExpiresAt.Equal(wo.now.Add(12*time.Hour)) {
				t.Errorf("the session is %+v", s)
			}
		}
	}
}

// threats.md E 76: whatever the browser brought, it leaves with a new value.
func TestSignInMakesANewSession(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	planted := strings.Repeat("A", 43)
	b.cookies["__Host-signalbox_session"] = planted
	b.signIn(b.get(asked()), "ada", "lovelace")
	first := b.cookies["__Host-signalbox_session"]
	b.signIn(b.get(asked("prompt", "login")), "ada", "lovelace")
	second := b.cookies["__Host-signalbox_session"]
	if first == planted || second == first || len(wo.store.sessions) != 1 {
		t.Errorf("cookies %q, %q; %d sessions", first, second, len(wo.store.sessions))
	}
}

// A cookie that was stolen is worth nothing once its owner signs in anew. The
// applications stay signed in, and one sign-out ends all.
func TestAFreshSignInTakesTheEarlierSessionOver(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	rests := wo.grantOf(b.allow(b.get(asked())))
	stays := wo.grantOf(b.allow(b.get(asked("scope", "openid offline_access"))))
	wo.redeem(rests)
	thief := wo.browser()
	thief.cookies["__Host-signalbox_session"] = b.cookies["__Host-signalbox_session"]
	wo.pass(time.Minute)
	b.signIn(b.get(asked("prompt", "login")), "ada", "lovelace")
	if got := thief.get(asked()); got.is() != "sign-in" {
		t.Errorf("the earlier cookie after a fresh sign-in: %d %s", got.Code, got.is())
	}
	if len(wo.store.sessions) != 1 || wo.store.grants[rests.ID].State == authority.GrantEnded {
		t.Errorf("%d sessions, the grant that rests on it is %s", len(wo.store.sessions), wo.store.grants[rests.ID].State)
	}
	for _, s := range wo.store.sessions {
		if s.ID != rests.SessionID || !s.AuthTime.Equal(wo.now) || !s.ExpiresAt.Equal(wo.now.Add(sessionTTL)) {
			t.Errorf("the session is %+v", s)
		}
	}
	var signedIn []authority.ID
	for _, e := range wo.journal {
		if e.Type == authority.EventSignedIn {
			signedIn = append(signedIn, e.SessionID)
		}
	}
	if !slices.Equal(signedIn, []authority.ID{rests.SessionID, rests.SessionID}) {
		t.Errorf("the journal has sign-ins of %v", signedIn)
	}
	b.signOut(b.get("/logout"))
	if len(wo.store.sessions) != 0 || wo.store.grants[rests.ID].State != authority.GrantEnded || wo.store.grants[stays.ID].State == authority.GrantEnded {
		t.Errorf("after the sign-out: %d sessions, the grant is %s, the offline grant %s", len(wo.store.sessions), wo.store.grants[rests.ID].State, wo.store.grants[stays.ID].State)
	}
}

// A sign-out in another tab, between the look at the session and its renewal.
func TestAFreshSignInAfterTheSessionEnded(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.get(asked("prompt", "login"))
	wo.store.hook = func(method string) {
		if method == "RenewSession" {
			clear(wo.store.sessions)
		}
	}
	b.signIn(page, "ada", "lovelace")
	if got := b.get(asked()); got.is() != "allow" || len(wo.store.sessions) != 1 {
		t.Errorf("%d %s, %d sessions", got.Code, got.is(), len(wo.store.sessions))
	}
}

func TestAnotherPersonInTheSameBrowserEndsTheSession(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	ada := wo.grantOf(b.allow(b.get(asked())))
	stays := wo.grantOf(b.allow(b.get(asked("scope", "openid offline_access"))))
	page := b.signIn(b.get(asked("prompt", "login")), "bob", "builder")
	if page.is() != "allow" || !strings.Contains(page.Body.String(), "bob") {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	if len(wo.store.sessions) != 1 || wo.store.grants[ada.ID].State != authority.GrantEnded || wo.store.grants[stays.ID].State == authority.GrantEnded {
		t.Errorf("%d sessions, ada's grant is %s, her offline grant %s", len(wo.store.sessions), wo.store.grants[ada.ID].State, wo.store.grants[stays.ID].State)
	}
	if len(wo.took) != 2 {
		t.Errorf("this node's view took %v", wo.took)
	}
}

func TestSignInAsAnotherThanTheHint(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	got := b.signIn(b.get(asked("id_token_hint", "hint-web-for-u-bob")), "ada", "lovelace")
	if got.back().Get("error") != "login_required" || len(wo.store.sessions) != 0 {
		t.Errorf("%v, %d sessions", got.back(), len(wo.store.sessions))
	}
	if len(wo.journal) != 1 || wo.journal[0].Type != authority.EventSignInFailed || wo.journal[0].Subject.ID != "u-ada" || wo.journal[0].ClientID != "web" || wo.journal[0].Reason == "" {
		t.Errorf("a right password was confirmed, and the journal has %+v", wo.journal)
	}
	if got := b.signIn(b.get(asked("id_token_hint", "hint-web-for-u-bob")), "bob", "builder"); got.is() != "allow" {
		t.Errorf("the person of the hint: %d %s", got.Code, got.Body)
	}
}

// The hint is no way around the limit, nor around the journal.
func TestAHintDoesNotHelpGuessing(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	page := b.get(asked("id_token_hint", "hint-web-for-u-bob"))
	wo.noDisk = true
	if got := b.signIn(page, "ada", "lovelace"); got.Code != http.StatusServiceUnavailable || got.back() != nil {
		t.Errorf("the journal fails: %d %v", got.Code, got.back())
	}
	wo.noDisk = false
	for range freeTries - 1 {
		if got := b.signIn(page, "ada", "lovelace"); got.back().Get("error") != "login_required" {
			t.Fatalf("%d %v", got.Code, got.back())
		}
	}
	if got := b.signIn(page, "ada", "lovelace"); got.Code != http.StatusTooManyRequests || len(wo.journal) != freeTries-1 {
		t.Errorf("J 104: one more: %d %v, %d records", got.Code, got.back(), len(wo.journal))
	}
}

// threats.md J 109 and the promises of the sealed state.
func TestSignInFormMustBeOurs(t *testing.T) {
	for row, tc := range map[string]struct {
		spoil func(wo *world, b *browser, form url.Values)
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
		"begun in another browser":       {func(_ *world, b *browser, f url.Values) { f.Set("flow", b.world.browser().get(asked()).flow()) }, nil, http.StatusBadRequest},
		"without the browser's cookie":   {func(_ *world, b *browser, _ url.Values) { b.cookies = map[string]string{} }, nil, http.StatusBadRequest},
		"with a cookie of another shape": {func(_ *world, b *browser, _ url.Values) { b.cookies["__Host-signalbox_browser"] = "x" }, nil, http.StatusBadRequest},
		"without state":                  {func(_ *world, _ *browser, f url.Values) { f.Del("flow") }, nil, http.StatusBadRequest},
		"with state of one changed bit":  {func(_ *world, _ *browser, f url.Values) { f.Set("flow", flip(f.Get("flow"))) }, nil, http.StatusBadRequest},
		"with state cut off":             {func(_ *world, _ *browser, f url.Values) { f.Set("flow", f.Get("flow")[:80]) }, nil, http.StatusBadRequest},
		"with state that is not base64":  {func(_ *world, _ *browser, f url.Values) { f.Set("flow", "…") }, nil, http.StatusBadRequest},
		"after nine minutes":             {func(wo *world, _ *browser, _ url.Values) { wo.pass(9 * time.Minute) }, nil, http.StatusSeeOther},
		"after ten minutes":              {func(wo *world, _ *browser, _ url.Values) { wo.pass(10 * time.Minute) }, nil, http.StatusBadRequest},
		"of a client disabled since": {func(wo *world, _ *browser, _ url.Values) {
			wo.change("web", func(c *authority.Client) { c.Disabled = true })
		}, nil, http.StatusBadRequest},
		"of a redirect URI removed since": {func(wo *world, _ *browser, _ url.Values) {
			wo.change("web", func(c *authority.Client) { c.RedirectURIs = nil })
		}, nil, http.StatusBadRequest},
		"with the state of a sign-out page": {func(_ *world, b *browser, f url.Values) {
			other := b.world.signedIn()
			other.cookies["__Host-signalbox_browser"] = b.cookies["__Host-signalbox_browser"]
			f.Set("flow", other.get("/logout").flow())
		}, nil, http.StatusBadRequest},
		"with a field twice":   {func(_ *world, _ *browser, f url.Values) { f.Add("username", "bob") }, nil, http.StatusBadRequest},
		"with a query as well": {func(_ *world, _ *browser, f url.Values) { f.Set("target", "/login?x=y") }, nil, http.StatusBadRequest},
	} {
		wo := newWorld(t)
		b := wo.browser()
		form := url.Values{"flow": {b.get(asked()).flow()}, "username": {"ada"}, "password": {"lovelace"}}
		if tc.spoil != nil {
			tc.spoil(wo, b, form)
		}
		before := wo.store.writes
		if tc.send == nil {
			tc.send = func(*http.Request) {}
		}
		target := "/login"
		if form.Has("target") {
			target = form.Get("target")
		}
		got := b.do(http.MethodPost, target, form, tc.send)
		if got.Code != tc.want {
			t.Errorf("%s: %d; want %d: %s", row, got.Code, tc.want, got.Body)
		}
		if tc.want != http.StatusSeeOther && (wo.store.writes != before || len(got.cookies) != 0 || got.location() != "") {
			t.Errorf("%s: something came of it: %v", row, got.cookies)
		}
	}
}

func oldBrowser(origin string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", origin)
	}
}

func flip(s string) string {
	i := len(s) / 2
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func (wo *world) change(client string, how func(*authority.Client)) {
	wo.store.mu.Lock()
	defer wo.store.mu.Unlock()
	c := wo.store.clients[client]
	how(&c)
	wo.store.clients[client] = c
}

func TestStorageFailureAtSignIn(t *testing.T) {
	for _, method := range []string{"Client", "UserByName", "StartSession"} {
		wo := newWorld(t)
		b := wo.browser()
		page := b.get(asked())
		wo.store.broken[method] = true
		got := b.signIn(page, "ada", "lovelace")
		if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || b.cookies["__Host-signalbox_session"] != "" {
			t.Errorf("%s fails: %d, cookies %v", method, got.Code, b.cookies)
		}
		if len(wo.attempts.tallies) != 0 {
			t.Errorf("%s fails: the attempt counts against the person", method)
		}
	}
	wo := newWorld(t)
	b := wo.browser()
	page := b.get(asked())
	wo.noDisk = true
	if got := b.signIn(page, "ada", "lovelace"); got.Code != http.StatusServiceUnavailable || b.cookies["__Host-signalbox_session"] != "" {
		t.Errorf("the journal fails: %d, cookies %v", got.Code, b.cookies)
	}
}

func TestDeadAndDisabledSessionsVouchForNobody(t *testing.T) {
	for row, spoil := range map[string]func(*world, *browser){
		"the user was disabled": func(wo *world, _ *browser) {
			ada := wo.store.users["u-ada"]
			ada.Disabled = true
			wo.store.users["u-ada"] = ada
		},
		"the user was deleted": func(wo *world, _ *browser) { delete(wo.store.users, "u-ada") },
		"the epoch of the user": func(wo *world, _ *browser) {
			wo.dead = ends(authority.EpochUser, wo.now)
		},
		"the session was ended": func(wo *world, _ *browser) { wo.dead = ends(authority.RevokeSession, time.Time{}) },
		"the cookie cut off":    func(_ *world, b *browser) { b.cookies["__Host-signalbox_session"] = "short" },
		"the cookie in another case": func(_ *world, b *browser) {
			b.cookies["__Host-signalbox_session"] = strings.ToLower(b.cookies["__Host-signalbox_session"])
		},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		consent := b.get(asked())
		spoil(wo, b)
		if got := b.get(asked()); got.is() != "sign-in" {
			t.Errorf("%s: GET /authorize shows %s", row, got.is())
		}
		got := b.allow(consent)
		if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.location(), "/authorize?") || len(wo.store.grants) != 0 {
			t.Errorf("%s: POST /consent gives %d %q", row, got.Code, got.location())
		}
	}
}

func TestManyWrongPasswordsSlowDown(t *testing.T) {
	wo := newWorld(t)
	attacker := wo.browser()
	page := attacker.get(asked())
	for range freeTries {
		if got := attacker.signIn(page, "ada", "guess"); got.Code != http.StatusForbidden {
			t.Fatalf("%d", got.Code)
		}
	}
	got := attacker.signIn(page, "ADA ", "lovelace")
	if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" || got.is() != "sign-in" || got.attribute("password", "aria-invalid") != "" {
		t.Fatalf("J 104: the sixth try, spelled differently: %d %s", got.Code, got.Body)
	}
	victim := wo.browser()
	victim.ip = "198.51.100.4"
	if got := victim.signIn(victim.get(asked()), "ada", "lovelace"); got.is() != "allow" {
		t.Errorf("J 104: a stranger has locked ada out: %d", got.Code)
	}
	wo.pass(time.Second)
	if got := attacker.signIn(page, "ada", "lovelace"); got.is() != "allow" {
		t.Errorf("after the wait: %d", got.Code)
	}
}

// A hash that was made elsewhere may cost more than ours. What a check costs is
// seen by the memory that it fills.
func TestAnUnknownUserCostsWhatTheDearestDeclaredUserCosts(t *testing.T) {
	wo := newWorld(t)
	dear := strings.Replace(phc("x"), "m=8,", "m=65536,", 1)
	err := wo.Directory.Declare(t.Context(), authority.Declared{Users: map[string]authority.User{
		"u-dear": {ID: "u-dear", Username: "dear", PasswordHash: dear},
		"u-none": {ID: "u-none", Username: "none", PasswordHash: "unusable"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dear", "nobody", "none"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, reason, err := wo.authenticate(httptest.NewRequest(http.MethodPost, "/login", nil), name, "guess")
		runtime.ReadMemStats(&after)
		if filled := after.TotalAlloc - before.TotalAlloc; err != nil || reason == "" || filled < 64<<20 {
			t.Errorf("%s: %q, %v, %d MiB", name, reason, err, filled>>20)
		}
	}
}

// ends says that a revocation of a kind ends whatever depends on one.
func ends(kind authority.RevocationKind, at time.Time) func([]authority.Link) bool {
	return func(links []authority.Link) bool {
		return slices.ContainsFunc(links, func(l authority.Link) bool { return l.Kind == kind && !l.Born.After(at) })
	}
}
