package authorize_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

const bye = "https://app.example.com/bye"

func leaving(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return "/logout?" + v.Encode()
}

func (b *visitor) signOut(page browsertest.Page) browsertest.Page {
	b.T.Helper()
	return b.Post("/logout", url.Values{"flow": {page.Flow()}})
}

func TestSignOut(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	rests := wo.grantOf(b.allow(b.Get(asked())))
	wo.redeem(rests)
	stays := wo.grantOf(b.allow(b.Get(asked("scope", "openid offline_access"))))
	page := b.Get(leaving("id_token_hint", "hint-web-for-u-ada", "post_logout_redirect_uri", bye, "state", "s 1"))
	if page.Code != http.StatusOK || page.Is() != "sign-out" || len(wo.Sessions()) != 1 {
		t.Fatalf("J 110: a hint alone must not sign out: %d %s, %d sessions", page.Code, page.Is(), len(wo.Sessions()))
	}
	got := b.signOut(page)
	if got.Code != http.StatusSeeOther || got.Header().Get("Location") != bye+"?state=s+1" {
		t.Errorf("%d %q", got.Code, got.Header().Get("Location"))
	}
	if len(wo.Sessions()) != 0 || b.Cookies["__Host-signalbox_session"] != "" {
		t.Errorf("%d sessions, cookies %v", len(wo.Sessions()), b.Cookies)
	}
	c := got.Set[0]
	if c.Name != "__Host-signalbox_session" || c.MaxAge >= 0 || !c.Secure || c.Path != "/" {
		t.Errorf("the cookie is taken back by %v", c)
	}
	if wo.state(rests) != authority.GrantEnded || wo.state(stays) == authority.GrantEnded {
		t.Errorf("grants: %s, offline %s", wo.state(rests), wo.state(stays))
	}
	if len(wo.Ended()) != 2 || wo.Ended()[1].Kind != authority.RevokeSession || !wo.Ended()[1].ExpiresAt.Equal(wo.Now().Add(12*time.Hour+authority.MaxTokenTTL+authority.Leeway)) {
		t.Errorf("this node's view took %+v", wo.Ended())
	}
	if last := wo.journal()[len(wo.journal())-1]; last.Type != authority.EventSignedOut || last.Subject.ID != "u-ada" {
		t.Errorf("the journal ends with %+v", last)
	}
	if b.Get(asked()).Is() != "sign-in" {
		t.Error("still signed in")
	}
}

func TestSignOutWithoutAClient(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	got := b.signOut(b.Get("/logout"))
	if got.Code != http.StatusSeeOther || got.Location() != "/logout" {
		t.Fatalf("%d %q", got.Code, got.Location())
	}
	if page := b.Get("/logout"); page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "Signed out") {
		t.Errorf("%d %s", page.Code, page.Body)
	}
}

// A sign-out whose record failed is recorded when the form is sent again.
func TestSignOutIsOnRecordInTheEnd(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get("/logout")
	wo.Fail(nodetest.Record, errStorage)
	if got := b.signOut(page); got.Code != http.StatusServiceUnavailable {
		t.Fatal(got.Code)
	}
	wo.Fail(nodetest.Record, nil)
	for range 2 {
		if got := b.signOut(page); got.Code != http.StatusSeeOther {
			t.Fatal(got.Code, got.Body)
		}
	}
	events := wo.journal()
	last := events[len(events)-1]
	if last.Type != authority.EventSignedOut || last.Subject.ID != "u-ada" || last.SessionID.IsZero() || events[len(events)-2].Type == authority.EventSignedOut {
		t.Errorf("%+v", events)
	}
}

