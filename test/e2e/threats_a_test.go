package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Threats A: redirect URI and authorization endpoint. The numbers are those of
// docs/security/threats.md. A row starts from one good request and changes one thing.

const (
	accepted  = "continues to sign-in" // the request was accepted
	errorPage = "error page"           // 4xx, HTML, no redirect anywhere
)

func redirectError(code string) string { return "redirect with " + code }

// outcome says how an authorization request ended. An error that is redirected
// must carry iss and the request's state, whatever it was (RFC 9207 §2, RFC 6749 §4.1.2.1).
func (s *server) outcome(t *testing.T, p page, state string) string {
	t.Helper()
	if to := p.redirect(); to != nil {
		if to.Host == p.URL.Host {
			return accepted
		}
		q := to.Query()
		if got := q.Get("iss"); got != s.Issuer {
			t.Errorf("A20: iss is %q in the redirect %s", got, to)
		}
		if got := q.Get("state"); got != state {
			t.Errorf("state came back as %q, was %q", got, state)
		}
		if q.Has("code") {
			return "redirect with a code"
		}
		return redirectError(q.Get("error"))
	}
	isHTML := strings.HasPrefix(p.Header.Get("Content-Type"), "text/html")
	switch {
	case p.Status == http.StatusOK && p.form != nil:
		return accepted
	case p.Status >= 400 && p.Status <= 499 && isHTML:
		return errorPage
	}
	return fmt.Sprintf("answer %s", p.reply)
}

