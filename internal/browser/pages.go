// Package browser is what every page needs: cookies, the session, the guard
// against forms of other sites, the state that travels in a form, and the
// pages, error pages and redirects themselves.
package browser

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Pages shows pages and reads the forms that come back. All fields but
// Insecure are required.
type Pages struct {
	// Settings returns the issuer's URL. It never changes.
	Settings func() authority.Issuer
	// State seals what travels through the browser.
	State *seal.Box
	Now   func() time.Time
	// Insecure is for an issuer with plain http on loopback: its cookies
	// cannot be marked Secure.
	Insecure bool
}

// Base is the path of the issuer's URL, without a slash at the end: "" for most.
func (p *Pages) Base() string {
	u, err := url.Parse(p.Settings().URL)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

// Show answers with a page.
func (p *Pages) Show(w http.ResponseWriter, r *http.Request, status int, v ui.View) {
	if err := ui.Write(w, status, p.Base(), v); err != nil {
		slog.ErrorContext(r.Context(), "a page could not be written", "request_id", httpx.RequestOf(r.Context()).ID, "error", err)
	}
}

// Go redirects with 303, so that a form with a password in it is never sent on
// (RFC 9700 §4.12). There is no body: http.Redirect would write the code into one.
func Go(w http.ResponseWriter, target string) {
	ui.SecurityHeaders(w.Header())
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

// Refused notes why a request is refused. The number on the page leads to the
// request's line in the log, so whatever refuses calls this.
func Refused(r *http.Request, code string, cause error) {
	log := &httpx.RequestOf(r.Context()).Log
	log.Error, log.Cause = code, cause
}

// Problem is an error page.
type Problem struct {
	Status  int
	Heading string // what happened
	Text    string // what to do
	Code    string // for log and metrics; empty means invalid_request
	Cause   error  // for the log alone; nil means that the heading says it all
}

// Problem shows an error page.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, v Problem) {
	if v.Code == "" {
		v.Code = string(oauth.InvalidRequest)
	}
	if v.Cause == nil {
		v.Cause = errors.New(v.Heading)
	}
	Refused(r, v.Code, v.Cause)
	httpx.RequestOf(r.Context()).Log.Description = v.Heading
	p.Show(w, r, v.Status, ui.Problem{Heading: v.Heading, Text: v.Text, RequestID: httpx.RequestOf(r.Context()).ID})
}

// Fail shows an error as a page: for everything that may not go to a redirect
// URI, because there is none that can be trusted, or because the fault is ours.
func (p *Pages) Fail(w http.ResponseWriter, r *http.Request, err error) {
	refused := oauth.AsError(err)
	if refused.Code == oauth.TemporarilyUnavailable || refused.Code == oauth.ServerError {
		w.Header().Set("Retry-After", "5")
		p.Problem(w, r, Problem{
			Status: http.StatusServiceUnavailable, Code: string(refused.Code), Cause: err, Heading: "Please try again",
			Text: "The service cannot answer right now. Nothing has been changed. Wait a moment, go back to the application and start again.",
		})
		return
	}
	p.Problem(w, r, Problem{
		Status: http.StatusBadRequest, Code: string(refused.Code), Cause: err, Heading: "This request failed",
		Text: "Go back to the application and start again. If it fails again, tell the people who run the application: " + refused.Description + ".",
	})
}

// Event begins a record of something that happened in a browser.
func Event(r *http.Request, kind authority.EventType, at time.Time) authority.Event {
	req := httpx.RequestOf(r.Context())
	return authority.Event{Type: kind, At: at, RequestID: req.ID, Remote: req.Remote}
}
