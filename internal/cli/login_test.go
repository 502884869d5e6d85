package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/logins"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// desk is a person's machine, with a browser, beside a whole service of dev.
type desk struct {
	*shell
	http   *http.Client
	visit  func(address string) // what the person does with the page; nil: signs in and allows
	opened atomic.Int64
	issuer *http.Client // how the commands reach the service; nil: the usual way
}

func newTerminal(t *testing.T) *desk {
	t.Helper()
	return (&desk{shell: newShell(t)}).fresh()
}

// fresh is another machine, whose browser is signed in nowhere.
func (m *desk) fresh() *desk {
	m.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		m.Fatal(err)
	}
	own := *m.shell
	own.env = map[string]string{"XDG_CONFIG_HOME": m.TempDir(), "XDG_CACHE_HOME": m.TempDir()}
	return &desk{shell: &own, http: &http.Client{Jar: jar, CheckRedirect: followNone, Timeout: 20 * time.Second}}
}

// command runs a command with the browser.
func (m *desk) command(ctx context.Context, args ...string) result {
	m.Helper()
	var out, errs lockedBuffer
	env := &Environment{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(name string) string { return m.env[name] }}
	env.ConfigDir, env.CacheDir = folder(m.env, "XDG_CONFIG_HOME"), folder(m.env, "XDG_CACHE_HOME")
	env.issuer = m.issuer
	env.OpenURL = func(address string) error {
		m.opened.Add(1)
		visit := m.visit
		if visit == nil {
			visit = func(address string) { m.answer(address, "allow") }
		}
		go visit(address)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // a test that would wait for a person
	defer cancel()
	code := Run(ctx, env, args)
	return result{m.T, args, code, out.String(), errs.String()}
}

func (m *desk) login(more ...string) result {
	m.Helper()
	return m.command(m.Context(), append([]string{"login", "--no-keyring", "--issuer", m.ready.Issuer}, more...)...)
}

func (m *desk) at(name string, more ...string) result {
	m.Helper()
	return m.command(m.Context(), append([]string{name, "--issuer", m.ready.Issuer}, more...)...)
}

var hidden = regexp.MustCompile(`name="flow" value="([^"]*)"`)

// get fetches a page.
func (m *desk) get(address string) (status int, location, body string) {
	response, err := m.http.Get(address)
	if err != nil {
		m.Errorf("%s: %v", address, err)
		return 0, "", ""
	}
	return read(m.T, response)
}

func read(t *testing.T, response *http.Response) (status int, location, body string) {
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, response.Header.Get("Location"), string(data)
}

// answer goes through the pages, and says what the browser shows at last.
func (m *desk) answer(address, decision string) (shown string) {
	_, _, shown = m.get(m.walk(address, decision))
	return shown
}

// walk goes through the pages of the service, and says where they lead.
func (m *desk) walk(address, decision string) string {
	for range 10 {
		if !strings.HasPrefix(address, m.ready.Issuer+"/") {
			return address
		}
		_, location, body := m.get(address)
		for location == "" {
			flow := hidden.FindStringSubmatch(body)
			if flow == nil {
				m.Errorf("%s is no form: %s", address, body)
				return address
			}
			to, form := "/login", url.Values{"flow": {flow[1]}, "username": {"ada"}, "password": {demoPassword}}
			if strings.Contains(body, `id="allow"`) {
				to, form = "/consent", url.Values{"flow": {flow[1]}, "decision": {decision}}
			}
			response, err := m.http.PostForm(m.ready.Issuer+to, form)
			if err != nil {
				m.Error(err)
				return address
			}
			_, location, body = read(m.T, response)
		}
		if strings.HasPrefix(location, "/") {
			location = m.ready.Issuer + location
		}
		address = location
	}
	m.Error("the pages go round")
	return address
}

func (m *desk) store() *logins.Store {
	return &logins.Store{Dir: filepath.Join(m.env["XDG_CONFIG_HOME"], "signalbox", "logins")}
}

func (m *desk) kept() logins.Login {
	m.Helper()
	l, err := m.store().Get(m.Context(), m.ready.Issuer)
	if err != nil {
		m.Fatal(err)
	}
	return l
}

// active asks the service whether it still takes a token.
func (m *desk) active(token string) bool {
	m.Helper()
	request, err := http.NewRequest(http.MethodGet, m.ready.Issuer+"/userinfo", nil)
	if err != nil {
		m.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.Fatal(err)
	}
	status, _, _ := read(m.T, response)
	return status == http.StatusOK
}

func TestAPersonSignsInAtATerminalAndOutAgain(t *testing.T) {
	m := newTerminal(t)
	m.at("whoami").wants(1, "nobody is signed in at "+m.ready.Issuer, "signalbox login --issuer "+m.ready.Issuer)
	m.at("logout").wants(0, "nobody is signed in")
	shown := make(chan string, 1)
	m.visit = func(address string) { shown <- m.answer(address, "allow") }
	m.login().wants(0, "you are signed in: ada at "+m.ready.Issuer+" until ", "in a file beside it", "context local is made and in use")
	if page := within(t, "the page at the end", shown); !strings.Contains(page, "You can close this window.") {
		t.Errorf("the browser shows %s", page)
	}
	var is identity
	m.command(t.Context(), "whoami", "-o", "json").wants(0).into(&is)
	if is.Username != "ada" || is.Name != "Ada Lovelace" || is.Subject == "" || is.Issuer != m.ready.Issuer || strings.Join(is.Scopes, " ") != "openid profile" {
		t.Errorf("%+v", is)
	}
	if is.EndsAt == nil || time.Until(*is.EndsAt) > 12*time.Hour || time.Until(*is.EndsAt) < 11*time.Hour {
		t.Errorf("it ends at %v, not with the browser's session", is.EndsAt)
	}
	m.command(t.Context(), "whoami").wants(0, "ada", "Ada Lovelace", "openid, profile", "ends_at")
	m.login().wants(0, "you are signed in already: ada")
	if n := m.opened.Load(); n != 1 {
		t.Errorf("%d pages were opened", n)
	}
	l := m.kept()
	if !m.active(l.AccessToken) {
		t.Fatal("the access token is not good")
	}
	m.command(t.Context(), "logout").wants(0, "ada at "+m.ready.Issuer+" is signed out here")
	if m.active(l.AccessToken) {
		t.Error("the access token outlives the sign-out")
	}
	m.at("whoami").wants(1, "nobody is signed in")
	m.at("logout").wants(0, "nobody is signed in")
}

func TestAnAccessTokenOfATerminalIsGoodAtTheIssuerAlone(t *testing.T) {
	m := newTerminal(t)
	m.login().wants(0)
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(m.kept().AccessToken, ".")[1])
	var claims struct {
		Audience any `json:"aud"`
	}
	if err := errors.Join(err, json.Unmarshal(body, &claims)); err != nil || claims.Audience != m.ready.Issuer {
		t.Errorf("it is for %v (%v)", claims.Audience, err)
	}
}