func TestThreatsA_Request(t *testing.T) {
	s := atHome(t)
	set := func(name, value string) func(url.Values) {
		return func(q url.Values) { q.Set(name, value) }
	}
	redirect := func(value string) func(url.Values) { return set("redirect_uri", value) }
	drop := func(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }
	twice := func(name string) func(url.Values) {
		return func(q url.Values) { q.Add(name, q.Get(name)) }
	}
	huge := strings.Repeat("x", 20<<10)

	rows := []struct {
		sentence string
		client   client
		change   func(url.Values)
		want     string // several that are all right: joined by |
	}{
		{"A0 a good request continues", webApp, func(url.Values) {}, accepted},

		{"A1 redirect URI with a slash added", webApp, redirect("https://app.example.com/callback/"), errorPage},
		{"A1 redirect URI with a query added", webApp, redirect("https://app.example.com/callback?x=1"), errorPage},
		{"A1 redirect URI with an empty query added", webApp, redirect("https://app.example.com/callback?"), errorPage},
		{"A1 redirect URI with its path in capitals", webApp, redirect("https://app.example.com/CALLBACK"), errorPage},
		{"A1 redirect URI with its host in capitals", webApp, redirect("https://APP.example.com/callback"), errorPage},
		{"A1 redirect URI with the default port written out", webApp, redirect("https://app.example.com:443/callback"), errorPage},
		{"A1 redirect URI by http", webApp, redirect("http://app.example.com/callback"), errorPage},
		{"A1 redirect URI of a host below", webApp, redirect("https://x.app.example.com/callback"), errorPage},
		{"A1 redirect URI of a host with the same ending", webApp, redirect("https://evilapp.example.com/callback"), errorPage},
		{"A1 redirect URI that is cut short", webApp, redirect("https://app.example.com/callbac"), errorPage},
		{"A1 redirect URI with more at its end", webApp, redirect("https://app.example.com/callback.evil"), errorPage},
		{"A1 redirect URI of another client", webApp, redirect(webTwo.RedirectURIs[0]), errorPage},
		{"A1 redirect URI with a final dot on the host", webApp, redirect("https://app.example.com./callback"), errorPage},

		{"A2 loopback with any port", nativeApp, redirect("http://127.0.0.1:51234/callback"), accepted},
		{"A2 IPv6 loopback with any port", nativeApp, redirect("http://[::1]:51234/callback"), accepted},
		{"A2 the name localhost as registered", nativeApp, redirect("http://localhost:7777/callback"), accepted},
		{"A2 the name localhost with another port", nativeApp, redirect("http://localhost:7778/callback"), errorPage},
		{"A2 a private-use scheme as registered", nativeApp, redirect("com.example.native:/callback"), accepted},
		{"A2 loopback with another path", nativeApp, redirect("http://127.0.0.1:51234/other"), errorPage},
		{"A2 loopback by https", nativeApp, redirect("https://127.0.0.1:51234/callback"), errorPage},
		{"A2 another loopback address", nativeApp, redirect("http://127.0.0.2:51234/callback"), errorPage},
		{"A2 loopback in short", nativeApp, redirect("http://127.1/callback"), errorPage},
		{"A2 loopback as one number", nativeApp, redirect("http://2130706433/callback"), errorPage},
		{"A2 loopback as user name (CVE-2024-8883)", nativeApp, redirect("http://127.0.0.1@evil.example/callback"), errorPage},
		{"A2 loopback and port as user name", nativeApp, redirect("http://127.0.0.1:80@evil.example/callback"), errorPage},
		{"A2 localhost as user name", nativeApp, redirect("http://localhost@evil.example/callback"), errorPage},
		{"A2 localhost and its port as user name", nativeApp, redirect("http://localhost:7777@evil.example/callback"), errorPage},
		{"A2 loopback as the start of a name", nativeApp, redirect("http://127.0.0.1.evil.example/callback"), errorPage},
		{"A2 loopback with a port that is none", nativeApp, redirect("http://127.0.0.1:8x/callback"), errorPage},
		{"A2 a web client has no latitude", webApp, redirect("http://127.0.0.1/callback"), errorPage},

		{"A3 dot segments with a semicolon", webApp, redirect("https://app.example.com/x/..;/callback"), errorPage},
		{"A3 dot segments", webApp, redirect("https://app.example.com/x/../callback"), errorPage},
		{"A3 escaped dot segments", webApp, redirect("https://app.example.com/x/%2e%2e/callback"), errorPage},
		{"A3 a doubled slash", webApp, redirect("https://app.example.com//callback"), errorPage},
		{"A3 a backslash", webApp, redirect(`https://app.example.com\callback`), errorPage},
		{"A3 a backslash before the user name", webApp, redirect(`https://evil.example\@app.example.com/callback`), errorPage},
		{"A3 a tab", webApp, redirect("https://app.example.com/call\tback"), errorPage},
		{"A3 a new line at the end", webApp, redirect("https://app.example.com/callback\n"), errorPage},
		{"A3 a space in front", webApp, redirect(" https://app.example.com/callback"), errorPage},
		{"A3 several @", webApp, redirect("https://app.example.com@x@evil.example/callback"), errorPage},
		{"A3 a user name", webApp, redirect("https://ada@app.example.com/callback"), errorPage},
		{"A3 a NUL", webApp, redirect("https://app.example.com/callback\x00"), errorPage},

		{"A4 a fragment", webApp, redirect("https://app.example.com/callback#x"), errorPage},
		{"A4 an empty fragment", webApp, redirect("https://app.example.com/callback#"), errorPage},
		{"A5 a scheme that runs", webApp, redirect("JaVaScRiPt:alert(1)"), errorPage},
		{"A6 an escaped letter", webApp, redirect("https://app.example.com/c%61llback"), errorPage},
		{"A6 a letter escaped twice", webApp, redirect("https://app.example.com/c%2561llback"), errorPage},

		{"A7 two are registered and none is sent", webTwo, drop("redirect_uri"), errorPage},
		{"A8 an unknown client", webApp, set("client_id", "nobody"), errorPage},
		{"A8 no client", webApp, drop("client_id"), errorPage},
		{"A8 a client in other letters", webApp, set("client_id", "WEB"), errorPage},
		{"A8 an unregistered redirect URI beside another mistake", webApp, func(q url.Values) {
			q.Set("redirect_uri", "https://evil.example/")
			q.Set("response_type", "token")
		}, errorPage},

		{"A13 client_id twice", webApp, twice("client_id"), errorPage},
		{"A13 redirect_uri twice", webApp, twice("redirect_uri"), errorPage},
		{"A13 state twice", webApp, twice("state"), errorPage + "|" + redirectError("invalid_request")},
		{"A13 scope twice", webApp, twice("scope"), errorPage + "|" + redirectError("invalid_request")},
		{"A13 nonce twice", webApp, twice("nonce"), errorPage + "|" + redirectError("invalid_request")},
		{"A13 response_type twice", webApp, twice("response_type"), errorPage + "|" + redirectError("invalid_request")},
		{"A13 code_challenge twice", webApp, twice("code_challenge"), errorPage + "|" + redirectError("invalid_request")},
		{"A14 an unknown parameter is ignored", webApp, set("surprise", "1"), accepted},
		{"A14 a header in the state", webApp, set("state", "x\r\nSet-Cookie: planted=1"), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},
		{"A14 a NUL in the state", webApp, set("state", "x\x00y"), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},

		{"A15 a huge state", webApp, set("state", huge), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},
		{"A15 a huge nonce", webApp, set("nonce", huge), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},
		{"A15 a huge scope", webApp, set("scope", "openid "+huge), errorPage + "|" + redirectError("invalid_scope") + "|" + redirectError("invalid_request")},
		{"A15 a huge login_hint", webApp, set("login_hint", huge), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},
		{"A15 a huge acr_values", webApp, set("acr_values", huge), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},

		{"A16 prompt=none without a session", webApp, set("prompt", "none"), redirectError("login_required")},
		{"A16 prompt=none with another", webApp, set("prompt", "none login"), redirectError("invalid_request")},

		{"A17 the implicit flow", webApp, set("response_type", "token"), redirectError("unsupported_response_type")},
		{"A17 the implicit flow of OpenID Connect", webApp, set("response_type", "id_token"), redirectError("unsupported_response_type")},
		{"A17 the hybrid flow", webApp, set("response_type", "code token"), redirectError("unsupported_response_type")},
		{"A17 no response_type", webApp, drop("response_type"), redirectError("invalid_request")},
		{"A17 a response_type in capitals", webApp, set("response_type", "CODE"), redirectError("unsupported_response_type")},
		{"A17 an answer in the fragment", webApp, set("response_mode", "fragment"), errorPage + "|" + redirectError("invalid_request")},
		{"A17 an answer by web_message", webApp, set("response_mode", "web_message"), errorPage + "|" + redirectError("invalid_request")},

		{"A23 a request_uri of somebody else", webApp, set("request_uri", "https://evil.example/request"), errorPage + "|" + redirectError("request_uri_not_supported")},
		{"A24 a request object", webApp, set("request", "e30.e30."), errorPage + "|" + redirectError("request_not_supported")},
		{"A25 a claims parameter of deep JSON", webApp, set("claims", strings.Repeat(`{"a":`, 1500)+"1"+strings.Repeat("}", 1500)), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},
		{"A25 a claims parameter with __proto__", webApp, set("claims", `{"__proto__":{"admin":true},"userinfo":[1,null]}`), accepted + "|" + errorPage + "|" + redirectError("invalid_request")},

		{"a scope that the client may not ask for", webApp, set("scope", "openid other:read"), redirectError("invalid_scope")},
		{"a resource that the client may not ask for", webApp, set("resource", "https://other.example.com"), redirectError("invalid_target")},
		{"a resource that nobody knows", webApp, set("resource", "https://nowhere.example.com"), redirectError("invalid_target")},
		{"a client without the grant type", client{ID: machine.ID, RedirectURIs: []string{"https://app.example.com/callback"}}, func(url.Values) {}, errorPage},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			q := newCodeRequest(row.client).query
			row.change(q)
			p := newBrowser(t).get(s.authorizeURL(q))
			if got := s.outcome(t, p, q.Get("state")); !contains(row.want, got) {
				t.Errorf("came to %q, want %q", got, row.want)
			}
			for _, c := range p.Header.Values("Set-Cookie") {
				if strings.HasPrefix(c, "planted") {
					t.Errorf("a parameter became a header: %q", c)
				}
			}
		})
	}
}

