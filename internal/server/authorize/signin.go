package authorize

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// postLogin checks username and password, starts a session, and sends the
// browser back to the request that it came with.
func (h *Handler) postLogin(w http.ResponseWriter, r *http.Request) {
	now := h.Now()
	form, err := httpx.ReadForm(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	f, ok := h.open(w, r, form, stepSignIn, now)
	if !ok {
		return
	}
	req, ok := h.again(w, r, f)
	if !ok {
		return
	}
	username, secret := strings.TrimSpace(form.Get("username")), form.Get("password")
	refuse := func(status int, problem string) {
		h.showSignIn(w, r, status, req, ui.SignIn{Username: username, Problem: problem, Invalid: status != http.StatusTooManyRequests}, now)
	}
	if username == "" || secret == "" || len(username) > maxName || !printable(username) {
		if len(username) > maxName || !printable(username) {
			username = ""
		}
		refuse(http.StatusBadRequest, "Enter your username and your password.")
		return
	}
	try, wait := h.attempts.begin(username, remote(r), now)
	if wait > 0 {
		retryAfter(w, wait)
		refuse(http.StatusTooManyRequests, "Too many attempts. Wait "+inWords(wait)+" and try again.")
		return
	}
	user, reason, err := h.authenticate(r, username, secret)
	if err != nil {
		try.forgive(false)
		h.fail(w, r, err)
		return
	}
	failed := h.event(r, authority.EventSignInFailed, now)
	failed.ClientID, failed.Reason = req.client.ID, reason
	if user.ID != "" {
		failed.Subject = authority.Subject{Issuer: h.Settings().URL, ID: user.ID, Kind: authority.SubjectUser}
	}
	if reason != "" {
		h.Tally(failed) // without the name that was typed: it may be a password
		httpx.RequestOf(r.Context()).Log.Error = string(oauth.AccessDenied)
		refuse(http.StatusForbidden, "The username or the password is not right.")
		return
	}
	if req.subject != "" && req.subject != user.ID {
		// OpenID Connect Core §3.1.2.1: the client asked for somebody else. The
		// answer says that the password was right, and gives no session: who
		// tries stolen passwords this way stands in the journal, and has to wait.
		failed.Reason = "another person than the one in id_token_hint signed in"
		if err := h.Record(r.Context(), failed); err != nil {
			h.fail(w, r, err)
			return
		}
		h.answerError(w, r, req.destination, oauth.Errorf(oauth.LoginRequired, "%s", failed.Reason))
		return
	}
	try.forgive(true)
	if err := h.startSession(w, r, user, now); err != nil {
		h.fail(w, r, err)
		return
	}
	seeOther(w, h.base()+"/authorize?"+req.signedIn())
}

// authenticate finds the user and compares the password. It takes the same
// time, and leads to the same words, whether the user is unknown, disabled or
// has another password (threats.md J 103). reason is for the journal; empty
// means that the password is right.
func (h *Handler) authenticate(r *http.Request, username, secret string) (user authority.User, reason string, err error) {
	ctx := r.Context()
	user, err = h.Directory.UserByName(ctx, username)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.User{}, "unknown user", h.verifyNobody(ctx, secret)
	}
	if err != nil {
		return authority.User{}, "", err
	}
	right, err := password.Verify(ctx, user.PasswordHash, secret)
	switch {
	case errors.Is(err, password.ErrFormat):
		return user, "the account has no usable password", h.verifyNobody(ctx, secret)
	case err != nil:
		return authority.User{}, "", err
	case !right:
		return user, "wrong password", nil
	case user.Disabled:
		return user, "the account is disabled", nil
	}
	return user, "", nil
}

// verifyNobody takes as long as the slowest hash of the configuration file:
// those were made elsewhere and may cost more than ours.
func (h *Handler) verifyNobody(ctx context.Context, secret string) error {
	var declared []string
	for _, u := range h.Directory.DeclaredUsers() {
		declared = append(declared, u.PasswordHash)
	}
	return password.VerifyNobody(ctx, secret, declared...)
}

// again checks the request of a page once more, against the client as it is
// now (threats.md A 22). If it is not good any more it has said so.
func (h *Handler) again(w http.ResponseWriter, r *http.Request, f flow) (request, bool) {
	params, err := readQuery(f.Query)
	if err != nil {
		h.fail(w, r, err)
		return request{}, false
	}
	to, err := h.destination(r.Context(), params)
	if err != nil {
		h.fail(w, r, err)
		return request{}, false
	}
	req, err := h.request(r.Context(), params, to)
	if err != nil {
		h.answerError(w, r, to, err)
		return request{}, false
	}
	return req, true
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}