func TestOfSeveralLoginsAtOnceOneOpensABrowser(t *testing.T) {
	m := newTerminal(t)
	begin := make(chan struct{})
	m.visit = func(address string) { <-begin; m.answer(address, "allow") }
	var all sync.WaitGroup
	results := make(chan result, 4)
	for range 4 {
		all.Go(func() { results <- m.login() })
	}
	close(begin)
	all.Wait()
	for range 4 {
		(<-results).wants(0, "you are signed in")
	}
	if n := m.opened.Load(); n != 1 {
		t.Errorf("%d pages were opened", n)
	}
}

func TestWhoDoesNotAllowItIsNotSignedIn(t *testing.T) {
	m := newTerminal(t)
	shown := make(chan string, 1)
	m.visit = func(address string) { shown <- m.answer(address, "deny") }
	m.login().wants(1, "access_denied")
	if page := within(t, "the page at the end", shown); !strings.Contains(page, "You are not signed in") {
		t.Errorf("the browser shows %s", page)
	}
	m.at("whoami").wants(1, "nobody is signed in")
}

// What is sent to the port by others must not sign anybody in, nor keep the person
// from it (docs/security/threats.md B 31).
func TestOnlyTheAnswerToThisSignInIsTaken(t *testing.T) {
	m := newTerminal(t)
	other := m.fresh() // whose code an attacker would like to be used here
	code := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	other.visit = func(address string) {
		code <- other.codeFor(address)
		cancel()
	}
	other.command(ctx, "login", "--no-keyring", "--issuer", m.ready.Issuer).wants(1, "interrupted")
	stolen := within(t, "a code of the attacker's", code)

	m.visit = func(address string) {
		u, _ := url.Parse(address)
		q := u.Query()
		port, state := q.Get("redirect_uri"), q.Get("state")
		for name, wrong := range map[string]string{
			"no state":                   "?code=" + stolen,
			"another state":              "?state=" + randomText() + "&code=" + stolen,
			"the state twice":            "?state=" + state + "&state=" + state + "&code=" + stolen,
			"an error without the state": "?error=access_denied",
			"nothing":                    "",
		} {
			if status, _, body := m.get(port + wrong); status != http.StatusBadRequest || strings.Contains(body, stolen) {
				t.Errorf("%s: %d %s", name, status, body)
			}
		}
		if status, _, _ := m.get(strings.TrimSuffix(port, loopbackPath) + "/?state=" + state + "&code=" + stolen); status != http.StatusNotFound {
			t.Errorf("another path: %d", status)
		}
		response, err := m.http.PostForm(port, url.Values{"state": {state}, "code": {stolen}})
		if err != nil {
			t.Error(err)
		} else if status, _, _ := read(t, response); status != http.StatusNotFound {
			t.Errorf("a post: %d", status)
		}
		request, _ := http.NewRequest(http.MethodGet, port+"?state="+state+"&code="+stolen, nil)
		request.Host = "localhost" + request.URL.Host[strings.Index(request.URL.Host, ":"):]
		if response, err = m.http.Do(request); err != nil {
			t.Error(err)
		} else if status, _, _ := read(t, response); status != http.StatusMisdirectedRequest {
			t.Errorf("another name for this machine: %d", status)
		}
		m.answer(address, "allow")
	}
	m.login().wants(0, "you are signed in: ada")
}