// contains: want is one sentence, or several joined by |.
func contains(want, got string) bool {
	for w := range strings.SplitSeq(want, "|") {
		if w == got {
			return true
		}
	}
	return false
}

// A5: what a browser would run is refused where it is registered.
func TestThreatsA_Registration(t *testing.T) {
	for _, uri := range []string{
		"JaVaScRiPt:alert(1)", "javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"https://app.example.com/callback#fragment", "https://user@app.example.com/", "http://app.example.com/callback",
		"/callback", "https://", `https://app.example.com\\@evil.example/`, "https://app.example.com/a/../b",
	} {
		t.Run("A5 "+uri, func(t *testing.T) {
			dir := t.TempDir()
			config := fmt.Sprintf(`issuer: http://127.0.0.1:1
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {off: true}
storage: {url: "sqlite:%[1]s/signalbox.db"}
secrets: {master_key_file: %[1]s/master.key}
clients:
  - client_id: web
    token_endpoint_auth_method: none
    redirect_uris: ["%[2]s"]
    scope: openid
`, dir, uri)
			for name, content := range map[string]string{"signalbox.yaml": config, "master.key": "6532652d6d61737465722d6b6579206f6620746869727479206279746573212100"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, dir, nil, "serve", "--config", filepath.Join(dir, "signalbox.yaml"))
			select {
			case <-p.done:
			case <-time.After(startLimit):
				p.stop(os.Kill)
				t.Fatal("it started")
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := p.out.String(); !strings.Contains(said, "redirect_uris") || !strings.Contains(said, "signalbox.yaml:9") {
				t.Errorf("the message names neither key nor line:\n%s", said)
			}
		})
	}
}

// A10, A11, A12, A19: what every page carries, and what follows a form.
func TestThreatsA_Pages(t *testing.T) {
	s := atHome(t)
	b := newBrowser(t)
	r := newCodeRequest(webTwo)
	r.query.Set("prompt", "consent")
	b.authorize(s.authorizeURL(r.query), ada, "allow")
	evil := newCodeRequest(webApp).query
	evil.Set("redirect_uri", "https://evil.example/")
	b.get(s.authorizeURL(evil))
	seen := map[string]bool{}
	for _, p := range b.answer {
		switch {
		case p.redirect() != nil && p.form == nil:
			if p.Status != http.StatusSeeOther && p.Status != http.StatusFound {
				t.Errorf("A10: redirected by %d at %s", p.Status, p.URL.Path)
			}
		case strings.HasPrefix(p.Header.Get("Content-Type"), "text/html"):
			kind := "an error"
			if p.form.has("password") {
				kind = "a sign-in"
			} else if _, ok := p.form.button("allow"); ok {
				kind = "a consent"
			}
			seen[kind] = true
			checkPage(t, kind+" page", p)
		}
	}
	for _, kind := range []string{"a sign-in", "a consent", "an error"} {
		if !seen[kind] {
			t.Errorf("%s page was never shown", kind)
		}
	}

	t.Run("A10 a form with credentials answers 303", func(t *testing.T) {
		b := newBrowser(t)
		p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
		p = b.press(p, "sign-in", url.Values{"username": {ada.Username}, "password": {ada.Password}})
		if p.Status != http.StatusSeeOther && p.Status != http.StatusOK {
			t.Errorf("answered %d", p.Status)
		}
		p = b.follow(p)
		if _, ok := p.form.button("allow"); ok {
			if p = b.press(p, "allow", nil); p.Status != http.StatusSeeOther {
				t.Errorf("consent answered %d", p.Status)
			}
		}
	})

	for _, name := range []string{"client_id", "redirect_uri", "scope", "response_type", "prompt", "resource", "state", "code_challenge_method", "login_hint"} {
		t.Run("A19 script in "+name, func(t *testing.T) {
			for _, script := range []string{`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `javascript:alert(1)`} {
				q := newCodeRequest(webApp).query
				q.Set(name, script)
				p := newBrowser(t).get(s.authorizeURL(q))
				if strings.Contains(string(p.Body), "<script>alert") || strings.Contains(string(p.Body), "<img src=x") || strings.Contains(string(p.Body), `href="javascript:`) {
					t.Errorf("the page holds it:\n%s", p.Body)
				}
			}
		})
	}
}

