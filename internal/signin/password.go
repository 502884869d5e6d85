package signin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

const (
	stepPassword = "password"
	amrPassword  = "pwd" // RFC 8176
	maxUsername  = 256
	busyWait     = 2 * time.Second // what a browser is told when the queue is full
)

func passwordPage(flow string, st state, again problem, requestID string) ui.View {
	username := st.Username
	if again.text != "" {
		username = again.username
	}
	return ui.SignIn{
		Flow: flow, ClientName: st.ClientName, Username: username,
		Problem: again.text, Invalid: again.field, RequestID: requestID,
	}
}

// takePassword finds the user by name and checks the password.
func (h *Handler) takePassword(r *http.Request, st state, form httpx.Params, now time.Time) (state, error) {
	username, secret := strings.TrimSpace(form.Get("username")), form.Get("password")
	if len(username) > maxUsername || !printable(username) {
		username = ""
	}
	refuse := func(status int, text string) *problem {
		return &problem{status: status, text: text, username: username, field: true}
	}
	if username == "" || secret == "" {
		return st, refuse(http.StatusBadRequest, "Enter your username and your password.")
	}
	try, caller, wait := h.admit(r, username, now)
	if wait > 0 {
		p := refuse(http.StatusTooManyRequests, "Too many attempts. Wait "+inWords(wait)+" and try again.")
		p.wait, p.field = wait, false
		return st, p
	}
	user, reason, err := h.authenticate(r.Context(), caller, username, secret)
	if err != nil {
		try.forgive(false)
	}
	if errors.Is(err, password.ErrBusy) {
		p := refuse(http.StatusServiceUnavailable, "Too many people are signing in right now. Wait a moment and try again.")
		p.wait, p.field = busyWait, false
		return st, p
	}
	if err != nil {
		return st, err
	}
	if reason != "" {
		h.Directory.EvenOutUser(r.Context(), username)
		p := refuse(http.StatusForbidden, "The username or the password is not right.")
		p.reason, p.userID = reason, user.ID
		return st, p
	}
	if st.Subject == "" || st.Subject == user.ID {
		try.forgive(true)
	}
	st.UserID, st.Since, st.AMR, st.Step = user.ID, now, []string{amrPassword}, done
	return st, nil
}

// admit says whether a password may be looked at now, and for whom that is.
func (h *Handler) admit(r *http.Request, username string, now time.Time) (attempt, password.Caller, time.Duration) {
	remote := httpx.RequestOf(r.Context()).Remote
	networks := networksOf(remote)
	caller := password.Caller{Key: networks[len(networks)-1]}
	known, ok := h.known(r, username, now)
	if !ok {
		try, wait := h.attempts.begin(username, remote, now)
		return try, caller, wait
	}
	try, wait := h.attempts.beginKnown(known.Lane, now)
	if wait == 0 && !h.attempts.tooOften(known.UserID, now) {
		caller = password.Caller{Known: true, Key: known.UserID}
	}
	return try, caller, wait
}

// authenticate finds the user and compares the password. It takes the same
// time, and leads to the same words, whether the user is unknown, disabled or
// has another password (docs/security/threats.md J 103). reason is for the
// journal; empty means that the password is right.
func (h *Handler) authenticate(ctx context.Context, caller password.Caller, username, secret string) (user authority.User, reason string, err error) {
	user, err = h.Directory.UserByName(ctx, username)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.User{}, "unknown user", h.verifyNobody(ctx, caller, secret)
	}
	if err != nil {
		return authority.User{}, "", err
	}
	right, err := password.Verify(ctx, caller, user.PasswordHash, secret)
	switch {
	case errors.Is(err, password.ErrFormat):
		return user, "the account has no usable password", h.verifyNobody(ctx, caller, secret)
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
func (h *Handler) verifyNobody(ctx context.Context, caller password.Caller, secret string) error {
	var declared []string
	for _, u := range h.Directory.StaticUsers() {
		declared = append(declared, u.PasswordHash)
	}
	return password.VerifyNobody(ctx, caller, secret, declared...)
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// seconds rounds up, to at least one.
func seconds(wait time.Duration) int {
	return max(int((wait+time.Second-1)/time.Second), 1)
}

func inWords(wait time.Duration) string {
	switch s := seconds(wait); {
	case s == 1:
		return "a second"
	case s < 90:
		return strconv.Itoa(s) + " seconds"
	default:
		return strconv.Itoa((s+59)/60) + " minutes"
	}
}
