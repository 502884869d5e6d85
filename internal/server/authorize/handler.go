// Package authorize is the authorization endpoint, consent and sign-out
// (RFC 6749 §4.1, OpenID Connect Core §3.1.2, RP-Initiated Logout).
//
// Until a person has approved, nothing is stored: the request travels sealed
// in the page's form and is bound to the browser by a cookie. On approval it
// becomes one grant row and one authorization code.
package authorize

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/logout"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/signin"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Handler serves the pages. All fields are required.
type Handler struct {
	// Settings returns the issuer's URL and lifetimes as they are now. The URL
	// never changes.
	Settings  func() authority.Issuer
	Directory *authority.Directory
	Pages     *browser.Pages
	Sessions  *browser.Sessions
	SignIn    *signin.Handler
	Grants    authority.GrantStore
	Endings   *revocation.Endings
	// Record writes to the journal and returns when the entry is on disk.
	Record func(ctx context.Context, e authority.Event) error
	// Epoch is the newest "not before" mark that concerns the client or the
	// person: what they had allowed until then has to be asked about again.
	Epoch func(clientID, subjectID string) time.Time
	// ReadIDToken reads an ID token of ours, also an expired one: a hint.
	ReadIDToken func(raw string) (issue.IDToken, error)
	// Told waits a short while until the clients of a session that has just ended know.
	Told func(ctx context.Context, session authority.ID) logout.Outcome
	Now  func() time.Time
}

// Routes are the pages that an authorization request leads through. /authorize
// takes forms of other sites: OpenID Connect lets clients post to it, and all
// that it does with a POST is to turn it into a GET.
func (h *Handler) Routes() []browser.Route {
	return []browser.Route{
		{Path: "/authorize", Get: h.getAuthorize, Post: h.postAuthorize},
		{Path: "/consent", Get: h.Pages.Home, Post: h.Pages.Guard(h.postConsent)},
		{Path: "/logout", Get: h.getLogout, Post: h.postLogout},
	}
}

// answer sends the browser to the client (RFC 6749 §4.1.2), with the issuer's
// name against mix-up (RFC 9207): by a redirect, or by a form where the client
// asked for one (OAuth 2.0 Form Post Response Mode §2).
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, to destination, values url.Values) {
	if to.state != "" {
		values.Set("state", to.state)
	}
	values.Set("iss", h.Settings().URL)
	if to.formPost {
		var fields []ui.Field
		for _, name := range slices.Sorted(maps.Keys(values)) {
			fields = append(fields, ui.Field{Name: name, Value: values.Get(name)})
		}
		h.Pages.Show(w, r, http.StatusOK, ui.FormPost{Action: to.redirectURI, Fields: fields})
		return
	}
	browser.Go(w, withQuery(to.redirectURI, values))
}

// answerError sends an error to the client. What is not an oauth.Error is our
// own fault and becomes a page.
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, to destination, err error) {
	var refused *oauth.Error
	if !errors.As(err, &refused) {
		h.Pages.Fail(w, r, err)
		return
	}
	browser.Refused(r, string(refused.Code), err)
	h.answer(w, r, to, url.Values{"error": {string(refused.Code)}, "error_description": {describable(refused.Description)}})
}

// describable keeps to the characters of error_description (RFC 6749 §4.1.2.1).
func describable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"' || c == '\\':
			return '\''
		case c < 0x20 || c > 0x7e:
			return '?'
		default:
			return c
		}
	}, s)
}

// withQuery adds parameters to a URI that may have some already. The URI has
// no fragment: RedirectURI sees to that.
func withQuery(uri string, values url.Values) string {
	if len(values) == 0 {
		return uri
	}
	switch {
	case !strings.Contains(uri, "?"):
		uri += "?"
	case !strings.HasSuffix(uri, "?") && !strings.HasSuffix(uri, "&"):
		uri += "&"
	}
	return uri + values.Encode()
}
