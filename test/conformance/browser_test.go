package conformance

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browser is a person at a browser: it signs in as ada and allows what is asked.
type browser struct {
	*testing.T
	http.Client

	signIns int    // how often it was asked who it is
	asked   string // the username that the last sign-in page had filled in
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{T: t, Client: http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// arrival is where a browser ended: at the client, or on a page that asks nothing.
type arrival struct {
	url.Values        // what the client got; nil on a page
	uri        string // of the client; empty on a page
	form       bool   // the answer came in a form
	status     int
	page       string
}

// open goes to an address of the service and on until it arrives.
func (b *browser) open(target string) arrival {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, target, nil)
	if err != nil {
		b.Fatal(err)
	}
	return b.follow(request)
}

// submit sends a form to the service, as a page of another site does.
func (b *browser) submit(target string, fields url.Values) arrival {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, target, strings.NewReader(fields.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.follow(request)
}

func (b *browser) follow(request *http.Request) arrival {
	b.Helper()
	for range 12 {
		response, err := b.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			b.Fatal(err)
		}
		_ = response.Body.Close()
		method, target, fields := http.MethodGet, response.Header.Get("Location"), url.Values(nil)
		if target == "" {
			f := formOf(b.T, string(body))
			switch {
			case f.fields.Has("username"):
				b.signIns++
				b.asked = f.fields.Get("username")
				f.fields.Set("username", "ada")
				f.fields.Set("password", password)
			case f.decision != "":
				f.fields.Set("decision", f.decision)
			case f.action != "" && !strings.HasPrefix(f.action, "/"):
				return arrival{f.fields, f.action, true, response.StatusCode, ""}
			case f.action == "":
				return arrival{status: response.StatusCode, page: string(body)}
			}
			method, target, fields = http.MethodPost, f.action, f.fields
		}
		next, err := request.URL.Parse(target)
		if err != nil {
			b.Fatal(err)
		}
		if next.Host != request.URL.Host {
			query := next.Query()
			next.RawQuery = ""
			return arrival{query, next.String(), false, response.StatusCode, ""}
		}
		if request, err = http.NewRequestWithContext(b.Context(), method, next.String(), strings.NewReader(fields.Encode())); err != nil {
			b.Fatal(err)
		}
		if method == http.MethodPost {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Sec-Fetch-Site", "same-origin")
		}
	}
	b.Fatal("the pages lead nowhere")
	return arrival{}
}

// form is the form of a page.
type form struct {
	action   string
	fields   url.Values
	decision string // the value of its first button with the name decision
}

func formOf(t *testing.T, page string) form {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	f := form{fields: url.Values{}}
	for n := range root.Descendants() {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		switch {
		case n.Data == "form" && f.action == "":
			f.action = at["action"]
		case n.Data == "input":
			f.fields.Set(at["name"], at["value"])
		case n.Data == "button" && at["name"] == "decision" && f.decision == "":
			f.decision = at["value"]
		}
	}
	return f
}