// codeFor goes through the pages and keeps the code.
func (m *desk) codeFor(address string) string {
	u, err := url.Parse(m.walk(address, "allow"))
	if err != nil || u.Query().Get("code") == "" {
		m.Errorf("no code: %v", err)
		return ""
	}
	return u.Query().Get("code")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestThePortTakesOneAnswer(t *testing.T) {
	l, err := listenOnLoopback("the-state", "https://sts.example.com", true)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	answer := func(code string) int {
		response, err := http.Get(l.redirectURI() + "?" + url.Values{"state": {"the-state"}, "iss": {"https://sts.example.com"}, "code": {code}}.Encode())
		if err != nil {
			t.Error(err)
			return 0
		}
		status, _, _ := read(t, response)
		return status
	}
	first := make(chan int, 1)
	go func() { first <- answer("first") }()
	if code, err := l.wait(t.Context()); code != "first" || err != nil {
		t.Fatal(code, err)
	}
	if status := answer("second"); status != http.StatusBadRequest {
		t.Errorf("a second answer: %d", status)
	}
	l.told(true)
	if status := within(t, "the page of the first answer", first); status != http.StatusOK {
		t.Errorf("the first answer: %d", status)
	}
	if status := answer("third"); status != http.StatusBadRequest {
		t.Errorf("a third answer: %d", status)
	}
}

// A code of an attacker's own sign-in, sent with the right state, is worth nothing
// without the verifier that it was made for.
func TestACodeOfAnotherSignInIsNotTaken(t *testing.T) {
	m := newTerminal(t)
	other := m.fresh()
	m.visit = func(address string) {
		u, _ := url.Parse(address)
		q := u.Query()
		redirect, state := q.Get("redirect_uri"), q.Get("state")
		q.Set("code_challenge", challengeOf(randomText()))
		u.RawQuery = q.Encode()
		m.get(redirect + "?" + url.Values{"state": {state}, "code": {other.codeFor(u.String())}, "iss": {m.ready.Issuer}}.Encode())
	}
	r := m.login().wants(1, "invalid_grant", "code_verifier")
	if strings.Contains(r.err, "sbx_") {
		t.Errorf("it tells the code: %s", r.err)
	}
	m.at("whoami").wants(1, "nobody is signed in")
}

func TestAnIDTokenOfAnotherSignInIsNotTaken(t *testing.T) {
	m := newTerminal(t)
	var got struct {
		IDToken string `json:"id_token"`
	}
	m.issuer = &http.Client{CheckRedirect: followNone, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || r.URL.Path != "/token" {
			return response, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body = io.NopCloser(bytes.NewReader(body))
		return response, errors.Join(err, json.Unmarshal(body, &got))
	})}
	var nonce string
	m.visit = func(address string) {
		u, _ := url.Parse(address)
		nonce = u.Query().Get("nonce")
		m.answer(address, "allow")
	}
	m.login().wants(0)
	p := person{env: &Environment{Err: io.Discard, Getenv: func(string) string { return "" }}, client: client{issuer: m.ready.Issuer}}
	if subject, err := p.subjectOf(t.Context(), got.IDToken, nonce); err != nil || subject != m.kept().Subject {
		t.Errorf("its own: %q, %v", subject, err)
	}
	for name, wrong := range map[string]string{"another": randomText(), "none": ""} {
		if _, err := p.subjectOf(t.Context(), got.IDToken, wrong); err == nil || !strings.Contains(err.Error(), "nonce") {
			t.Errorf("with %s nonce: %v", name, err)
		}
	}
	if _, err := p.subjectOf(t.Context(), m.kept().AccessToken, nonce); err == nil {
		t.Error("an access token is taken for an ID token")
	}
}