var thirdParty = regexp.MustCompile(`(?i)<(?:script|link|img|iframe|source|object|embed)\b[^>]*(?:src|href|data)\s*=\s*["']?(?:https?:)?//`)

func checkPage(t *testing.T, what string, p page) {
	t.Helper()
	for name, want := range map[string]string{
		"Referrer-Policy":        "no-referrer",
		"X-Frame-Options":        "DENY",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := p.Header.Get(name); !strings.EqualFold(got, want) {
			t.Errorf("A11/A12: %s has %s %q, want %q", what, name, got, want)
		}
	}
	if got := p.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("%s may be cached: %q", what, got)
	}
	csp := p.Header.Get("Content-Security-Policy")
	for _, want := range []string{"frame-ancestors 'none'", "default-src 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("A12: %s lacks %q in its policy %q", what, want, csp)
		}
	}
	if strings.Contains(csp, "unsafe-inline") || strings.Contains(csp, "unsafe-eval") {
		t.Errorf("K115: %s has the policy %q", what, csp)
	}
	if m := thirdParty.Find(p.Body); m != nil {
		t.Errorf("A11: %s loads from elsewhere: %s", what, m)
	}
	if regexp.MustCompile(`(?i)<[^>]+\son[a-z]+\s*=`).Match(p.Body) || regexp.MustCompile(`(?i)<script\b[^>]*>[^<\s]`).Match(p.Body) {
		t.Errorf("K115: %s has a script in its text", what)
	}
}

