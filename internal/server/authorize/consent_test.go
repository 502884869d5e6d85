package authorize_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func TestDeny(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	got := b.decide(b.Get(asked()), "deny")
	back := got.Back()
	if back.Get("error") != "access_denied" || back.Get("state") != "xyz" || back.Get("iss") != issuerURL || len(wo.Grants()) != 0 {
		t.Errorf("%v, %d grants", back, len(wo.Grants()))
	}
	if last := wo.journal()[len(wo.journal())-1]; last.Type != authority.EventConsentDenied || last.ClientID != "web" || !last.GrantID.IsZero() || last.Reason != "" {
		t.Errorf("the journal ends with %+v", last)
	}
	if got := b.decide(b.Get(asked()), "perhaps"); got.Code != http.StatusBadRequest || len(wo.Grants()) != 0 {
		t.Errorf("neither: %d", got.Code)
	}
}

// The last answer holds, also if the code has been redeemed in between.
func TestDenyAfterAllow(t *testing.T) {
	for _, redeemed := range []bool{false, true} {
		wo := newWorld(t)
		b := wo.signedIn()
		page := b.Get(asked())
		g := wo.grantOf(b.allow(page))
		if redeemed {
			wo.redeem(g)
		}
		wo.Fail("EndGrant", errStorage)
		records := len(wo.journal())
		if got := b.decide(page, "deny"); got.Code != http.StatusServiceUnavailable || len(wo.journal()) != records {
			t.Errorf("redeemed %v, EndGrant fails: %d, %d records; a refusal that does not hold was recorded", redeemed, got.Code, len(wo.journal())-records)
		}
		wo.Fail("EndGrant", nil)
		if got := b.decide(page, "deny"); got.Back().Get("error") != "access_denied" {
			t.Errorf("redeemed %v: %d %v", redeemed, got.Code, got.Back())
		}
		if state := wo.state(g); state != authority.GrantEnded || len(wo.Ended()) != 1 || wo.Ended()[0].Key != g.ID.String() {
			t.Errorf("redeemed %v: the grant is %s, this node's view took %v", redeemed, state, wo.Ended())
		}
		if last := wo.journal()[len(wo.journal())-1]; last.Type != authority.EventConsentDenied || last.GrantID != g.ID || last.Reason != "denied after it was allowed" {
			t.Errorf("redeemed %v: the journal ends with %+v", redeemed, last)
		}
		if got := b.decide(page, "deny"); got.Back().Get("error") != "access_denied" || len(wo.Ended()) != 1 {
			t.Errorf("redeemed %v: denied twice: %v, took %v", redeemed, got.Back(), wo.Ended())
		}
	}
}

