package authorize_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/server/authorize"
)

// A cookie that was stolen is worth nothing once its owner signs in again. The
// applications stay signed in, and one sign-out ends all.
func TestAFreshSignInTakesTheEarlierSessionOver(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	rests := wo.grantOf(b.allow(b.Get(asked())))
	wo.redeem(rests)
	stays := wo.grantOf(b.allow(b.Get(asked("scope", "openid offline_access"))))
	wo.redeem(stays)
	thief := wo.browser()
	thief.Cookies["__Host-signalbox_session"] = b.Cookies["__Host-signalbox_session"]
	wo.Pass(time.Minute)
	b.SignIn(b.Get(asked("prompt", "login")), "ada", "lovelace")
	if got := thief.Get(asked()); got.Is() != "sign-in" {
		t.Errorf("the earlier cookie after a fresh sign-in: %d %s", got.Code, got.Is())
	}
	if len(wo.Sessions()) != 1 || wo.state(rests) == authority.GrantEnded {
		t.Errorf("%d sessions, the grant that depends on it is %s", len(wo.Sessions()), wo.state(rests))
	}
	for _, s := range wo.Sessions() {
		if s.ID != rests.SessionID || !s.AuthTime.Equal(wo.Now()) || !s.ExpiresAt.Equal(wo.Now().Add(12*time.Hour)) {
			t.Errorf("the session is %+v", s)
		}
	}
	var signedIn []authority.ID
	for _, e := range wo.journal() {
		if e.Type == authority.EventSignedIn {
			signedIn = append(signedIn, e.SessionID)
		}
	}
	if !slices.Equal(signedIn, []authority.ID{rests.SessionID, rests.SessionID}) {
		t.Errorf("the journal has sign-ins of %v", signedIn)
	}
	b.signOut(b.Get("/logout"))
	if len(wo.Sessions()) != 0 || wo.state(rests) != authority.GrantEnded || wo.state(stays) == authority.GrantEnded {
		t.Errorf("after the sign-out: %d sessions, the grant is %s, the offline grant %s", len(wo.Sessions()), wo.state(rests), wo.state(stays))
	}
}

// A sign-out in another tab, between the look at the session and its renewal.
func TestAFreshSignInAfterTheSessionEnded(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	page := b.Get(asked("prompt", "login"))
	wo.Before(func(method string) {
		if method == "RenewSession" {
			for _, session := range wo.Sessions() {
				wo.EndSession(session.ID)
			}
		}
	})
	b.SignIn(page, "ada", "lovelace")
	if got := b.Get(asked()); got.Is() != "allow" || len(wo.Sessions()) != 1 {
		t.Errorf("%d %s, %d sessions", got.Code, got.Is(), len(wo.Sessions()))
	}
}

