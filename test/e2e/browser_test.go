package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// browser behaves like a real one without JavaScript: it keeps cookies, reports a
// redirect to the test, and says where a form was sent from.
type browser struct {
	t      *testing.T
	http   *http.Client
	answer []page // everything it was shown
}

// page is one answer: where it is, what it said, and its first form.
type page struct {
	reply
	URL  *url.URL
	form *form
}

type form struct {
	method, action string
	fields         url.Values   // what is filled in already
	inputs         []string     // the names of the fields that a person fills in
	buttons        []formButton // in order
}

type formButton struct{ id, name, value, action string }

func (f *form) has(input string) bool {
	if f == nil {
		return false
	}
	for _, name := range f.inputs {
		if name == input {
			return true
		}
	}
	return false
}

func (f *form) button(id string) (formButton, bool) {
	if f != nil {
		for _, b := range f.buttons {
			if b.id == id {
				return b, true
			}
		}
	}
	return formButton{}, false
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, http: &http.Client{
		Timeout:       30 * time.Second,
		Jar:           loopbackJar{jar},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// loopbackJar treats loopback as a secure origin, as browsers do and Go's jar does not.
type loopbackJar struct{ http.CookieJar }

func (j loopbackJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.CookieJar.SetCookies(https(u), cookies)
}

func (j loopbackJar) Cookies(u *url.URL) []*http.Cookie { return j.CookieJar.Cookies(https(u)) }

func https(u *url.URL) *url.URL {
	secure := *u
	secure.Scheme = "https"
	return &secure
}

func (b *browser) get(target string) page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req)
}

// press fills in the page's form and presses the button with that id.
func (b *browser) press(p page, id string, typed url.Values) page {
	b.t.Helper()
	button, ok := p.form.button(id)
	if !ok {
		b.t.Fatalf("the page at %s has no button %q:\n%s", p.URL, id, p.Body)
	}
	return b.submit(p, button, typed, nil)
}

// submit is press for a test that forges the request's headers.
func (b *browser) submit(p page, button formButton, typed url.Values, change func(*http.Request)) page {
	b.t.Helper()
	if p.form == nil {
		b.t.Fatalf("no form at %s: %s", p.URL, p.reply)
	}
	values := url.Values{}
	for name, v := range p.form.fields {
		values[name] = v
	}
	for name, v := range typed {
		values[name] = v
	}
	if button.name != "" {
		values.Set(button.name, button.value)
	}
	action := p.form.action
	if button.action != "" {
		action = button.action
	}
	target, err := p.URL.Parse(action)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, target.String(), strings.NewReader(values.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.URL.Scheme+"://"+p.URL.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if change != nil {
		change(req)
	}
	return b.do(req)
}

func (b *browser) do(req *http.Request) page {
	b.t.Helper()
	resp, err := b.http.Do(req)
	p := page{reply: readReply(b.t, resp, err), URL: req.URL}
	if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
		p.form = firstForm(p.Body)
	}
	b.answer = append(b.answer, p)
	return p
}

// redirect resolves where an answer sends the browser; nil when it does not.
func (p page) redirect() *url.URL {
	if p.Status < 300 || p.Status > 399 || p.Header.Get("Location") == "" {
		return nil
	}
	to, err := p.URL.Parse(p.Header.Get("Location"))
	if err != nil {
		return nil
	}
	return to
}

// follow follows redirects as long as they stay at the service.
func (b *browser) follow(p page) page {
	b.t.Helper()
	for range 10 {
		to := p.redirect()
		if to == nil || to.Host != p.URL.Host {
			return p
		}
		p = b.get(to.String())
	}
	b.t.Fatalf("more than 10 redirects, the last to %s", p.URL)
	return p
}

// authorize opens an authorization request as a person would: it signs in and allows
// when asked, and returns the parameters that the client's redirect URI got.
func (b *browser) authorize(target string, who user, answer string) url.Values {
	b.t.Helper()
	p := b.follow(b.get(target))
	for range 6 {
		if to := p.redirect(); to != nil {
			return to.Query()
		}
		switch {
		case p.form.has("password"):
			p = b.follow(b.press(p, "sign-in", url.Values{"username": {who.Username}, "password": {who.Password}}))
		default:
			if _, ok := p.form.button("allow"); !ok {
				b.t.Fatalf("neither a sign-in, a consent nor a redirect at %s: %s", p.URL, p.reply)
			}
			p = b.follow(b.press(p, answer, nil))
		}
	}
	b.t.Fatalf("signed in and consented, but no redirect came: %s", p.reply)
	return nil
}

func firstForm(body []byte) *form {
	root, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	var f *form
	var walk func(n *html.Node, inside bool)
	walk = func(n *html.Node, inside bool) {
		if n.Type == html.ElementNode {
			switch {
			case n.Data == "form" && f == nil:
				f = &form{method: attr(n, "method"), action: attr(n, "action"), fields: url.Values{}}
				inside = true
			case n.Data == "form":
				inside = false
			case inside && n.Data == "input":
				switch kind := attr(n, "type"); kind {
				case "submit":
					f.buttons = append(f.buttons, buttonOf(n))
				case "checkbox", "radio":
					if _, checked := find(n, "checked"); checked {
						f.fields.Add(attr(n, "name"), attr(n, "value"))
					}
				case "hidden":
					f.fields.Add(attr(n, "name"), attr(n, "value"))
				default:
					f.fields.Add(attr(n, "name"), attr(n, "value"))
					f.inputs = append(f.inputs, attr(n, "name"))
				}
			case inside && n.Data == "button":
				f.buttons = append(f.buttons, buttonOf(n))
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, inside)
		}
	}
	walk(root, false)
	return f
}

func buttonOf(n *html.Node) formButton {
	return formButton{attr(n, "id"), attr(n, "name"), attr(n, "value"), attr(n, "formaction")}
}

func attr(n *html.Node, name string) string {
	v, _ := find(n, name)
	return v
}

func find(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// pkce is one code verifier with its S256 challenge (RFC 7636 §4).
type pkce struct{ verifier, challenge string }

func newPKCE() pkce {
	v := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(v))
	return pkce{v, base64.RawURLEncoding.EncodeToString(sum[:])}
}