func TestConsentFormMustBeOurs(t *testing.T) {
	for row, tc := range map[string]struct {
		spoil func(wo *world, b *visitor, form url.Values)
		send  func(*http.Request)
		want  int
	}{
		"untouched":                       {nil, nil, http.StatusSeeOther},
		"J 109: sent by another site":     {nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"J 109: begun in another browser": {func(_ *world, b *visitor, f url.Values) { f.Set("flow", b.world.signedIn().Get(asked()).Flow()) }, nil, http.StatusBadRequest},
		"A 22: state of one changed bit":  {func(_ *world, _ *visitor, f url.Values) { f.Set("flow", browsertest.Spoiled(f.Get("flow"))) }, nil, http.StatusBadRequest},
		"A 22: state of the sign-in page": {func(_ *world, b *visitor, f url.Values) { f.Set("flow", b.Get(asked("prompt", "login")).Flow()) }, nil, http.StatusBadRequest},
		"A 22: state of a sign-out page":  {func(_ *world, b *visitor, f url.Values) { f.Set("flow", b.Get("/logout").Flow()) }, nil, http.StatusBadRequest},
		"after ten minutes":               {func(wo *world, _ *visitor, _ url.Values) { wo.Pass(10 * time.Minute) }, nil, http.StatusBadRequest},
		"A 22: the client was disabled": {func(wo *world, _ *visitor, _ url.Values) {
			wo.change("web", func(c *authority.Client) { c.Disabled = true })
		}, nil, http.StatusBadRequest},
		"A 22: the redirect URI was removed": {func(wo *world, _ *visitor, _ url.Values) {
			wo.change("web", func(c *authority.Client) {
				c.RedirectURIs = []authority.RedirectURI{uri("https://app.example.com/other")}
			})
		}, nil, http.StatusBadRequest},
		"A 14: a second answer in the URL":       {func(_ *world, _ *visitor, f url.Values) { f.Set("target", "/consent?decision=allow") }, nil, http.StatusBadRequest},
		"A 13: two answers":                      {func(_ *world, _ *visitor, f url.Values) { f.Add("decision", "deny") }, nil, http.StatusBadRequest},
		"a parameter of the request in the form": {func(_ *world, _ *visitor, f url.Values) { f.Set("scope", "openid orders:write") }, nil, http.StatusSeeOther},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		form := url.Values{"flow": {b.Get(asked()).Flow()}, "decision": {"allow"}}
		if tc.spoil != nil {
			tc.spoil(wo, b, form)
		}
		if tc.send == nil {
			tc.send = func(*http.Request) {}
		}
		target := "/consent"
		if form.Has("target") {
			target = form.Get("target")
		}
		got := b.Do(http.MethodPost, target, form, tc.send)
		if got.Code != tc.want {
			t.Errorf("%s: %d; want %d: %s", row, got.Code, tc.want, got.Body)
		}
		if tc.want != http.StatusSeeOther && (len(wo.Grants()) != 0 || got.Location() != "") {
			t.Errorf("%s: something came of it", row)
		}
		if tc.want == http.StatusSeeOther {
			if g := wo.grantOf(got); g.Scopes.String() != "openid orders:read" {
				t.Errorf("%s: the grant has %q", row, g.Scopes)
			}
		}
	}
}

// docs/security/threats.md A 22: what the client may do is asked again at approval.
func TestScopeRemovedSince(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get(asked())
	wo.change("web", func(c *authority.Client) { c.Scopes = oauth.MustScopes("openid") })
	if got := b.allow(page); got.Back().Get("error") != "invalid_scope" || len(wo.Grants()) != 0 {
		t.Errorf("%d %v", got.Code, got.Back())
	}
}

// docs/security/threats.md A 22: what is given is what was shown, however the client changes
// in between.
func TestWhatIsAllowedIsWhatWasShown(t *testing.T) {
	const billing = "https://billing.example.com"
	for row, tc := range map[string]struct {
		ask    []string
		change func(*authority.Client)
		shown  string // on the page that is shown again; empty if the answer holds
	}{
		"nothing changed":     {[]string{"scope", ""}, func(*authority.Client) {}, ""},
		"what nobody can see": {[]string{"scope", ""}, func(c *authority.Client) { c.PostLogoutRedirectURIs = nil }, ""},
		"a scope more, of no resource of it": {[]string{"scope", ""}, func(c *authority.Client) {
			c.Scopes = oauth.MustScopes("openid", "orders:read", "orders:write", "bills:read")
		}, ""},
		"a scope less": {[]string{"scope", ""}, func(c *authority.Client) { c.Scopes = oauth.MustScopes("openid", "orders:read") }, "orders:read"},
		"a resource more": {[]string{"scope", ""}, func(c *authority.Client) {
			c.Resources = []string{api, billing}
			c.Scopes = oauth.MustScopes("orders:read", "orders:write", "bills:read")
		}, "bills:read"},
		"another redirect URI": {[]string{"scope", "orders:read", "redirect_uri", ""}, func(c *authority.Client) {
			c.RedirectURIs = []authority.RedirectURI{uri("https://elsewhere.example.net/cb")}
		}, "elsewhere.example.net"},
		"one more, and one sent": {nil, func(c *authority.Client) { c.RedirectURIs = append(c.RedirectURIs, uri("https://app.example.com/b")) }, "app.example.com"},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		page := b.Get(asked(tc.ask...))
		wo.change("web", tc.change)
		got := b.allow(page)
		if tc.shown == "" {
			wo.grantOf(got)
			continue
		}
		if !strings.HasPrefix(got.Location(), "/authorize?") || len(wo.Grants()) != 0 {
			t.Errorf("%s: %d %q, %d grants", row, got.Code, got.Header().Get("Location"), len(wo.Grants()))
			continue
		}
		again := b.Get(got.Location())
		if again.Is() != "allow" || !strings.Contains(again.Body.String(), tc.shown) {
			t.Errorf("%s: then %d %s without %q", row, again.Code, again.Is(), tc.shown)
			continue
		}
		wo.grantOf(b.allow(again))
		if got := b.decide(page, "deny"); got.Back().Get("error") != "access_denied" {
			t.Errorf("%s: a refusal of the first page: %d %v", row, got.Code, got.Back())
		}
	}
}

func TestConsentIsOfThePersonWhoSawThePage(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	adas := b.Get(asked())
	b.SignIn(b.Get(asked("prompt", "login")), "bob", "builder")
	got := b.allow(adas)
	if !strings.HasPrefix(got.Location(), "/authorize?") || len(wo.Grants()) != 0 {
		t.Fatalf("bob answered ada's page: %d %q", got.Code, got.Location())
	}
	if page := b.Get(got.Location()); page.Is() != "allow" || !strings.Contains(page.Body.String(), "bob") {
		t.Errorf("then: %d %s", page.Code, page.Is())
	}
}

// A double click on Allow: the browser shows what comes of the second.
func TestAnsweredTwice(t *testing.T) {
	for row, tc := range map[string]struct {
		redeemed bool
		change   []string
		want     string // what /authorize then shows
	}{
		"the first code is not redeemed yet":      {false, nil, "allow"},
		"the first code is redeemed":              {true, nil, "redirect"},
		"the client wants to hear it every time":  {true, []string{"prompt", "consent"}, "allow"},
		"anybody could pose as the client":        {true, []string{"client_id", "cli", "redirect_uri", "http://127.0.0.1:5000/cb"}, "allow"},
		"the request was for a sign-in of today":  {true, []string{"max_age", "60"}, "redirect"},
		"the request was for the person named so": {true, []string{"id_token_hint", "hint-web-for-u-ada"}, "redirect"},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		page := b.Get(asked(tc.change...))
		first := wo.grantOf(b.allow(page))
		if tc.redeemed {
			wo.redeem(first)
		}
		got := b.allow(page)
		if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.Location(), "/authorize?") || len(wo.Grants()) != 1 {
			t.Errorf("%s: the second answer: %d %q, %d grants", row, got.Code, got.Location(), len(wo.Grants()))
			continue
		}
		if then := b.Get(got.Location()); then.Is() != tc.want || (tc.want == "redirect" && !then.Back().Has("code")) {
			t.Errorf("%s: then %d %s %v", row, then.Code, then.Is(), then.Back())
		}
	}
}

