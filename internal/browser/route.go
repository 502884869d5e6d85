package browser

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Route is a path that people open.
type Route struct {
	Path      string
	Get, Post http.HandlerFunc // nil: the method is refused
}

// Routes are the front page and what all pages are made with.
func (s *Sessions) Routes() []Route {
	return []Route{
		{Path: "/{$}", Get: s.front},
		{Path: ui.StylePath(), Get: ui.ServeStyle},
	}
}

// Serve answers a route. Methods that it does not have get a page too.
func (p *Pages) Serve(route Route) http.HandlerFunc {
	var allow []string
	if route.Get != nil {
		allow = append(allow, http.MethodGet)
	}
	if route.Post != nil {
		allow = append(allow, http.MethodPost)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && route.Get != nil:
			route.Get(w, r)
		case r.Method == http.MethodPost && route.Post != nil:
			route.Post(w, r)
		default:
			w.Header().Set("Allow", strings.Join(allow, ", "))
			p.Problem(w, r, Problem{
				Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Heading: "This page cannot be used like that",
				Text: "Go back to the application that you came from and start again.",
			})
		}
	}
}

// NotFound is the page for an address that leads nowhere.
func (p *Pages) NotFound(w http.ResponseWriter, r *http.Request) {
	p.Problem(w, r, Problem{
		Status: http.StatusNotFound, Code: "not_found", Heading: "There is no such page",
		Text: "Check the address, or go back to the application that you came from.",
	})
}

// Guard refuses a form that another site has sent (docs/security/threats.md J 109).
func (p *Pages) Guard(next http.HandlerFunc) http.HandlerFunc {
	own := http.NewCrossOriginProtection()
	if u, err := url.Parse(p.Settings().URL); err == nil {
		// Behind a proxy the Host header may not be the issuer's.
		_ = own.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if err := own.Check(r); err != nil {
			p.Problem(w, r, Problem{
				Status: http.StatusForbidden, Cause: err, Heading: "This form came from another site",
				Text: "For your safety it was not accepted. Go back to the application and start again.",
			})
			return
		}
		next(w, r)
	}
}

// Home leads to the front page. Browsers open the address of a form again when
// a window is restored or the address bar is used.
func (p *Pages) Home(w http.ResponseWriter, _ *http.Request) { Go(w, p.Base()+"/") }
