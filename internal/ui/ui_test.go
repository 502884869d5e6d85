package ui

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`

func permissions(words string) []Permission { return []Permission{{Words: words, Scope: words}} }

// filled is every page with every field set to s.
func filled(s string) map[string]View {
	return map[string]View{
		"sign-in":          SignIn{Flow: s, ClientName: s, Username: s, Problem: s, Invalid: true, RequestID: s},
		"consent":          Consent{Flow: s, ClientName: s, Username: s, Where: s, Unverified: true, About: permissions(s), Resources: []ResourcePermissions{{s, permissions(s)}}},
		"sign-out":         SignOut{Flow: s, ClientName: s, Username: s},
		"signed-out":       SignedOut{},
		"signed-out, but":  SignedOut{Untold: []string{s}, ClientName: s, Continue: template.URL("https://app.example.com/bye?a=" + s)},
		"nothing":          Nothing{Username: s},
		"nothing, nobody":  Nothing{},
		"form-post":        FormPost{Action: "https://app.example.com/cb?a=" + s, Fields: []Field{{s, s}}},
		"problem":          Problem{Heading: s, Text: s, RequestID: s},
		"sign-in, at once": SignIn{Flow: s},
	}
}

// The other tests are about every page, so filled must have it.
func TestNoPageIsForgotten(t *testing.T) {
	seen := map[string]bool{}
	for name, v := range filled("x") {
		if seen[v.page()] = true; templates[v.page()] == nil {
			t.Errorf("%s: there is no pages/%s.html", name, v.page())
		}
	}
	for name := range templates {
		if !seen[name] {
			t.Errorf("add pages/%s.html to filled", name)
		}
	}
}

func render(t *testing.T, v View) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := Write(w, http.StatusOK, "/sts", v); err != nil {
		t.Fatal(err)
	}
	return w
}

// docs/security/threats.md A 19, K 115: what a client, a user or a request brought never becomes markup.
func TestNoValueBecomesMarkup(t *testing.T) {
	for name, v := range filled(evil) {
		each(t, render(t, v).Body.String(), func(n *html.Node) {
			ours := n.Data == "script" && n.FirstChild != nil && n.FirstChild.Data == string(scripts[v.page()])
			if n.Data == "script" && !ours || n.Data == "img" || n.Data == "style" || n.Data == "iframe" {
				t.Errorf("%s: a <%s> appeared", name, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
					t.Errorf("%s: <%s> has an attribute %s", name, n.Data, a.Key)
				}
			}
		})
	}
}

func TestEveryPageIsAccessible(t *testing.T) {
	for name, v := range filled("words") {
		ids, labels, described := map[string]int{}, map[string]bool{}, []string{}
		var inputs []string
		h1, lang, title := 0, "", ""
		each(t, render(t, v).Body.String(), func(n *html.Node) {
			at := attributes(n)
			if id := at["id"]; id != "" {
				ids[id]++
			}
			described = append(described, strings.Fields(at["aria-describedby"]+" "+at["aria-labelledby"])...)
			switch n.Data {
			case "html":
				lang = at["lang"]
			case "title":
				if n.FirstChild != nil {
					title = n.FirstChild.Data
				}
			case "h1":
				h1++
			case "label":
				labels[at["for"]] = true
			case "input":
				if at["type"] != "hidden" {
					inputs = append(inputs, at["id"])
					if at["autocomplete"] == "" {
						t.Errorf("%s: input %q says nothing about autocomplete", name, at["id"])
					}
				}
			}
		})
		if h1 != 1 || lang != "en" || title == "" {
			t.Errorf("%s: %d h1, lang %q, title %q", name, h1, lang, title)
		}
		for id, n := range ids {
			if n > 1 {
				t.Errorf("%s: id %q occurs %d times", name, id, n)
			}
		}
		for _, id := range inputs {
			if !labels[id] {
				t.Errorf("%s: input %q has no label", name, id)
			}
		}
		for _, id := range described {
			if ids[id] == 0 {
				t.Errorf("%s: %q is referred to and does not exist", name, id)
			}
		}
	}
}

// What a screen reader says with each field is the problem alone, and a field
// is called wrong only if it is.
func TestTheProblemIsReadOutWithTheFields(t *testing.T) {
	for row, tc := range map[string]struct {
		view               SignIn
		described, invalid string
	}{
		"at once":        {SignIn{}, "", ""},
		"wrong":          {SignIn{Problem: "Not right.", Invalid: true, RequestID: "req-1"}, "Not right.", "true"},
		"too many tries": {SignIn{Problem: "Wait.", RequestID: "req-1"}, "Wait.", ""},
	} {
		text, described := map[string]string{}, map[string]string{}
		each(t, render(t, tc.view).Body.String(), func(n *html.Node) {
			at := attributes(n)
			for c := range n.Descendants() {
				if c.Type == html.TextNode && at["id"] != "" {
					text[at["id"]] += c.Data
				}
			}
			if id := at["id"]; id == "username" || id == "password" {
				described[id] = at["aria-describedby"]
				if at["aria-invalid"] != tc.invalid {
					t.Errorf("%s: %s has aria-invalid %q; want %q", row, id, at["aria-invalid"], tc.invalid)
				}
			}
		})
		for _, id := range []string{"username", "password"} {
			if got := text[described[id]]; got != tc.described {
				t.Errorf("%s: %s is described by %q; want %q", row, id, got, tc.described)
			}
		}
	}
}

// product.md, Endpoints: these ids and names are a contract.
func TestStableIDs(t *testing.T) {
	all := filled("words")
	for page, wants := range map[string][]string{
		"sign-in":  {`id="sign-in"`, `name="username"`, `name="password"`, `action="/sts/login"`, `method="post"`, `autocomplete="username"`, `autocomplete="current-password"`},
		"consent":  {`id="allow"`, `id="deny"`, `action="/sts/consent"`, `method="post"`},
		"sign-out": {`id="sign-out"`, `action="/sts/logout"`, `method="post"`},
	} {
		body := render(t, all[page]).Body.String()
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %s", page, want)
			}
		}
	}
}

// docs/security/threats.md A 11, A 12.
func TestEveryPageCarriesTheSecurityHeaders(t *testing.T) {
	for name, v := range filled("words") {
		h := render(t, v).Header()
		policy := "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
		if name == "form-post" { // the hash of its one script
			policy += "; script-src 'sha256-ePniVEkSivX/c7XWBGafqh8tSpiRrKiqYeqbG7N1TOE='"
		}
		for header, want := range map[string]string{
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
			"Content-Security-Policy": policy,
		} {
			if h.Get(header) != want {
				t.Errorf("%s: %s is %q; want %q", name, header, h.Get(header), want)
			}
		}
	}
}

// Front-Channel Logout 1.0 §2: the frames load, nothing else does, and the page goes on by itself.
func TestTheSignedOutPageLoadsItsFrames(t *testing.T) {
	v := SignedOut{Frames: []string{"https://app.example.com/out?iss=x&sid=y", "https://app.example.com/other", "https://two.example.com:8443/out", "https://a;script-src *.example.com/"}, Continue: "com.example.app:/bye?state=x", ClientName: "App"}
	w := render(t, v)
	if got, want := w.Header().Get("Content-Security-Policy"), contentPolicy+"; frame-src https://app.example.com https://two.example.com:8443"; got != want {
		t.Errorf("policy %q, want %q", got, want)
	}
	var frames []string
	onward := ""
	each(t, w.Body.String(), func(n *html.Node) {
		at := attributes(n)
		switch {
		case n.Data == "iframe":
			frames = append(frames, at["src"])
		case n.Data == "meta" && at["http-equiv"] == "refresh":
			onward = at["content"]
		case n.Data == "a" && at["href"] != "com.example.app:/bye?state=x":
			t.Errorf("the link leads to %q", at["href"])
		}
	})
	if len(frames) != 4 || frames[0] != v.Frames[0] || onward != "3; url=com.example.app:/bye?state=x" {
		t.Errorf("frames %q, onward %q", frames, onward)
	}
	v.Untold = []string{"Acme"}
	if strings.Contains(render(t, v).Body.String(), "http-equiv") {
		t.Error("the page goes on before the person has read who could not be told")
	}
}

func TestPagesLoadNothingButTheStyleSheet(t *testing.T) {
	for name, v := range filled("words") {
		each(t, render(t, v).Body.String(), func(n *html.Node) {
			at := attributes(n)
			for _, key := range []string{"src", "srcset", "data", "background"} {
				if at[key] != "" {
					t.Errorf("%s: <%s %s=%q>", name, n.Data, key, at[key])
				}
			}
			if n.Data == "link" && at["href"] != "/sts"+StylePath() {
				t.Errorf("%s: links %q", name, at["href"])
			}
		})
	}
}

func TestStyleSheet(t *testing.T) {
	w := httptest.NewRecorder()
	ServeStyle(w, httptest.NewRequest(http.MethodGet, StylePath(), nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if strings.Contains(w.Body.String(), "url(") || strings.Contains(w.Body.String(), "@import") {
		t.Fatal("the style sheet loads something")
	}
}

func each(t *testing.T, page string, visit func(*html.Node)) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			visit(n)
		}
	}
}

func attributes(n *html.Node) map[string]string {
	m := map[string]string{}
	for _, a := range n.Attr {
		m[a.Key] = a.Val
	}
	return m
}