func TestManyAnswersAtOnceMakeOneGrant(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get(asked())
	codes := make(chan string, 16)
	var wg sync.WaitGroup
	for range cap(codes) {
		wg.Go(func() { codes <- b.allow(page).Back().Get("code") })
	}
	wg.Wait()
	close(codes)
	given := 0
	for code := range codes {
		if code != "" {
			given++
		}
	}
	if given != 1 || len(wo.Grants()) != 1 {
		t.Errorf("%d codes, %d grants", given, len(wo.Grants()))
	}
}

// A sign-out that runs while the grant is being made ends it, in either order.
func TestSignOutWhileConsenting(t *testing.T) {
	for _, moment := range []string{"CreateGrant", "EndSession"} {
		wo := newWorld(t)
		b := wo.signedIn()
		page, signOut := b.Get(asked()), b.Get("/logout")
		var got browsertest.Page
		ran := false
		wo.Before(func(method string) {
			if method != moment || ran {
				return
			}
			ran = true
			if moment == "CreateGrant" {
				b.Post("/logout", url.Values{"flow": {signOut.Flow()}})
			} else {
				got = b.allow(page)
			}
		})
		if moment == "CreateGrant" {
			got = b.allow(page)
		} else {
			b.Post("/logout", url.Values{"flow": {signOut.Flow()}})
		}
		if !ran {
			t.Fatalf("%s was not reached", moment)
		}
		for _, g := range wo.Grants() {
			if g.State != authority.GrantEnded {
				t.Errorf("signed out during %s: the grant is %s", moment, g.State)
			}
		}
		if moment == "CreateGrant" && got.Back().Has("code") {
			t.Error("a code was given to who had signed out")
		}
	}
}