func TestSignOutRequests(t *testing.T) {
	wo := newWorld(t)
	for row, tc := range map[string]struct {
		target string
		want   string // page, sign-out, or where it redirects
	}{
		"nothing at all":                               {"/logout", "page"},
		"a registered URI by client_id":                {leaving("client_id", "web", "post_logout_redirect_uri", bye), bye},
		"a registered URI by hint, with state":         {leaving("id_token_hint", "hint-web-for-u-ada", "post_logout_redirect_uri", bye, "state", "x"), bye + "?state=x"},
		"J 110: a hint of another person":              {leaving("id_token_hint", "hint-web-for-u-bob", "post_logout_redirect_uri", bye), bye},
		"J 110: a URI with more":                       {leaving("client_id", "web", "post_logout_redirect_uri", bye+"?x=1"), "400"},
		"J 110: another port on loopback":              {leaving("client_id", "web", "post_logout_redirect_uri", "http://127.0.0.1:99/bye"), "400"},
		"J 110: a redirect URI of sign-in":             {leaving("client_id", "web", "post_logout_redirect_uri", callback), "400"},
		"A 5: a scheme that runs":                      {leaving("client_id", "web", "post_logout_redirect_uri", "javascript:alert(1)"), "400"},
		"a URI without a client":                       {leaving("post_logout_redirect_uri", bye), "400"},
		"a URI with an unknown client":                 {leaving("client_id", "nobody", "post_logout_redirect_uri", bye), "400"},
		"a URI with a disabled client":                 {leaving("client_id", "off", "post_logout_redirect_uri", bye), "400"},
		"a hint that is not ours":                      {leaving("id_token_hint", "forged", "post_logout_redirect_uri", bye), "400"},
		"a hint whose key has gone, with client_id":    {leaving("id_token_hint", "forged", "client_id", "web", "post_logout_redirect_uri", bye), bye},
		"a hint whose key has gone, and a foreign URI": {leaving("id_token_hint", "forged", "client_id", "web", "post_logout_redirect_uri", callback), "400"},
		"a hint whose key has gone, an unknown client": {leaving("id_token_hint", "forged", "client_id", "nobody", "post_logout_redirect_uri", bye), "400"},
		"a hint too long":                              {leaving("id_token_hint", strings.Repeat("x", 9000)), "400"},
		"a hint of another client than client_id":      {leaving("id_token_hint", "hint-web-for-u-ada", "client_id", "spa", "post_logout_redirect_uri", bye), "400"},
		"A 13: state twice":                            {leaving("client_id", "web") + "&state=a&state=b", "400"},
		"A 15: state too long":                         {leaving("client_id", "web", "state", strings.Repeat("x", 5000)), "400"},
	} {
		got := wo.browser().Get(tc.target) // nobody signed in
		switch {
		case tc.want == "400":
			if got.Code != http.StatusBadRequest || got.Location() != "" {
				t.Errorf("%s: %d %q", row, got.Code, got.Location())
			}
		case tc.want == "page":
			if got.Code != http.StatusOK || got.Is() != "page" {
				t.Errorf("%s: %d %s", row, got.Code, got.Is())
			}
		case got.Code != http.StatusSeeOther || got.Header().Get("Location") != tc.want:
			t.Errorf("%s: %d %q; want %q", row, got.Code, got.Header().Get("Location"), tc.want)
		}
	}
	if wo.writes() != 0 {
		t.Errorf("%d writes", wo.writes())
	}
}

func TestAClientMayPostItsSignOut(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	got := b.Do(http.MethodPost, "/logout", url.Values{"id_token_hint": {"hint-web-for-u-ada"}, "post_logout_redirect_uri": {bye}, "state": {"x"}}, func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Del("Cookie")
	})
	if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.Location(), "/logout?") || strings.Contains(got.Location(), "hint") {
		t.Fatalf("%d %q", got.Code, got.Location())
	}
	page := b.Get(got.Location())
	if page.Is() != "sign-out" || !strings.Contains(page.Body.String(), "Example web app") {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	if got := b.signOut(page); got.Header().Get("Location") != bye+"?state=x" {
		t.Errorf("%d %q", got.Code, got.Header().Get("Location"))
	}
}