// A22 and J109: the consent is bound to its request and its browser.
func TestThreatsA_Approval(t *testing.T) {
	s := atHome(t)
	// consent brings a browser to the consent page of a request.
	consent := func(t *testing.T, who user) (*browser, page) {
		t.Helper()
		b := newBrowser(t)
		r := newCodeRequest(webTwo)
		r.query.Set("prompt", "consent")
		p := b.follow(b.get(s.authorizeURL(r.query)))
		p = b.follow(b.press(p, "sign-in", url.Values{"username": {who.Username}, "password": {who.Password}}))
		if _, ok := p.form.button("allow"); !ok {
			t.Fatalf("no consent page: %s", p.reply)
		}
		return b, p
	}
	allow := func(t *testing.T, b *browser, p page, change func(*http.Request)) page {
		t.Helper()
		button, _ := p.form.button("allow")
		return b.submit(p, button, nil, change)
	}
	refused := func(t *testing.T, p page) {
		t.Helper()
		if to := p.redirect(); to != nil && to.Query().Has("code") {
			t.Error("a code was given out")
		}
		if p.Status >= 500 {
			t.Errorf("answered %s", p.reply)
		}
	}
	t.Run("A22 the good one passes", func(t *testing.T) {
		b, p := consent(t, ada)
		if to := allow(t, b, p, nil).redirect(); to == nil || !to.Query().Has("code") {
			t.Error("no code")
		}
	})
	t.Run("A22 a changed request is refused", func(t *testing.T) {
		b, p := consent(t, ada)
		for name := range p.form.fields {
			for i, v := range p.form.fields[name] {
				if len(v) > 20 { // the sealed state; a person may change a check box
					p.form.fields[name][i] = flip(v, len(v)/2)
				}
			}
		}
		p.URL.RawQuery = flipQuery(p.URL.RawQuery)
		refused(t, allow(t, b, p, nil))
	})
	t.Run("A22 the consent page of one person in the browser of another", func(t *testing.T) {
		_, theirs := consent(t, ada)
		b, _ := consent(t, bob)
		refused(t, allow(t, b, theirs, nil))
	})
	t.Run("A22 a consent without the browser's cookies", func(t *testing.T) {
		_, p := consent(t, ada)
		refused(t, allow(t, newBrowser(t), p, nil))
	})
	for _, site := range []string{"cross-site", "same-site"} {
		t.Run("J109 a consent form sent from a "+site+" page", func(t *testing.T) {
			b, p := consent(t, ada)
			refused(t, allow(t, b, p, func(r *http.Request) {
				r.Header.Set("Sec-Fetch-Site", site)
				r.Header.Set("Origin", "https://evil.example")
			}))
		})
	}
	t.Run("J109 a sign-in form sent from another site", func(t *testing.T) {
		b := newBrowser(t)
		p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
		button, _ := p.form.button("sign-in")
		p = b.submit(p, button, url.Values{"username": {ada.Username}, "password": {ada.Password}}, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example")
		})
		if p.Status < 400 || p.Status > 499 {
			t.Errorf("answered %s", p.reply)
		}
	})
	t.Run("a disabled user does not get in", func(t *testing.T) {
		b := newBrowser(t)
		p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
		p = b.follow(b.press(p, "sign-in", url.Values{"username": {eve.Username}, "password": {eve.Password}}))
		if !p.form.has("password") {
			t.Errorf("not the sign-in page again: %s", p.reply)
		}
	})
}

// flip changes one character of a value into another of the same alphabet.
func flip(v string, at int) string {
	c := byte('A')
	if v[at] == 'A' {
		c = 'B'
	}
	return v[:at] + string(c) + v[at+1:]
}

func flipQuery(raw string) string {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return raw
	}
	for name := range q {
		if v := q.Get(name); len(v) > 40 {
			q.Set(name, flip(v, len(v)/2))
		}
	}
	return q.Encode()
}

// A20: the flag is in the metadata.
func TestThreatsA_Metadata(t *testing.T) {
	s := atHome(t)
	var metadata struct {
		IssParameter bool `json:"authorization_response_iss_parameter_supported"`
	}
	r := s.get(t, "/.well-known/oauth-authorization-server")
	if err := json.Unmarshal(r.Body, &metadata); err != nil || !metadata.IssParameter {
		t.Errorf("A20: authorization_response_iss_parameter_supported is not true: %s", r)
	}
}
