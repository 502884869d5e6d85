// Package ui holds the pages that people see: templates, one style sheet and
// the structs that fill them. The pages need no JavaScript. A page gets plain
// values and knows nothing of clients, users or requests.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// View is one page. Its fields are all that the page shows.
type View interface {
	page() string  // the template's file, without .html
	title() string // the <title>, which a screen reader says first
}

// SignIn asks for username and password.
type SignIn struct {
	Flow       string // opaque, goes back with the form
	ClientName string // empty if the client is not to be named
	Username   string // filled in already
	Problem    string // why the last attempt failed; empty for the first
	Invalid    bool   // the problem is with what was typed
	RequestID  string
}

// Consent asks whether a client may do what it asks for.
type Consent struct {
	Flow       string
	ClientName string
	Username   string
	Where      string // where the answer goes, in words: a host, an app, this computer
	Unverified bool   // another program could pose as this client
	About      []Permission
	Resources  []ResourcePermissions
}

// ResourcePermissions are what a client may do at one resource.
type ResourcePermissions struct {
	Resource    string
	Permissions []Permission
}

// Permission is one scope in words.
type Permission struct {
	Words string
	Scope string // as the client asked for it; empty if it adds nothing to the words
}

// SignOut asks whether to end the session.
type SignOut struct {
	Flow       string
	ClientName string // empty if no client asked for it
	Username   string
}

// SignedOut says that the session has ended.
type SignedOut struct {
	Untold     []string     // applications that do not know it yet
	Frames     []string     // registered URLs that end sessions elsewhere, loaded out of sight
	Continue   template.URL // where the person came from, as registered; empty for nowhere
	ClientName string       // what Continue leads to
}

// Onward is where the page goes by itself when its frames have had a moment to load. A person who has
// something to read goes on when that is done.
func (v SignedOut) Onward() template.URL {
	if len(v.Frames) == 0 || len(v.Untold) > 0 {
		return ""
	}
	return v.Continue
}

// framePolicy lets the page load its frames, and nothing else of anybody.
func (v SignedOut) framePolicy() string {
	if len(v.Frames) == 0 {
		return ""
	}
	policy, seen := "; frame-src", map[string]bool{}
	for _, frame := range v.Frames {
		u, err := url.Parse(frame)
		if err != nil || strings.ContainsAny(u.Host, ";, ") {
			continue // it does not load
		}
		if origin := u.Scheme + "://" + u.Host; !seen[origin] {
			policy, seen[origin] = policy+" "+origin, true
		}
	}
	return policy
}

// Nothing is the page for people who came without a request.
type Nothing struct {
	Username string // empty if nobody is signed in
}

// FormPost sends an answer to an application with a form that submits itself
// (OAuth 2.0 Form Post Response Mode). Without JavaScript there is a button.
type FormPost struct {
	Action string // http or https
	Fields []Field
}

// Field is one hidden field of a form.
type Field struct{ Name, Value string }

// Problem says what went wrong, in words for people.
type Problem struct {
	Heading   string
	Text      string
	RequestID string
}

func (SignIn) page() string    { return "sign-in" }
func (Consent) page() string   { return "consent" }
func (SignOut) page() string   { return "sign-out" }
func (SignedOut) page() string { return "signed-out" }
func (Nothing) page() string   { return "nothing" }
func (FormPost) page() string  { return "form-post" }
func (Problem) page() string   { return "problem" }

func (v SignIn) title() string {
	if v.Problem != "" {
		return "Sign-in failed" // read out first: the page looks almost the same as before
	}
	return "Sign in"
}
func (v Consent) title() string { return "Allow " + v.ClientName + "?" }
func (SignOut) title() string   { return "Sign out?" }
func (SignedOut) title() string { return "Signed out" }
func (Nothing) title() string   { return "Nothing to do here" }
func (FormPost) title() string  { return "Back to the application" }
func (v Problem) title() string { return v.Heading }

// scripts are the pages that run one, and what they run. On every other page
// nothing runs.
var scripts = map[string]template.JS{"form-post": "document.forms[0].submit()"}

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed static/style.css
var styleSheet []byte

// styleName changes with the content, so that browsers may keep it forever.
var styleName = func() string {
	sum := sha256.Sum256(styleSheet)
	return "style." + hex.EncodeToString(sum[:8]) + ".css"
}()

// templates has each file in pages, by its name without .html.
var templates = func() map[string]*template.Template {
	layout := template.Must(template.ParseFS(pageFiles, "pages/layout.html"))
	files, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		panic(err) // only for a malformed pattern
	}
	all := map[string]*template.Template{}
	for _, file := range files {
		if name := strings.TrimSuffix(path.Base(file), ".html"); name != "layout" {
			all[name] = template.Must(template.Must(layout.Clone()).ParseFS(pageFiles, file))
		}
	}
	return all
}()

// Write answers with a page. base is the path of the issuer's URL, without a
// slash at the end: "" for most.
func Write(w http.ResponseWriter, status int, base string, v View) error {
	page, ok := templates[v.page()]
	if !ok {
		return fmt.Errorf("there is no page %q", v.page())
	}
	var body bytes.Buffer
	signedOut, _ := v.(SignedOut)
	err := page.Execute(&body, struct {
		Base, Style, Title string
		Script             template.JS
		Onward             template.URL
		View               View
	}{base, styleName, v.title(), scripts[v.page()], signedOut.Onward(), v})
	if err != nil {
		return err
	}
	SecurityHeaders(w.Header())
	if script := scripts[v.page()]; script != "" {
		sum := sha256.Sum256([]byte(script))
		w.Header().Set("Content-Security-Policy", contentPolicy+"; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	if frames := signedOut.framePolicy(); frames != "" {
		w.Header().Set("Content-Security-Policy", contentPolicy+frames)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, err = w.Write(body.Bytes())
	return err
}

const contentPolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"

// SecurityHeaders sets what every page, and every redirect from one, carries.
//
// form-action is omitted on purpose. Chromium applies it to the whole chain of
// redirects that follows a form: first the client's redirect URI, then wherever
// the client sends the browser next, which we cannot know. It would guard against
// a form injected into our page, but html/template escapes every value, and no
// page shows markup from outside.
func SecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// StylePath is where the style sheet is served, below the issuer's path.
func StylePath() string { return "/static/" + styleName }

// ServeStyle serves the style sheet. Its name holds its hash.
func ServeStyle(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(styleSheet)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(styleSheet)
}