func TestSignOutFormMustBeOurs(t *testing.T) {
	for row, tc := range map[string]struct {
		spoil func(wo *world, b *visitor, form url.Values)
		send  func(*http.Request)
		want  int
	}{
		"J 110: sent by another site":     {nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"J 110: begun in another browser": {func(_ *world, b *visitor, f url.Values) { f.Set("flow", b.world.signedIn().Get("/logout").Flow()) }, nil, http.StatusBadRequest},
		"state of a consent page":         {func(_ *world, b *visitor, f url.Values) { f.Set("flow", b.Get(asked()).Flow()) }, nil, http.StatusBadRequest},
		"after ten minutes":               {func(wo *world, _ *visitor, _ url.Values) { wo.Pass(10 * time.Minute) }, nil, http.StatusBadRequest},
		"somebody else by now":            {func(_ *world, b *visitor, _ url.Values) { b.SignIn(b.Get(asked("prompt", "login")), "bob", "builder") }, nil, http.StatusSeeOther},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		form := url.Values{"flow": {b.Get("/logout").Flow()}}
		if tc.spoil != nil {
			tc.spoil(wo, b, form)
		}
		before := len(wo.Sessions())
		if tc.send == nil {
			tc.send = func(*http.Request) {}
		}
		got := b.Do(http.MethodPost, "/logout", form, tc.send)
		if got.Code != tc.want || len(wo.Sessions()) != before || b.Cookies["__Host-signalbox_session"] == "" {
			t.Errorf("%s: %d, %d of %d sessions", row, got.Code, len(wo.Sessions()), before)
		}
	}
}

func TestStorageFailureAtSignOut(t *testing.T) {
	for _, method := range []string{"EndSession", "SessionByHash"} {
		wo := newWorld(t)
		b := wo.signedIn()
		wo.grantOf(b.allow(b.Get(asked())))
		page := b.Get("/logout")
		wo.Fail(method, errStorage)
		if got := b.signOut(page); got.Code != http.StatusServiceUnavailable || b.Cookies["__Host-signalbox_session"] == "" {
			t.Errorf("%s fails: %d; the person must be able to try again", method, got.Code)
		}
		wo.Fail(method, nil)
		if got := b.signOut(page); got.Code != http.StatusSeeOther || len(wo.Sessions()) != 0 {
			t.Errorf("%s failed, then works: %d, %d sessions", method, got.Code, len(wo.Sessions()))
		}
	}
}

// Whoever closes the tab in the middle leaves nothing that is done and not recorded.
func TestWhoHangsUpLeavesNothingUnrecorded(t *testing.T) {
	for method, tc := range map[string]struct {
		prepare func(b *visitor) (act func())
		want    authority.EventType
	}{
		"RenewSession": {func(b *visitor) func() {
			page := b.Get(asked("prompt", "login"))
			return func() { b.SignIn(page, "ada", "lovelace") }
		}, authority.EventSignedIn},
		"CreateGrant": {func(b *visitor) func() {
			page := b.Get(asked())
			return func() { b.allow(page) }
		}, authority.EventGrantCreated},
		"EndGrant": {func(b *visitor) func() {
			page := b.Get(asked())
			b.allow(page)
			return func() { b.decide(page, "deny") }
		}, authority.EventConsentDenied},
		"EndSession": {func(b *visitor) func() {
			page := b.Get("/logout")
			return func() { b.signOut(page) }
		}, authority.EventSignedOut},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		act := tc.prepare(b)
		ctx, hangUp := context.WithCancel(t.Context())
		b.Ctx = ctx
		wo.Before(func(m string) {
			if m == method {
				hangUp()
			}
		})
		before := len(wo.journal())
		act()
		if ctx.Err() == nil || len(wo.journal()) <= before || wo.journal()[len(wo.journal())-1].Type != tc.want {
			t.Errorf("hung up during %s: the journal has %d new records; want %s", method, len(wo.journal())-before, tc.want)
		}
		hangUp()
	}
}

// What a store that fails returns beside its error is nothing that happened.
func TestOnlyWhatWasEndedIsTaken(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get("/logout")
	wo.Parts.Endings.Store = halfway{wo.Parts.Endings.Store}
	if got := b.signOut(page); got.Code != http.StatusServiceUnavailable || len(wo.Ended()) != 0 {
		t.Errorf("%d, this node's view took %v", got.Code, wo.Ended())
	}
}

type halfway struct{ revocation.EndingStore }

func (halfway) EndSession(context.Context, authority.ID, authority.Ending) ([]authority.Revocation, error) {
	return []authority.Revocation{{Kind: authority.RevokeGrant, Key: "rolled back"}}, errStorage
}

func TestHome(t *testing.T) {
	wo := newWorld(t)
	if got := wo.browser().Get("/"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "Nothing to do here") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := wo.signedIn().Get("/"); !strings.Contains(got.Body.String(), "ada") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestAHintThatCannotBeReadLeavesTheQuestion(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get(leaving("id_token_hint", "forged", "client_id", "web", "post_logout_redirect_uri", bye))
	if page.Code != http.StatusOK || page.Is() != "sign-out" || len(wo.Sessions()) != 1 || !strings.Contains(page.Body.String(), "Example web app") {
		t.Fatalf("%d %s, %d sessions", page.Code, page.Is(), len(wo.Sessions()))
	}
	if got := b.signOut(page); got.Header().Get("Location") != bye || len(wo.Sessions()) != 0 {
		t.Errorf("%d %q, %d sessions", got.Code, got.Header().Get("Location"), len(wo.Sessions()))
	}
}
