package authorize

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// sessionTTL is how long a sign-in is good for.
const sessionTTL = 12 * time.Hour

// session finds the browser's session and its user. ErrNotFound if there is
// none that may still vouch for anybody.
func (h *Handler) session(r *http.Request, now time.Time) (authority.Session, authority.User, error) {
	hash, ok := readCookie(r, h.cookieName("session"))
	if !ok {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	session, err := h.Sessions.SessionByHash(r.Context(), hash)
	if err != nil {
		return authority.Session{}, authority.User{}, err
	}
	if !session.Alive(now) || h.Revoked(session.Links()) {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	user, err := h.Directory.User(r.Context(), session.Subject.ID)
	if err != nil {
		return authority.Session{}, authority.User{}, err
	}
	if user.Disabled {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	return session, user, nil
}

// lasting is for a change and its record: a caller who hangs up does not leave
// a change that is done in part, or one that the journal knows nothing of.
func lasting(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := authority.Settle(r.Context())
	return r.WithContext(ctx), cancel
}

// startSession signs a person in. The cookie is a new one every time, whatever
// the browser brought (threats.md E 76).
func (h *Handler) startSession(w http.ResponseWriter, r *http.Request, user authority.User, now time.Time) error {
	r, done := lasting(r)
	defer done()
	before, _, err := h.session(r, now)
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		return err
	}
	cookie, hash := h.newCookie("session")
	session := authority.Session{
		ID: authority.NewID(now), Hash: hash, AuthTime: now, AMR: []string{"pwd"}, ExpiresAt: now.Add(sessionTTL),
		Subject: authority.Subject{Issuer: h.Settings().URL, ID: user.ID, Kind: authority.SubjectUser},
	}
	if err := h.keepSession(r, before, &session, now); err != nil {
		return err
	}
	e := h.event(r, authority.EventSignedIn, now)
	e.Subject, e.SessionID, e.ExpiresAt = session.Subject, session.ID, session.ExpiresAt
	if err := h.Record(r.Context(), e); err != nil {
		return err // the session stays, and nobody holds its cookie
	}
	http.SetCookie(w, cookie)
	return nil
}

// keepSession stores the session of a fresh sign-in. The browser loses the
// earlier session's cookie, so that one must not live on, where nobody could
// sign it out any more and a thief could use it. Of the same person it is
// renewed: the applications stay signed in, and one sign-out ends all.
func (h *Handler) keepSession(r *http.Request, before authority.Session, session *authority.Session, now time.Time) error {
	if !before.ID.IsZero() && before.Subject == session.Subject {
		session.ID = before.ID
		err := h.Sessions.RenewSession(r.Context(), before.Hash, *session)
		if !errors.Is(err, authority.ErrNotFound) {
			return err
		}
		session.ID = authority.NewID(now) // it has ended since
	} else if !before.ID.IsZero() {
		if err := h.endSession(r, before, "another user signed in in the same browser", now); err != nil {
			return err
		}
	}
	return h.Sessions.StartSession(r.Context(), *session)
}

// endSession ends a session and what depends on it.
func (h *Handler) endSession(r *http.Request, s authority.Session, reason string, now time.Time) error {
	e := h.event(r, authority.EventSignedOut, now)
	e.Subject, e.SessionID, e.Reason = s.Subject, s.ID, reason
	_, err := h.Endings.EndSession(r.Context(), s.ID, e)
	return err
}