func TestTheAnswerOfAnotherIssuerIsNotTaken(t *testing.T) {
	m := newTerminal(t)
	for name, iss := range map[string]string{"another": "https://evil.example.com", "none": ""} {
		m.visit = func(address string) {
			u, _ := url.Parse(address)
			q := url.Values{"state": {u.Query().Get("state")}, "code": {"x"}}
			if iss != "" {
				q.Set("iss", iss)
			}
			m.get(u.Query().Get("redirect_uri") + "?" + q.Encode())
		}
		if r := m.login(); r.code != 1 || !strings.Contains(r.err, "and not from "+m.ready.Issuer) {
			t.Errorf("%s: %s", name, r.err)
		}
	}
}

func TestASignInThatTheServiceRefusesOpensNoBrowser(t *testing.T) {
	m := &desk{shell: &shell{T: t, env: map[string]string{"XDG_CONFIG_HOME": t.TempDir()}}}
	for said, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"must know the client " + loginClient: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"invalid_scope: not openid": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.FormValue("redirect_uri")+"?error=invalid_scope&error_description=not+openid", http.StatusSeeOther)
		},
	} {
		var server *httptest.Server
		server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/authorize" {
				answer(w, r)
				return
			}
			_ = json.NewEncoder(w).Encode(issuerMetadata{Issuer: server.URL, AuthorizationEndpoint: server.URL + "/authorize", TokenEndpoint: server.URL + "/token"})
		}))
		m.command(t.Context(), "login", "--issuer", server.URL).wants(1, said)
		server.Close()
	}
	if m.opened.Load() != 0 {
		t.Error("a page was opened for nothing")
	}
}

func TestASignInThatWasEndedElsewhereIsOver(t *testing.T) {
	m := newTerminal(t)
	m.login().wants(0)
	admin := *m.shell
	admin.env = map[string]string{"SIGNALBOX_ADMIN_URL": m.ready.AdminURL, "SIGNALBOX_ADMIN_TOKEN": m.ready.AdminToken}
	admin.run("user", "revoke", "ada", "--yes").wants(0)
	m.at("whoami").wants(1, "the sign-in is over at "+m.ready.Issuer, "signalbox login")
	m.at("whoami").wants(1, "nobody is signed in")
	m.visit = nil
	m.login().wants(0, "you are signed in: ada")
}

