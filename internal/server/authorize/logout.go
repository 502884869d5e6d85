// OpenID Connect RP-Initiated Logout 1.0.
package authorize

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/logout"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// logoutRequest is where a sign-out leads. The zero value is our own page.
type logoutRequest struct {
	client authority.Client
	uri    string
	state  string
}

// logoutRequest reads a sign-out request (§2). The hint says which client asks, and
// nothing else: it is no proof of anybody's wish to sign out (docs/security/threats.md J 110).
func (h *Handler) logoutRequest(r *http.Request, p httpx.Params) (logoutRequest, error) {
	id := p.Get("client_id")
	if hint := p.Get("id_token_hint"); hint != "" {
		if len(hint) > maxHint {
			return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "id_token_hint is longer than %d bytes", maxHint)
		}
		hinted, err := h.ReadIDToken(hint)
		switch {
		case err == nil && id != "" && id != hinted.ClientID:
			return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "client_id is not the client of id_token_hint")
		case err == nil:
			id = hinted.ClientID
		case id == "":
			return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "id_token_hint is not an ID token of this issuer").Because(err)
		}
		// A hint that cannot be read, because its key has gone, says no more
		// than client_id does; the person is asked in either case.
	}
	to := logoutRequest{uri: p.Get("post_logout_redirect_uri"), state: p.Get("state")}
	if id == "" {
		if to.uri != "" {
			return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "post_logout_redirect_uri needs id_token_hint or client_id")
		}
		return logoutRequest{}, nil
	}
	var err error
	if to.client, err = h.client(r.Context(), id); err != nil {
		return logoutRequest{}, err
	}
	if to.uri != "" && !allowsPostLogoutRedirect(to.client, to.uri) {
		return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "post_logout_redirect_uri is not one that the application has registered")
	}
	if len(to.state) > maxState {
		return logoutRequest{}, oauth.Errorf(oauth.InvalidRequest, "state is longer than %d bytes", maxState)
	}
	return to, nil
}

// allowsPostLogoutRedirect compares exactly: no port may vary here.
func allowsPostLogoutRedirect(c authority.Client, uri string) bool {
	for _, registered := range c.PostLogoutRedirectURIs {
		if registered.String() == uri {
			return true
		}
	}
	return false
}

// query writes the request down again, without the hint: it has done its work,
// and tokens do not belong in URLs.
func (to logoutRequest) query() string {
	values := url.Values{}
	for name, value := range map[string]string{"client_id": to.client.ID, "post_logout_redirect_uri": to.uri, "state": to.state} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values.Encode()
}

// signOutPage is what a sign-out page was shown for.
type signOutPage struct {
	Query   string `json:"query,omitempty"`
	Session string `json:"session"` // whom it was shown to
	UserID  string `json:"user"`
}

// target is where the browser goes when all is done, with state (§3).
func (to logoutRequest) target() string {
	values := url.Values{}
	if to.state != "" {
		values.Set("state", to.state)
	}
	return withQuery(to.uri, values)
}

const stepSignOut = "sign-out"

// getLogout asks the person, if anybody is signed in.
func (h *Handler) getLogout(w http.ResponseWriter, r *http.Request) {
	now := h.Now()
	params, err := httpx.ReadQuery(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	to, err := h.logoutRequest(r, params)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	session, user, err := h.Sessions.Of(r, now)
	if errors.Is(err, authority.ErrNotFound) {
		h.leave(w, r, to)
		return
	}
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	sealed, err := h.Pages.Seal(w, r, stepSignOut, signOutPage{Query: to.query(), Session: session.ID.String(), UserID: user.ID})
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	h.Pages.Show(w, r, http.StatusOK, ui.SignOut{Flow: sealed, ClientName: nameOf(to.client), Username: user.Username})
}

// leave says goodbye: nobody is signed in.
func (h *Handler) leave(w http.ResponseWriter, r *http.Request, to logoutRequest) {
	h.Sessions.Forget(w, r)
	if to.uri == "" {
		h.Pages.Show(w, r, http.StatusOK, ui.SignedOut{})
		return
	}
	browser.Go(w, to.target())
}

// postLogout takes our own form, and the request that a client posts (§2). The
// latter becomes a GET, as in postAuthorize, and so leads to our form.
func (h *Handler) postLogout(w http.ResponseWriter, r *http.Request) {
	form, err := httpx.ReadForm(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	if form.Has("flow") {
		h.Pages.Guard(func(w http.ResponseWriter, r *http.Request) { h.signOut(w, r, form) })(w, r)
		return
	}
	to, err := h.logoutRequest(r, form)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	h.toLogout(w, to.query())
}

func (h *Handler) toLogout(w http.ResponseWriter, query string) {
	target := h.Pages.Base() + "/logout"
	if query != "" {
		target += "?" + query
	}
	browser.Go(w, target)
}

func (h *Handler) signOut(w http.ResponseWriter, r *http.Request, form httpx.Params) {
	now := h.Now()
	var told logout.Outcome
	var page signOutPage
	if !h.Pages.Open(w, r, form, stepSignOut, &page) {
		return
	}
	session, _, err := h.Sessions.Of(r, now)
	switch {
	case errors.Is(err, authority.ErrNotFound):
		// It is over, perhaps by this very form a moment ago, and then the journal may
		// not have been told.
		if err := h.signOutAgain(r, page, now); err != nil {
			h.Pages.Fail(w, r, err)
			return
		}
	case err != nil:
		h.Pages.Fail(w, r, err)
		return
	case session.ID.String() != page.Session: // somebody else by now: ask again
		h.toLogout(w, page.Query)
		return
	default:
		if err := h.Sessions.End(r, session, "signed out", now); err != nil {
			h.Pages.Fail(w, r, err)
			return
		}
		told = h.Told(r.Context(), session.ID)
	}
	params, err := readQuery(page.Query)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	to, err := h.logoutRequest(r, params) // against the client as it is now
	if err != nil {
		h.Sessions.Forget(w, r)
		h.Pages.Fail(w, r, err)
		return
	}
	h.Sessions.Forget(w, r)
	if len(told.Untold)+len(told.Frames) > 0 {
		// The answer to the form itself: sent again, it finds nobody signed in and goes on.
		view := ui.SignedOut{Untold: told.Untold, Frames: told.Frames}
		if to.uri != "" {
			view.Continue, view.ClientName = template.URL(to.target()), nameOf(to.client) // registered: no scheme that runs
		}
		h.Pages.Show(w, r, http.StatusOK, view)
		return
	}
	if to.uri == "" {
		h.toLogout(w, "") // a GET that shows the page, so that a reload sends no form
		return
	}
	h.leave(w, r, to)
}

// signOutAgain ends the session that a page was shown to, which is over.
func (h *Handler) signOutAgain(r *http.Request, page signOutPage, now time.Time) error {
	id, err := authority.ParseID(page.Session)
	if err != nil {
		return err
	}
	session := authority.Session{ID: id, Subject: authority.Subject{Issuer: h.Settings().URL, ID: page.UserID, Kind: authority.SubjectUser}}
	return h.Sessions.End(r, session, "signed out", now)
}
