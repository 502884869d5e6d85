package authorize

import (
	"errors"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// getAuthorize takes an authorization request as far as it goes without a
// question: to the sign-in page, the consent page, or the client. Nothing is
// written unless the person is signed in and has consented before.
func (h *Handler) getAuthorize(w http.ResponseWriter, r *http.Request) {
	now := h.Now() // earlier than any check, so that no epoch can slip in between
	params, err := httpx.ReadQuery(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	to, err := h.destination(r.Context(), params)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	req, err := h.request(r.Context(), params, to)
	if err != nil {
		h.answerError(w, r, to, err)
		return
	}
	session, user, err := h.session(r, now)
	signedIn := err == nil
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		h.fail(w, r, err)
		return
	}
	if !signedIn || req.wantsSignIn(session, now) {
		if req.prompt.none {
			h.answerError(w, r, to, oauth.Errorf(oauth.LoginRequired, "the person has to sign in"))
			return
		}
		h.showSignIn(w, r, http.StatusOK, req, ui.SignIn{Username: req.loginHint}, now)
		return
	}
	known, err := h.hasConsented(r, req, session, now)
	if err != nil {
		h.fail(w, r, err)
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
		h.fail(w, r, err)
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
		h.fail(w, r, oauth.Errorf(oauth.InvalidRequest, "the request is longer than %d bytes", maxQuery))
		return
	}
	seeOther(w, h.base()+"/authorize?"+query)
}

// wantsSignIn says whether the request asks for more than the session gives.
func (req request) wantsSignIn(s authority.Session, now time.Time) bool {
	tooOld := req.maxAge >= 0 && (req.maxAge == 0 || now.Sub(s.AuthTime) > req.maxAge)
	another := req.subject != "" && req.subject != s.Subject.ID
	// One browser holds one session, so to choose another account is to sign in.
	return req.prompt.login || req.prompt.selectAccount || tooOld || another
}

func (h *Handler) showSignIn(w http.ResponseWriter, r *http.Request, status int, req request, v ui.SignIn, now time.Time) {
	var err error
	v.Flow, err = h.seal(flow{Step: stepSignIn, Browser: h.ensureBrowser(w, r), Query: req.query()}, now)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	v.ClientName = nameOf(req.client)
	if v.Problem != "" {
		v.RequestID = httpx.RequestOf(r.Context()).ID
	}
	h.page(w, r, status, v)
}