func TestSigningOutNeedsTheService(t *testing.T) {
	m := newTerminal(t)
	m.login().wants(0)
	l := m.kept()
	offline := m.offline()
	offline("logout").wants(1, "cannot be reached", "the sign-in is alive there until ", "still kept here", "--local")
	if got := m.kept(); got.ID != l.ID {
		t.Error("it is not kept")
	}
	offline("whoami").wants(1, "cannot be reached")
	offline("logout", "--local").wants(0, "removed from this machine", "it is alive until ")
	m.at("whoami").wants(1, "nobody is signed in")
	if !m.active(l.AccessToken) {
		t.Error("the service was asked")
	}
}

// offline runs commands on this machine while the service cannot be reached.
func (m *desk) offline() func(args ...string) result {
	return func(args ...string) result {
		m.Helper()
		var out, errs lockedBuffer
		env := &Environment{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(name string) string { return m.env[name] }}
		env.ConfigDir, env.CacheDir = folder(m.env, "XDG_CONFIG_HOME"), folder(m.env, "XDG_CACHE_HOME")
		env.issuer = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") })}
		code := Run(m.Context(), env, args)
		return result{m.T, args, code, out.String(), errs.String()}
	}
}

// The service takes who comes with an old refresh token for a thief. An answer that
// got lost on the way is no reason to sign in again.
func TestALostAnswerLosesNoSignIn(t *testing.T) {
	for name, lose := range map[string]func() (*http.Response, error){
		"the connection":     func() (*http.Response, error) { return nil, errors.New("connection reset by peer") },
		"a proxy in between": func() (*http.Response, error) { return notServed(http.StatusBadGateway), nil },
		"a proxy that waits": func() (*http.Response, error) { return notServed(http.StatusGatewayTimeout), nil },
	} {
		t.Run(name, func(t *testing.T) { loseAnAnswer(t, lose) })
	}
}

func notServed(status int) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<html>"))}
}

// loseAnAnswer loses the first answer of the token endpoint to a renewal.
func loseAnAnswer(t *testing.T, lose func() (*http.Response, error)) {
	m := newTerminal(t)
	m.login().wants(0)
	first := m.kept()
	lost := 0
	var out, errs lockedBuffer
	env := &Environment{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(name string) string { return m.env[name] }}
	env.ConfigDir, env.CacheDir = folder(m.env, "XDG_CONFIG_HOME"), folder(m.env, "XDG_CACHE_HOME")
	env.Now = func() time.Time { return time.Now().Add(10 * time.Minute) } // the access token has expired
	env.issuer = &http.Client{CheckRedirect: followNone, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		response, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && r.URL.Path == "/token" && lost == 0 {
			lost++
			_ = response.Body.Close()
			return lose()
		}
		return response, err
	})}
	if code := Run(t.Context(), env, []string{"whoami", "--issuer", m.ready.Issuer}); code != 0 || lost != 1 {
		t.Fatalf("%d: %s", code, errs.String())
	}
	if next := m.kept(); next.RefreshToken == first.RefreshToken || next.ID != first.ID {
		t.Error("nothing was renewed")
	}
	m.at("whoami").wants(0)
}

// signedInAt keeps a sign-in at an issuer that answers as a test says.
func (i *exchangeIssuer) signedInAt(obtained time.Time) *logins.Store {
	i.Helper()
	store := &logins.Store{Dir: filepath.Join(i.env["XDG_CONFIG_HOME"], "signalbox", "logins")}
	l := logins.New(logins.Login{Issuer: i.url, Subject: "ada-id", Username: "ada", RefreshToken: "refresh-0", AccessToken: "access-0", ObtainedAt: obtained, ExpiresAt: obtained.Add(5 * time.Minute)})
	if _, err := store.Put(i.Context(), l); err != nil {
		i.Fatal(err)
	}
	return store
}

