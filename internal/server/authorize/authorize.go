package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/signin"
)

// getAuthorize takes an authorization request as far as it goes without a
// question: to the sign-in page, the consent page, or the client. Nothing is
// written unless the person is signed in and has consented before.
func (h *Handler) getAuthorize(w http.ResponseWriter, r *http.Request) {
	now := h.Now() // earlier than any check, so that no epoch can slip in between
	params, err := httpx.ReadQuery(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	to, err := h.destination(r.Context(), params)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	req, err := h.request(r.Context(), params, to)
	if err != nil {
		h.answerError(w, r, to, err)
		return
	}
	session, user, err := h.Sessions.Of(r, now)
	signedIn := err == nil
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		h.Pages.Fail(w, r, err)
		return
	}
	if !signedIn || req.wantsSignIn(session, now) {
		if req.prompt.none {
			h.answerError(w, r, to, oauth.Errorf(oauth.LoginRequired, "the person has to sign in"))
			return
		}
		h.signIn(w, r, req)
		return
	}
	known, err := h.hasConsented(r, req, session, now)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	if known {
		h.approve(w, r, req, session, authority.NewID(now), now)
		return
	}
	if req.prompt.none {
		h.answerError(w, r, to, oauth.Errorf(oauth.ConsentRequired, "the person has to consent"))
		return
	}
	h.showConsent(w, r, req, session, user, now)
}

// postAuthorize turns a posted request into a GET (OpenID Connect Core
// §3.1.2.1 has both). A form of another site comes without our cookies, since
// they are SameSite=Lax; the redirect brings them.
func (h *Handler) postAuthorize(w http.ResponseWriter, r *http.Request) {
	params, err := httpx.ReadForm(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	values := carriedOf(params)
	for _, name := range []string{"request", "request_uri"} {
		if params.Has(name) {
			values.Set(name, "unsupported") // the GET refuses it, whatever it holds
		}
	}
	query := values.Encode()
	if len(query) > maxQuery {
		h.Pages.Fail(w, r, oauth.Errorf(oauth.InvalidRequest, "the request is longer than %d bytes", maxQuery))
		return
	}
	browser.Go(w, h.Pages.Base()+"/authorize?"+query)
}

// wantsSignIn says whether the request asks for more than the session gives.
func (req request) wantsSignIn(s authority.Session, now time.Time) bool {
	tooOld := req.maxAge >= 0 && (req.maxAge == 0 || now.Sub(s.AuthTime) > req.maxAge)
	another := req.subject != "" && req.subject != s.Subject.ID
	// One browser holds one session, so to choose another account is to sign in.
	return req.prompt.login || req.prompt.selectAccount || tooOld || another
}

// signIn asks the person to sign in. The browser comes back with the same
// request, which is then checked again. If the client asked for one person and
// another signed in, the request that comes back is one that nobody can meet,
// and the client gets login_required.
func (h *Handler) signIn(w http.ResponseWriter, r *http.Request, req request) {
	h.SignIn.Ask(w, r, signin.Request{
		Then: h.Pages.Base() + "/authorize?" + req.signedIn(), Subject: req.subject, Else: url.Values{"prompt": {"none"}, "max_age": {"0"}},
		Username: req.loginHint, ClientID: req.client.ID, ClientName: nameOf(req.client),
	})
}

// again checks the request of a page once more, against the client as it is
// now (docs/security/threats.md A 22). If it is not good any more it has said so.
func (h *Handler) again(w http.ResponseWriter, r *http.Request, query string) (request, bool) {
	params, err := readQuery(query)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return request{}, false
	}
	to, err := h.destination(r.Context(), params)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return request{}, false
	}
	req, err := h.request(r.Context(), params, to)
	if err != nil {
		h.answerError(w, r, to, err)
		return request{}, false
	}
	return req, true
}