// An epoch ends grants without touching their rows: none of them may answer
// for the person any more.
func TestConsentDoesNotOutliveAnEpoch(t *testing.T) {
	for row, epochs := range map[string][]string{"of the client": {"web"}, "of the person": {"u-ada"}, "of another client": {"spa", "u-bob"}, "none": nil} {
		wo := newWorld(t)
		b := wo.signedIn()
		wo.redeem(wo.grantOf(b.allow(b.Get(asked()))))
		wo.Pass(time.Second)
		for _, key := range epochs {
			kind := authority.EpochClient
			if strings.HasPrefix(key, "u-") {
				kind = authority.EpochUser
			}
			wo.revoke(kind, key)
		}
		wo.Pass(time.Second)
		mustAsk := row == "of the client" || row == "of the person"
		if got := b.Get(asked("prompt", "none")).Back(); mustAsk == got.Has("code") {
			t.Errorf("an epoch %s: prompt=none gives %v", row, got)
		}
		page := b.Get(asked())
		if row == "of the person" && page.Is() == "sign-in" { // which it ends too
			page = b.SignIn(page, "ada", "lovelace")
		}
		if mustAsk != (page.Is() == "allow") {
			t.Errorf("an epoch %s: %d %s", row, page.Code, page.Is())
			continue
		}
		if !mustAsk {
			continue
		}
		wo.redeem(wo.grantOf(b.allow(page)))
		if again := b.Get(asked()); !again.Back().Has("code") {
			t.Errorf("an epoch %s: asked again after a new consent: %s", row, again.Is())
		}
	}
}

// Consent was for where the client could be sent then, and was.
// A node that is cut off may have missed an epoch: it does not answer for the person.
func TestANodeThatIsCutOffDoesNotKnowWhoHasConsented(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	wo.redeem(wo.grantOf(b.allow(b.Get(asked()))))
	wo.Wait(2 * time.Second) // it hears nothing
	for _, request := range []string{asked(), asked("prompt", "none")} {
		if got := b.Get(request); got.Code != http.StatusServiceUnavailable || got.Header().Get("Location") != "" {
			t.Errorf("%s: %d %s", request, got.Code, got.Header().Get("Location"))
		}
	}
	wo.Pass(0)
	if got := b.Get(asked()); !got.Back().Has("code") {
		t.Errorf("after it has heard: %d %s", got.Code, got.Is())
	}
}

func TestConsentDoesNotSurviveOtherRedirectURIs(t *testing.T) {
	set := func(uris ...string) func(*authority.Client) {
		return func(c *authority.Client) {
			c.RedirectURIs = nil
			for _, u := range uris {
				c.RedirectURIs = append(c.RedirectURIs, uri(u))
			}
		}
	}
	const other, loopback = "https://app.example.com/other", "http://127.0.0.1/cb"
	for row, tc := range map[string]struct {
		then  func(*authority.Client)
		again []string // the second request
		asked bool
	}{
		"nothing has changed":                    {func(*authority.Client) {}, nil, false},
		"the same ones in another order":         {set(other, callback, loopback), nil, false},
		"one was added":                          {set(callback, other, loopback, "https://evil.example.com/cb"), nil, true},
		"one was removed":                        {set(callback, loopback), nil, true},
		"one was replaced":                       {set(callback, other+"2", loopback), nil, true},
		"the answer goes to another of them":     {func(*authority.Client) {}, []string{"redirect_uri", other}, true},
		"an added one, which the answer goes to": {set(callback, other, loopback, "https://evil.example.com/cb"), []string{"redirect_uri", "https://evil.example.com/cb"}, true},
	} {
		wo := newWorld(t)
		wo.change("web", set(callback, other, loopback))
		b := wo.signedIn()
		wo.redeem(wo.grantOf(b.allow(b.Get(asked()))))
		wo.change("web", tc.then)
		got := b.Get(asked(tc.again...))
		if (got.Is() == "allow") != tc.asked || !tc.asked && got.Back().Get("code") == "" {
			t.Errorf("%s: asked again is %v; want %v", row, got.Is() == "allow", tc.asked)
		}
	}
	wo := newWorld(t)
	wo.change("web", set(callback, loopback, "http://127.0.0.1:8080/cb"))
	b := wo.signedIn()
	wo.redeem(wo.grantOf(b.allow(b.Get(asked("redirect_uri", "http://127.0.0.1:1234/cb")))))
	if got := b.Get(asked("redirect_uri", "http://127.0.0.1:4321/cb")); got.Back().Get("code") == "" {
		t.Errorf("another port of this computer: %s", got.Is())
	}
}