// people answers refreshes and exchanges. Its refresh tokens work once.
func (i *exchangeIssuer) people(w http.ResponseWriter, r *http.Request) {
	n := 0
	for _, a := range i.requests() {
		if a.form.Get("grant_type") == "refresh_token" {
			n++
		}
	}
	switch r.PostForm.Get("grant_type") {
	case "refresh_token":
		if r.PostForm.Get("refresh_token") != fmt.Sprint("refresh-", n-1) || r.PostForm.Get("client_id") != loginClient {
			refuses(http.StatusBadRequest, "invalid_grant", "used already")(w, r)
			return
		}
		fmt.Fprintf(w, `{"access_token":"access-%[1]d","token_type":"Bearer","expires_in":300,"refresh_token":"refresh-%[1]d"}`, n)
	case string(oauth.TokenExchange):
		if r.PostForm.Get("subject_token") != fmt.Sprint("access-", n) || r.PostForm.Get("client_id") != loginClient || r.PostForm.Get("subject_token_type") != string(oauth.TokenTypeAccessToken) {
			refuses(http.StatusBadRequest, "invalid_request", "not active")(w, r)
			return
		}
		fmt.Fprintf(w, `{"access_token":"%s-of-%s","token_type":"Bearer","expires_in":300}`, r.PostForm.Get("audience"), r.PostForm.Get("subject_token"))
	}
}

func (i *exchangeIssuer) person(cluster string) result {
	i.Helper()
	return i.run("kube-credential", "--issuer", i.url, "--cluster", cluster)
}

func (i *exchangeIssuer) wasAsked(grants ...string) {
	i.Helper()
	var got []string
	for _, a := range i.requests() {
		got = append(got, strings.TrimPrefix(a.form.Get("grant_type"), "urn:ietf:params:oauth:grant-type:"))
	}
	if strings.Join(got, " ") != strings.Join(grants, " ") {
		i.Errorf("the issuer was asked for %v, not %v", got, grants)
	}
}

