package signalboxtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Request says which token a test wants.
type Request struct {
	Client   string   // its id
	User     string   // a username: the token is that person's. Empty: the client's own
	Resource string   // empty: what the scopes belong to
	Scopes   []string // empty: all that the client may have
}

// Token is what the token endpoint answered.
type Token struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
}

// Token gets a token as the client would: with client credentials, or by the
// authorization code of a person who signs in and allows what is asked. A
// refresh token comes with a person's token; an ID token where the scopes have
// openid.
func (i *Issuer) Token(r Request) Token {
	i.helper()
	i.asking.RLock()
	defer i.asking.RUnlock()
	return i.token(r, i.user(r.User).browser)
}

func (i *Issuer) token(r Request, browser *http.Client) Token {
	i.helper()
	client := i.client(r.Client)
	if len(r.Scopes) == 0 {
		r.Scopes = client.Scopes
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(r.Scopes, " ")}}
	if r.User != "" {
		code, verifier := i.approve(r, browser)
		form = url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirectURI}}
	}
	if r.Resource != "" {
		form.Set("resource", r.Resource)
	}
	var token Token
	i.post(client, "/token", form, &token)
	return token
}

// ExpiredToken gets a token whose time is over by the real clock, for verifiers
// whose clock cannot be set: it was issued some time ago.
func (i *Issuer) ExpiredToken(r Request) Token {
	i.helper()
	const ago = 2 * time.Hour // no access token lives longer than one
	i.asking.Lock()
	defer i.asking.Unlock()
	i.ahead.Add(-int64(ago))
	defer i.Advance(ago)
	return i.token(r, i.newBrowser())
}

// post sends a form with the client's credentials.
func (i *Issuer) post(c registered, path string, form url.Values, into any) {
	i.helper()
	if c.Public {
		form.Set("client_id", c.ID)
	}
	request, err := http.NewRequest(http.MethodPost, i.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !c.Public {
		request.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.secret))
	}
	i.do(i.http, request, into)
}

// do sends a request and wants success.
func (i *Issuer) do(client *http.Client, request *http.Request, into any) {
	i.helper()
	response, err := client.Do(request)
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		i.fail("signalboxtest: %s %s: %s: %s %v", request.Method, request.URL.Path, response.Status, body, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(body, into); err != nil {
		i.fail("signalboxtest: %s %s: %v: %s", request.Method, request.URL.Path, err, body)
	}
}

func (i *Issuer) newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil) // never fails
	browser := *i.http
	browser.Jar = jar
	return &browser
}

// approve goes the way of a person: to the client's request, through the
// sign-in where it is needed, to the consent, and back with a code.
func (i *Issuer) approve(r Request, browser *http.Client) (code, verifier string) {
	i.helper()
	user := i.user(r.User)
	verifier = randomText() + randomText()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {r.Client}, "redirect_uri": {redirectURI}, "scope": {strings.Join(r.Scopes, " ")},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if r.Resource != "" {
		query.Set("resource", r.Resource)
	}
	method, at, form := http.MethodGet, i.URL+"/authorize?"+query.Encode(), url.Values(nil)
	for range 10 {
		page, next := i.visit(browser, method, at, form)
		if strings.HasPrefix(next, redirectURI) {
			back, err := url.Parse(next)
			if err != nil || back.Query().Get("code") == "" {
				i.fail("signalboxtest: a token for %s: %s", r.User, next)
			}
			return back.Query().Get("code"), verifier
		}
		flow := flowField.FindStringSubmatch(page)
		switch {
		case next != "":
			method, at, form = http.MethodGet, next, nil
		case flow != nil && strings.Contains(page, `id="sign-in"`):
			method, at, form = http.MethodPost, i.URL+"/login", url.Values{"flow": flow[1:], "username": {user.Username}, "password": {user.Password}}
		case flow != nil && strings.Contains(page, `id="allow"`):
			method, at, form = http.MethodPost, i.URL+"/consent", url.Values{"flow": flow[1:], "decision": {"allow"}}
		default:
			i.fail("signalboxtest: a token for %s: an unexpected page:\n%s", r.User, page)
		}
	}
	i.fail("signalboxtest: a token for %s: the pages lead nowhere", r.User)
	return "", ""
}

var flowField = regexp.MustCompile(`name="flow" value="([^"]+)"`)

// visit is one step of a browser. It returns the page, or where it leads to.
func (i *Issuer) visit(browser *http.Client, method, at string, form url.Values) (page, next string) {
	i.helper()
	request, err := http.NewRequest(method, at, strings.NewReader(form.Encode()))
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", "null")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := browser.Do(request)
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	if to := response.Header.Get("Location"); to != "" {
		u, err := request.URL.Parse(to)
		if err != nil {
			i.fail("signalboxtest: %v", err)
		}
		return "", u.String()
	}
	return string(body), ""
}

func randomText() string {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}
