// Package browsertest is a browser without a screen, for tests of pages: it
// keeps cookies, sends what a browser sends, and finds its way in a page.
package browsertest

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// Browser is one browser in front of one issuer.
type Browser struct {
	T       testing.TB
	Issuer  string // its URL
	Serve   http.Handler
	IP      string
	Cookies map[string]string
	Ctx     context.Context // of its next requests; nil for the test's

	mu sync.Mutex
}

// New makes a browser without cookies.
func New(t testing.TB, issuer string, serve http.Handler) *Browser {
	return &Browser{T: t, Issuer: issuer, Serve: serve, IP: "192.0.2.7", Cookies: map[string]string{}}
}

// Do sends a request; a form is sent as one of our own pages sends it.
func (b *Browser) Do(method, target string, form url.Values, change ...func(*http.Request)) Page {
	b.T.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, b.Issuer+strings.TrimPrefix(target, b.Issuer), body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "null") // Referrer-Policy: no-referrer makes it so
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	b.mu.Lock()
	for name, value := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	b.mu.Unlock()
	for _, c := range change {
		c(r)
	}
	ctx := b.Ctx
	if ctx == nil {
		ctx = b.T.Context()
	}
	seen := &httpx.Request{ID: "req-1", Remote: b.IP}
	w := httptest.NewRecorder()
	b.Serve.ServeHTTP(w, r.WithContext(httpx.WithRequest(ctx, seen)))
	page := Page{b.T, w, w.Result().Cookies(), b.Issuer, seen.Log}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range page.Set {
		if c.MaxAge < 0 {
			delete(b.Cookies, c.Name)
		} else {
			b.Cookies[c.Name] = c.Value
		}
	}
	return page
}

// Get opens an address.
func (b *Browser) Get(target string) Page { b.T.Helper(); return b.Do(http.MethodGet, target, nil) }

// Post sends a form.
func (b *Browser) Post(target string, form url.Values) Page {
	b.T.Helper()
	return b.Do(http.MethodPost, target, form)
}

// SignIn fills in a sign-in page and follows the redirect, if it leads to a page of ours.
func (b *Browser) SignIn(page Page, username, password string) Page {
	b.T.Helper()
	got := b.Post("/login", url.Values{"flow": {page.Flow()}, "username": {username}, "password": {password}})
	if got.Code == http.StatusSeeOther && strings.HasPrefix(got.Location(), "/") {
		return b.Get(got.Location())
	}
	return got
}

// Page is one answer.
type Page struct {
	T testing.TB
	*httptest.ResponseRecorder
	Set    []*http.Cookie
	issuer string
	Log    httpx.Note // what the handler told the log
}

// Location is where the answer redirects to, relative to the issuer if it is there.
func (p Page) Location() string {
	return strings.TrimPrefix(p.Header().Get("Location"), p.issuer)
}

// Back is the parameters that the client gets; nil if the answer is not a
// redirect to a client.
func (p Page) Back() url.Values {
	u, err := url.Parse(p.Header().Get("Location"))
	if err != nil || p.Code != http.StatusSeeOther || u.Scheme == "" {
		return nil
	}
	return u.Query()
}

// Flow is the sealed state in the page's form.
func (p Page) Flow() string {
	p.T.Helper()
	return p.Attribute("flow", "value")
}

// Attribute finds an attribute of the element with that name or id.
func (p Page) Attribute(element, name string) string {
	p.T.Helper()
	root, err := html.Parse(strings.NewReader(p.Body.String()))
	if err != nil {
		p.T.Fatal(err)
	}
	for n := range root.Descendants() {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		if n.Type == html.ElementNode && (at["name"] == element || at["id"] == element) {
			return at[name]
		}
	}
	return ""
}

// Is says which page was shown: by its button, or "redirect", "page" or "nothing".
func (p Page) Is() string {
	body := p.Body.String()
	for _, id := range []string{"sign-in", "allow", "sign-out"} {
		if strings.Contains(body, `id="`+id+`"`) {
			return id
		}
	}
	if p.Header().Get("Location") != "" {
		return "redirect"
	}
	return cmp.Or(map[bool]string{true: "page"}[body != ""], "nothing")
}

// Spoiled is a sealed value with one letter changed.
func Spoiled(sealed string) string {
	i := len(sealed) / 2
	c := byte('A')
	if sealed[i] == c {
		c = 'B'
	}
	return sealed[:i] + string(c) + sealed[i+1:]
}