func TestAnotherPersonInTheSameBrowserEndsTheSession(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	ada := wo.grantOf(b.allow(b.Get(asked())))
	wo.redeem(ada)
	stays := wo.grantOf(b.allow(b.Get(asked("scope", "openid offline_access"))))
	page := b.SignIn(b.Get(asked("prompt", "login")), "bob", "builder")
	if page.Is() != "allow" || !strings.Contains(page.Body.String(), "bob") {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	if len(wo.Sessions()) != 1 || wo.state(ada) != authority.GrantEnded || wo.state(stays) == authority.GrantEnded {
		t.Errorf("%d sessions, ada's grant is %s, her offline grant %s", len(wo.Sessions()), wo.state(ada), wo.state(stays))
	}
	if len(wo.Ended()) != 2 {
		t.Errorf("this node's view took %v", wo.Ended())
	}
}

func TestSignInAsAnotherThanTheHint(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	got := b.SignIn(b.Get(asked("id_token_hint", "hint-web-for-u-bob")), "ada", "lovelace")
	if got.Back().Get("error") != "login_required" || len(wo.Sessions()) != 0 {
		t.Errorf("%v, %d sessions", got.Back(), len(wo.Sessions()))
	}
	if len(wo.journal()) != 1 || wo.journal()[0].Type != authority.EventSignInFailed || wo.journal()[0].Subject.ID != "u-ada" || wo.journal()[0].ClientID != "web" || wo.journal()[0].Reason == "" {
		t.Errorf("a right password was confirmed, and the journal has %+v", wo.journal())
	}
	if got := b.SignIn(b.Get(asked("id_token_hint", "hint-web-for-u-bob")), "bob", "builder"); got.Is() != "allow" {
		t.Errorf("the person of the hint: %d %s", got.Code, got.Body)
	}
}

// The hint is no way around the limit, nor around the journal.
func TestAHintDoesNotHelpGuessing(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	page := b.Get(asked("id_token_hint", "hint-web-for-u-bob"))
	wo.Fail(nodetest.Record, errStorage)
	if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusServiceUnavailable || got.Back() != nil {
		t.Errorf("the journal fails: %d %v", got.Code, got.Back())
	}
	wo.Fail(nodetest.Record, nil)
	for range 4 {
		if got := b.SignIn(page, "ada", "lovelace"); got.Back().Get("error") != "login_required" {
			t.Fatalf("%d %v", got.Code, got.Back())
		}
	}
	if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusTooManyRequests || len(wo.journal()) != 4 {
		t.Errorf("J 104: one more: %d %v, %d records", got.Code, got.Back(), len(wo.journal()))
	}
}

// docs/security/threats.md A 22: whoever has signed in comes back with a request that is checked again.
func TestTheRequestIsCheckedAgainAfterTheSignIn(t *testing.T) {
	for row, how := range map[string]func(*authority.Client){
		"the client was disabled": func(c *authority.Client) { c.Disabled = true },
		"the redirect URI was removed": func(c *authority.Client) {
			c.RedirectURIs = []authority.RedirectURI{uri("https://elsewhere.example.com/")}
		},
		"the client may not use the flow":  func(c *authority.Client) { c.GrantTypes = nil },
		"the client was given another URI": func(c *authority.Client) { c.RedirectURIs = []authority.RedirectURI{uri(callback + "2")} },
	} {
		wo := newWorld(t)
		b := wo.browser()
		page := b.Get(asked())
		wo.change("web", how)
		if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusBadRequest || got.Is() != "page" || len(wo.Grants()) != 0 {
			t.Errorf("%s: %d %s", row, got.Code, got.Is())
		}
	}
}

// The longest request that is taken comes through every page.
func TestTheLongestRequest(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	long := []string{"state", strings.Repeat("<", authorize.MaxState), "id_token_hint", "hint-web-for-u-ada", "login_hint", strings.Repeat("é", authorize.MaxName/2)}
	consent := b.SignIn(b.Get(asked(long...)), "ada", "lovelace")
	if got := b.allow(consent); got.Back().Get("state") != long[1] || got.Back().Get("code") == "" {
		t.Errorf("%d %s", got.Code, got.Is())
	}
}

func TestDeadAndDisabledSessionsVouchForNobody(t *testing.T) {
	for row, spoil := range map[string]func(*world, *visitor){
		"the user was disabled": func(wo *world, _ *visitor) {
			ada := wo.Static.Users["u-ada"]
			ada.Disabled = true
			wo.Static.Users["u-ada"] = ada
			wo.Declare()
		},
		"the user was deleted": func(wo *world, _ *visitor) {
			delete(wo.Static.Users, "u-ada")
			wo.Declare()
		},
		"the epoch of the user": func(wo *world, _ *visitor) {
			wo.revoke(authority.EpochUser, "u-ada")
		},
		"the session was ended": func(wo *world, _ *visitor) { wo.revoke(authority.RevokeSession, wo.Sessions()[0].ID.String()) },
		"the cookie cut off":    func(_ *world, b *visitor) { b.Cookies["__Host-signalbox_session"] = "short" },
		"the cookie in another case": func(_ *world, b *visitor) {
			b.Cookies["__Host-signalbox_session"] = strings.ToLower(b.Cookies["__Host-signalbox_session"])
		},
	} {
		wo := newWorld(t)
		b := wo.signedIn()
		consent := b.Get(asked())
		spoil(wo, b)
		if got := b.Get(asked()); got.Is() != "sign-in" {
			t.Errorf("%s: GET /authorize shows %s", row, got.Is())
		}
		got := b.allow(consent)
		if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.Location(), "/authorize?") || len(wo.Grants()) != 0 {
			t.Errorf("%s: POST /consent gives %d %q", row, got.Code, got.Location())
		}
	}
}
