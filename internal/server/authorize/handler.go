// Package authorize is where people meet Signalbox: the authorization
// endpoint, sign-in, consent and sign-out (RFC 6749 §4.1, OpenID Connect Core
// §3.1.2, RP-Initiated Logout).
//
// Until a person has approved, nothing is stored: the request travels sealed
// in the page's form and is bound to the browser by a cookie. On approval it
// becomes one grant row and one authorization code.
package authorize

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Handler serves the pages. All fields but Insecure are required.
type Handler struct {
	// Settings returns the issuer's URL and lifetimes as they are now. The URL
	// never changes.
	Settings  func() authority.Issuer
	Directory *authority.Directory
	Grants    authority.GrantStore
	Sessions  authority.SessionStore
	// Record writes to the journal and returns when the entry is on disk.
	Record func(ctx context.Context, e authority.Event) error
	// Tally writes to the journal without waiting: for what anonymous
	// callers can cause at will.
	Tally func(e authority.Event)
	// Revoked asks the revocation view.
	Revoked func([]authority.Link) bool
	Endings *revocation.Endings
	// Epoch is the newest "not before" mark that concerns the client or the
	// person: what they had allowed until then has to be asked about again.
	Epoch func(clientID, subjectID string) time.Time
	// VerifyHint reads an ID token of ours, also an expired one.
	VerifyHint func(raw string) (clientID, subject, sid string, err error)
	// State seals what travels through the browser.
	State *seal.Box
	Now   func() time.Time
	// Insecure is for an issuer with plain http on loopback: its cookies
	// cannot be marked Secure.
	Insecure bool

	attempts limiter
}

// Mount adds the routes. Every other method on them is answered with 405.
func (h *Handler) Mount(mux *http.ServeMux) {
	own := http.NewCrossOriginProtection()
	if u, err := url.Parse(h.Settings().URL); err == nil {
		// Behind a proxy the Host header may not be the issuer's.
		_ = own.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	}
	// guarded refuses a form that another site has sent (threats.md J 109).
	// /authorize is not guarded: OpenID Connect lets clients post to it, and
	// all that it does with a POST is to turn it into a GET.
	guarded := func(handle http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := own.Check(r); err != nil {
				h.problem(w, r, http.StatusForbidden, "This form came from another site", "For your safety it was not accepted. Go back to the application and start again.", err)
				return
			}
			handle(w, r)
		}
	}
	for _, route := range []struct {
		path      string
		get, post http.HandlerFunc
	}{
		{"/authorize", h.getAuthorize, h.postAuthorize},
		{"/login", h.home, guarded(h.postLogin)},
		{"/consent", h.home, guarded(h.postConsent)},
		{"/logout", h.getLogout, h.postLogout(guarded)},
		{"/{$}", h.getNothing, nil},
		{ui.StylePath(), ui.ServeStyle, nil},
	} {
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodGet && route.get != nil:
				route.get(w, r)
			case r.Method == http.MethodPost && route.post != nil:
				route.post(w, r)
			default:
				var allow []string
				if route.get != nil {
					allow = append(allow, http.MethodGet)
				}
				if route.post != nil {
					allow = append(allow, http.MethodPost)
				}
				w.Header().Set("Allow", strings.Join(allow, ", "))
				h.page(w, r, http.StatusMethodNotAllowed, ui.Nothing{})
			}
		})
	}
}

// home leads to the page for people who came without a request. Browsers open
// the address of a form again when a window is restored or the address bar is used.
func (h *Handler) home(w http.ResponseWriter, _ *http.Request) { seeOther(w, h.base()+"/") }

func (h *Handler) getNothing(w http.ResponseWriter, r *http.Request) {
	_, user, err := h.session(r, h.Now())
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		h.fail(w, r, err)
		return
	}
	h.page(w, r, http.StatusOK, ui.Nothing{Username: user.Username})
}

// base is the path of the issuer's URL.
func (h *Handler) base() string {
	u, err := url.Parse(h.Settings().URL)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

func (h *Handler) page(w http.ResponseWriter, r *http.Request, status int, v ui.View) {
	if err := ui.Write(w, status, h.base(), v); err != nil {
		slog.ErrorContext(r.Context(), "a page could not be written", "request_id", httpx.RequestOf(r.Context()).ID, "error", err)
	}
}

// NotFound is the page for an address that leads nowhere.
func (h *Handler) NotFound(w http.ResponseWriter, r *http.Request) {
	httpx.RequestOf(r.Context()).Log.Error = "not_found"
	h.problem(w, r, http.StatusNotFound, "There is no such page", "Check the address, or go back to the application that you came from.", nil)
}

// problem shows an error page. err is for the log alone.
func (h *Handler) problem(w http.ResponseWriter, r *http.Request, status int, heading, text string, err error) {
	req := httpx.RequestOf(r.Context())
	req.Log.Cause = err
	if req.Log.Error == "" {
		req.Log.Error = string(oauth.InvalidRequest)
	}
	h.page(w, r, status, ui.Problem{Heading: heading, Text: text, RequestID: req.ID})
}

// fail shows an error as a page: for everything that may not go to a redirect
// URI, because there is none that can be trusted, or because the fault is ours.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, password.ErrBusy) {
		err = oauth.Errorf(oauth.TemporarilyUnavailable, "too many people are signing in right now").Because(err)
	}
	refused := oauth.AsError(err)
	httpx.RequestOf(r.Context()).Log.Error = string(refused.Code)
	if refused.Code == oauth.TemporarilyUnavailable || refused.Code == oauth.ServerError {
		w.Header().Set("Retry-After", "5")
		h.problem(w, r, http.StatusServiceUnavailable, "Please try again", "The service cannot answer right now. Nothing has been changed. Wait a moment, go back to the application and start again.", err)
		return
	}
	h.problem(w, r, http.StatusBadRequest, "This request failed",
		"The application that sent you here made a mistake: "+refused.Description+". Its developers have to mend it.", err)
}

// seeOther redirects with 303, so that a form with a password in it is never
// sent on (RFC 9700 §4.12). There is no body: http.Redirect would write the
// code into one.
func seeOther(w http.ResponseWriter, target string) {
	ui.SecurityHeaders(w.Header())
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

// answer sends the browser to the client (RFC 6749 §4.1.2), with the issuer's
// name against mix-up (RFC 9207).
func (h *Handler) answer(w http.ResponseWriter, to destination, values url.Values) {
	if to.state != "" {
		values.Set("state", to.state)
	}
	values.Set("iss", h.Settings().URL)
	seeOther(w, withQuery(to.redirectURI, values))
}

// answerError sends an error to the client. What is not an oauth.Error is our
// own fault and becomes a page.
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, to destination, err error) {
	var refused *oauth.Error
	if !errors.As(err, &refused) {
		h.fail(w, r, err)
		return
	}
	log := &httpx.RequestOf(r.Context()).Log
	log.Error, log.Cause = string(refused.Code), err
	h.answer(w, to, url.Values{"error": {string(refused.Code)}, "error_description": {describable(refused.Description)}})
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

func (h *Handler) event(r *http.Request, kind authority.EventType, at time.Time) authority.Event {
	req := httpx.RequestOf(r.Context())
	return authority.Event{Type: kind, At: at, RequestID: req.ID, Remote: remote(r)}
}

func remote(r *http.Request) string {
	if known := httpx.RequestOf(r.Context()).Remote; known != "" {
		return known
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func retryAfter(w http.ResponseWriter, wait time.Duration) {
	seconds := int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(max(seconds, 1)))
}
