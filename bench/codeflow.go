//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// codeFlow gets refresh tokens as a browser and a web application would: the
// authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636) through the pages.
type codeFlow struct {
	issuer, clientID, secret, redirectURI string
	user, password                        string
	scope, resource                       string
}

// refreshTokens makes count grants in one browser session.
func (f codeFlow) refreshTokens(ctx context.Context, count int) ([]string, error) {
	browser := &http.Client{
		Jar:           &jar{cookies: map[string]*http.Cookie{}},
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var tokens []string
	for range count {
		verifier := rand.Text() + rand.Text()
		code, err := f.authorize(ctx, browser, verifier)
		if err != nil {
			return nil, err
		}
		token, err := f.redeem(ctx, code, verifier)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

func (f codeFlow) authorize(ctx context.Context, browser *http.Client, verifier string) (string, error) {
	state := rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {f.clientID}, "redirect_uri": {f.redirectURI}, "scope": {f.scope},
		"resource": {f.resource}, "state": {state}, "nonce": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	at, err := url.Parse(f.issuer + "/authorize?" + q.Encode())
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", at.String(), nil)
	if err != nil {
		return "", err
	}
	// Sign-in, consent and the redirects between them: eight steps are enough.
	for range 8 {
		resp, err := browser.Do(req)
		if err != nil {
			return "", err
		}
		page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil {
			return "", err
		}
		switch {
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			to, err := req.URL.Parse(resp.Header.Get("Location"))
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(to.String(), f.redirectURI) {
				got := to.Query()
				if got.Get("code") == "" || got.Get("state") != state {
					return "", fmt.Errorf("redirected without code or with another state: %s %s", got.Get("error"), got.Get("error_description"))
				}
				return got.Get("code"), nil
			}
			req, err = http.NewRequestWithContext(ctx, "GET", to.String(), nil)
			if err != nil {
				return "", err
			}
		case resp.StatusCode == http.StatusOK:
			action, fields, err := fillForm(string(page), map[string]string{"username": f.user, "password": f.password}, "sign-in", "allow")
			if err != nil {
				return "", fmt.Errorf("%s: %w", req.URL.Path, err)
			}
			to, err := req.URL.Parse(action)
			if err != nil {
				return "", err
			}
			req, err = http.NewRequestWithContext(ctx, "POST", to.String(), strings.NewReader(fields.Encode()))
			if err != nil {
				return "", err
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", f.issuer)
		default:
			return "", fmt.Errorf("%s %s: status %d: %.300s", req.Method, req.URL.Path, resp.StatusCode, page)
		}
	}
	return "", errors.New("no end of sign-in pages")
}

func (f codeFlow) redeem(ctx context.Context, code, verifier string) (string, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.redirectURI}, "code_verifier": {verifier},
		"client_id": {f.clientID}, "client_secret": {f.secret}}
	req, err := http.NewRequestWithContext(ctx, "POST", f.issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.RefreshToken == "" {
		return "", fmt.Errorf("code not redeemed: status %d, %.300s", resp.StatusCode, withoutTokens(body))
	}
	return answer.RefreshToken, nil
}

var (
	formTag   = regexp.MustCompile(`(?is)<form\b[^>]*>.*?</form>`)
	inputTag  = regexp.MustCompile(`(?is)<(?:input|button)\b[^>]*>`)
	attribute = regexp.MustCompile(`(?is)([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)
	tokenLike = regexp.MustCompile(`[A-Za-z0-9_.-]{30,}`)
)

// fillForm takes the page's form that has a button of one of the given ids,
// fills in the named fields, and keeps all others as they are.
func fillForm(page string, fill map[string]string, buttons ...string) (action string, fields url.Values, err error) {
	for _, form := range formTag.FindAllString(page, -1) {
		pressed := false
		fields = url.Values{}
		for _, tag := range inputTag.FindAllString(form, -1) {
			a := attributes(tag)
			if isButton := strings.HasPrefix(strings.ToLower(tag), "<button") || a["type"] == "submit"; isButton {
				for _, id := range buttons {
					if a["id"] == id {
						pressed = true
						if a["name"] != "" {
							fields.Add(a["name"], a["value"])
						}
					}
				}
				continue
			}
			if a["name"] == "" || (a["type"] == "checkbox" && !regexp.MustCompile(`(?i)\schecked\b`).MatchString(tag)) {
				continue
			}
			if v, ok := fill[a["name"]]; ok {
				fields.Set(a["name"], v)
			} else {
				fields.Add(a["name"], a["value"])
			}
		}
		if pressed {
			return attributes(form[:strings.IndexByte(form, '>')+1])["action"], fields, nil
		}
	}
	return "", nil, fmt.Errorf("no form with a button %s", strings.Join(buttons, " or "))
}

func attributes(tag string) map[string]string {
	m := map[string]string{}
	for _, a := range attribute.FindAllStringSubmatch(tag, -1) {
		m[strings.ToLower(a[1])] = html.UnescapeString(a[2] + a[3] + a[4])
	}
	return m
}

func withoutTokens(b []byte) []byte { return tokenLike.ReplaceAll(b, []byte("…")) }

// jar keeps Secure cookies on http loopback too, as browsers do and
// net/http/cookiejar does not.
type jar struct {
	mu      sync.Mutex
	cookies map[string]*http.Cookie
}

func (j *jar) SetCookies(_ *url.URL, set []*http.Cookie) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range set {
		if c.MaxAge < 0 || c.Value == "" {
			delete(j.cookies, c.Name)
		} else {
			j.cookies[c.Name] = c
		}
	}
}

func (j *jar) Cookies(u *url.URL) []*http.Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	var send []*http.Cookie
	for _, c := range j.cookies {
		if c.Path == "" || strings.HasPrefix(u.Path, c.Path) {
			send = append(send, &http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	return send
}