func TestKubectlAsksForWhoeverHasSignedIn(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.people
	i.person("spoke-a").wants(1, "nobody is signed in at "+i.url, "signalbox login --issuer "+i.url, "/var/run/secrets/signalbox/token, which is not there")
	store := i.signedInAt(time.Now())
	i.person("spoke-a").wants(0, `"spoke-a-of-access-0"`)
	i.person("spoke-a").wants(0, `"spoke-a-of-access-0"`)
	i.person("spoke-b").wants(0, `"spoke-b-of-access-0"`)
	i.wasAsked("token-exchange", "token-exchange")
	// The next sign-in gets nothing that was kept for this one.
	i.signedInAt(time.Now())
	i.person("spoke-a").wants(0, `"spoke-a-of-access-0"`)
	i.wasAsked("token-exchange", "token-exchange", "token-exchange")
	// A token that is kept needs no key, so no keyring is asked for every kubectl.
	keys, err := filepath.Glob(filepath.Join(store.Dir, "*.key"))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if err := os.Remove(keys[0]); err != nil {
		t.Fatal(err)
	}
	i.person("spoke-a").wants(0, `"spoke-a-of-access-0"`)
	i.person("spoke-b").wants(1, "the key of the sign-in cannot be read")
	i.run("logout", "--issuer", i.url).wants(1, "signalbox logout --local removes it")
	id, err := store.ID(i.url)
	if err != nil {
		t.Fatal(err)
	}
	i.run("logout", "--local", "--issuer", i.url).wants(0)
	if _, err := os.Stat(filepath.Join(i.env["XDG_CACHE_HOME"], "signalbox", "logins", id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what came of the sign-in is still kept: %v", err)
	}
	i.person("spoke-a").wants(1, "nobody is signed in")
}

func TestAnAccessTokenIsRenewedBeforeItIsExchangedForAShortLife(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.people
	i.signedInAt(time.Now().Add(-101 * time.Second))
	i.person("spoke-a").wants(0, `"spoke-a-of-access-1"`)
	i.person("spoke-b").wants(0, `"spoke-b-of-access-1"`)
	i.wasAsked("refresh_token", "token-exchange", "token-exchange")
}

func TestASignInThatIsOverTellsKubectlSo(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = refuses(http.StatusBadRequest, "invalid_request", "not active")
	store := i.signedInAt(time.Now())
	i.answer = func(w http.ResponseWriter, r *http.Request) {
		code := "invalid_request"
		if r.PostForm.Get("grant_type") == "refresh_token" {
			code = "invalid_grant"
		}
		refuses(http.StatusBadRequest, code, "ended")(w, r)
	}
	i.person("spoke-a").wants(1, "the sign-in is over at "+i.url, "invalid_grant: ended", "signalbox login --issuer "+i.url)
	if _, err := store.Get(t.Context(), i.url); !errors.Is(err, logins.ErrNone) {
		t.Errorf("it is kept: %v", err)
	}
	i.wasAsked("token-exchange", "refresh_token")
}

func TestWhereNoPolicyLeadsAPersonIsToldOfGroups(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = refuses(http.StatusBadRequest, "invalid_target", "no trust policy")
	i.signedInAt(time.Now())
	i.person("spoke-a").wants(1, "invalid_target", "user_group", "signalbox why")
}

// A refresh token that has been sent is spent. What the service answers is kept,
// whatever happens at the terminal meanwhile (docs/security/threats.md L 120).
func TestCtrlCInTheMiddleOfARenewalLosesNoSignIn(t *testing.T) {
	i := newExchangeIssuer(t)
	ctx, interrupt := context.WithCancel(t.Context())
	i.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("grant_type") == "refresh_token" {
			interrupt()
		}
		i.people(w, r)
	}
	store := i.signedInAt(time.Now().Add(-4 * time.Minute))
	execute(t, ctx, i.env, strings.NewReader(""), "kube-credential", "--issuer", i.url, "--cluster", "spoke-a").wants(1)
	if l, err := store.Get(t.Context(), i.url); err != nil || l.RefreshToken != "refresh-1" {
		t.Errorf("what the service answered is lost: %q, %v", l.RefreshToken, err)
	}
	i.answer = i.people
	i.person("spoke-a").wants(0, `"spoke-a-of-access-1"`)
}

func TestGitAndTokenExchangeAskForWhoeverHasSignedIn(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.people
	resource := []string{"--issuer", i.url, "--resource", "https://git.example.com"}
	git := func(operation, said string) result {
		t.Helper()
		return execute(t, t.Context(), i.env, strings.NewReader("protocol=https\nhost=git.example.com\n"+said+"\n"), append(append([]string{"git-credential"}, resource...), operation)...)
	}
	git("get", "").wants(1, "nobody is signed in")
	i.run(append([]string{"token", "exchange"}, resource...)...).wants(1, "nobody is signed in", "which is not there")
	i.signedInAt(time.Now())
	git("get", "").wants(0, "password=-of-access-0")
	git("get", "").wants(0, "password=-of-access-0")
	git("erase", "password=-of-access-0\n").wants(0)
	git("get", "").wants(0, "password=-of-access-0")
	i.wasAsked("token-exchange", "token-exchange")
	i.run(append([]string{"token", "exchange"}, resource...)...).wants(0, "-of-access-0", "a token for https://git.example.com")
	i.run("token", "exchange", "--issuer", i.url, "--cluster", "spoke-a", "-o", "json").wants(0, `"spoke-a-of-access-0"`)
	i.wasAsked("token-exchange", "token-exchange", "token-exchange", "token-exchange")
}

func TestAPodIsNoPerson(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.people
	i.signedInAt(time.Now())
	i.run("kube-credential", "--issuer", i.url, "--cluster", "spoke-a", "--subject-token-file", "/nonexistent/token").wants(1, "there is no file /nonexistent/token to prove who asks")
	i.wasAsked()
}
