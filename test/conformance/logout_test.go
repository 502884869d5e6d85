package conformance

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// TestRPInitiatedLogout: oidcc-rp-initiated-logout-certification-test-plan.
func TestRPInitiatedLogout(t *testing.T) {
	p := plan{"oidcc-rp-initiated-logout-certification-test-plan", ""}
	t.Run("oidcc-rp-initiated-logout-discovery-endpoint-verification", func(t *testing.T) {
		if got := send(t, http.MethodGet, "/.well-known/openid-configuration", nil).text("end_session_endpoint"); got != issuer+"/logout" {
			t.Errorf("end_session_endpoint is %q", got)
		}
	})
	modified := func(token string) string { return token[:len(token)-6] + strings.Repeat("A", 6) }
	for _, row := range []struct {
		name    string
		request func(token string) url.Values
		goes    bool // back to the client; else the person stays on a page
		ends    bool // the session
	}{
		{"oidcc-rp-initiated-logout", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, true, true},
		{"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye + "/other"}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-modified-id-token-hint", func(token string) url.Values {
			return url.Values{"id_token_hint": {modified(token)}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-no-id-token-hint", func(string) url.Values {
			return url.Values{"post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-no-params", func(string) url.Values { return url.Values{} }, false, true},
		{"oidcc-rp-initiated-logout-no-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "state": {"s-1"}}
		}, false, true},
		{"oidcc-rp-initiated-logout-no-state", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye}}
		}, true, true},
		{"oidcc-rp-initiated-logout-only-state", func(string) url.Values { return url.Values{"state": {"s-1"}} }, false, true},
		{"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", func(token string) url.Values {
			return url.Values{"id_token_hint": {token}, "post_logout_redirect_uri": {goodbye + "?more=1"}, "state": {"s-1"}}
		}, false, false},
		{"oidcc-rp-initiated-logout-bad-id-token-hint", func(string) url.Values {
			return url.Values{"id_token_hint": {"nobody's token"}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}
		}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBrowser(t)
			tokens, _ := p.signIn(b, p.request("basic"))
			request := row.request(tokens.text("id_token"))
			got := b.open(issuer + "/logout?" + request.Encode())
			if row.goes && (got.uri != goodbye || got.Get("state") != request.Get("state")) || !row.goes && got.uri != "" {
				t.Errorf("arrived at %q with %v, %d %s", got.uri, got.Values, got.status, got.page)
			}
			v := p.request("basic", "prompt", "none")
			after := b.open(authorize(v))
			if row.ends {
				p.refused(t, after, v, "login_required", "interaction_required")
			} else if after.Get("code") == "" {
				t.Errorf("signed out although the request was refused: %v", after.Values)
			}
		})
	}
}

// told are the logout tokens that the suite has been sent, as the bodies in which they came.
var told = make(chan url.Values, 100)

func hear(_ http.ResponseWriter, r *http.Request) {
	if r.ParseForm() == nil {
		told <- r.PostForm
	}
}

func claimed(t *testing.T, names ...string) {
	t.Helper()
	found := send(t, http.MethodGet, "/.well-known/openid-configuration", nil)
	for _, name := range names {
		if found.body[name] != true {
			t.Errorf("%s is %v", name, found.body[name])
		}
	}
}

// TestBackChannelLogout: oidcc-backchannel-rp-initiated-logout-certification-test-plan.
func TestBackChannelLogout(t *testing.T) {
	p := plan{"oidcc-backchannel-rp-initiated-logout-certification-test-plan", ""}
	t.Run("oidcc-backchannel-logout-discovery-endpoint-verification", func(t *testing.T) {
		claimed(t, "backchannel_logout_supported", "backchannel_logout_session_supported")
	})
	t.Run("oidcc-backchannel-rp-initiated-logout", func(t *testing.T) {
		b := newBrowser(t)
		tokens, signedIn := p.signIn(b, p.request("back"))
		got := b.open(issuer + "/logout?" + url.Values{"id_token_hint": {tokens.text("id_token")}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}.Encode())
		if got.uri != goodbye || got.Get("state") != "s-1" {
			t.Errorf("arrived at %q with %v", got.uri, got.Values)
		}
		select {
		case body := <-told:
			if len(body) != 1 || len(body["logout_token"]) != 1 {
				t.Fatalf("the body holds %v", body)
			}
			claims, header := verified(t, body.Get("logout_token"))
			if header.ExtraHeaders["typ"] != "logout+jwt" {
				t.Errorf("typ is %v", header.ExtraHeaders["typ"])
			}
			events, _ := claims["events"].(map[string]any)
			if event, is := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any); !is || len(event) != 0 || len(events) != 1 {
				t.Errorf("events are %v", claims["events"])
			}
			now := float64(time.Now().Unix())
			if claims["iss"] != issuer || claims["aud"] != "back" || claims["sub"] != signedIn["sub"] || claims["sid"] != signedIn["sid"] || claims["jti"] == nil || claims["nonce"] != nil ||
				number(claims["iat"]) > now+5 || number(claims["exp"]) <= now {
				t.Errorf("%v, for %v", claims, signedIn)
			}
		case <-time.After(10 * time.Second):
			t.Error("nobody was told")
		}
	})
}

// TestFrontChannelLogout: oidcc-frontchannel-rp-initiated-logout-certification-test-plan.
func TestFrontChannelLogout(t *testing.T) {
	p := plan{"oidcc-frontchannel-rp-initiated-logout-certification-test-plan", ""}
	t.Run("oidcc-frontchannel-logout-discovery-endpoint-verification", func(t *testing.T) {
		claimed(t, "frontchannel_logout_supported", "frontchannel_logout_session_supported")
	})
	t.Run("oidcc-frontchannel-rp-initiated-logout", func(t *testing.T) {
		b := newBrowser(t)
		tokens, signedIn := p.signIn(b, p.request("front"))
		got := b.open(issuer + "/logout?" + url.Values{"id_token_hint": {tokens.text("id_token")}, "post_logout_redirect_uri": {goodbye}, "state": {"s-1"}}.Encode())
		frames, next := loads(t, got.page)
		want := front + "?" + url.Values{"iss": {issuer}, "sid": {signedIn["sid"].(string)}}.Encode()
		if !slices.Equal(frames, []string{want}) {
			t.Errorf("the page loads %q, want %q", frames, want)
		}
		if next != goodbye+"?state=s-1" {
			t.Errorf("the page goes on to %q", next)
		}
	})
}

// loads are the frames of a page, and where it goes on to by itself.
func loads(t *testing.T, page string) (frames []string, next string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		switch {
		case n.Data == "iframe":
			frames = append(frames, at["src"])
		case n.Data == "meta" && at["http-equiv"] == "refresh":
			_, next, _ = strings.Cut(at["content"], "url=")
		}
	}
	return frames, next
}
