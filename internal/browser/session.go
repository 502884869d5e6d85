package browser

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// Sessions are the signed-in browsers. All fields are required.
type Sessions struct {
	Pages     *Pages
	Store     authority.SessionStore
	Directory *authority.Directory
	Endings   *revocation.Endings
	// Revoked asks the revocation view.
	Revoked func([]authority.Link) bool
	// Record writes to the journal and returns when the entry is on disk.
	Record func(ctx context.Context, e authority.Event) error
}

const (
	// sessionTTL is how long a sign-in is good for.
	sessionTTL    = 12 * time.Hour
	sessionCookie = "session"
)

// Of finds the browser's session and its user. ErrNotFound if there is none
// that may still vouch for anybody.
func (s *Sessions) Of(r *http.Request, now time.Time) (authority.Session, authority.User, error) {
	hash, ok := s.Pages.readCookie(r, sessionCookie)
	if !ok {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	session, err := s.Store.SessionByHash(r.Context(), hash)
	if err != nil {
		return authority.Session{}, authority.User{}, err
	}
	if !session.Alive(now) || s.Revoked(session.Links()) {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	user, err := s.Directory.User(r.Context(), session.Subject.ID)
	if err != nil {
		return authority.Session{}, authority.User{}, err
	}
	if user.Disabled {
		return authority.Session{}, authority.User{}, authority.ErrNotFound
	}
	return session, user, nil
}

// Start signs a person in, who has proved by the methods of amr (RFC 8176) who
// it is. The cookie is a new one every time, whatever the browser brought
// (docs/security/threats.md E 76).
func (s *Sessions) Start(w http.ResponseWriter, r *http.Request, user authority.User, amr []string, now time.Time) error {
	r, done := Lasting(r)
	defer done()
	before, _, err := s.Of(r, now)
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		return err
	}
	cookie, hash := s.Pages.newCookie(sessionCookie)
	session := authority.Session{
		ID: authority.NewID(now), Hash: hash, AuthTime: now, AMR: amr, ExpiresAt: now.Add(sessionTTL),
		Subject: authority.Subject{Issuer: s.Pages.Settings().URL, ID: user.ID, Kind: authority.SubjectUser},
	}
	replaced, err := s.keep(r, before, &session, now)
	if err != nil {
		return err
	}
	e := Event(r, authority.EventSignedIn, now)
	e.Subject, e.SessionID, e.ExpiresAt = session.Subject, session.ID, session.ExpiresAt
	if err := s.Record(r.Context(), e); err != nil {
		if !replaced.ID.IsZero() { // the browser keeps its cookie, which must be good for the session that it had
			err = errors.Join(err, s.Store.RenewSession(r.Context(), hash, replaced))
		}
		return err // a new session stays, and nobody holds its cookie
	}
	http.SetCookie(w, cookie)
	return nil
}

// keep stores the session of a fresh sign-in. The browser loses the earlier
// session's cookie, so that one must not live on, where nobody could sign it
// out any more and a thief could use it. Of the same person it is renewed, also
// if another tab was faster: the applications stay signed in, and one sign-out
// ends all. Then keep returns the session as it was before.
func (s *Sessions) keep(r *http.Request, before authority.Session, session *authority.Session, now time.Time) (replaced authority.Session, err error) {
	for before.Subject == session.Subject {
		session.ID = before.ID
		err := s.Store.RenewSession(r.Context(), before.Hash, *session)
		if err == nil || !errors.Is(err, authority.ErrNotFound) {
			return before, err
		}
		session.ID = authority.NewID(now)
		before, err = s.Store.Session(r.Context(), before.ID)
		if err != nil && !errors.Is(err, authority.ErrNotFound) { // not found: it has ended since
			return before, err
		}
	}
	if !before.ID.IsZero() {
		if err := s.End(r, before, "another user signed in in the same browser", now); err != nil {
			return authority.Session{}, err
		}
	}
	return authority.Session{}, s.Store.StartSession(r.Context(), *session)
}

// End ends a session and what depends on it.
func (s *Sessions) End(r *http.Request, session authority.Session, reason string, now time.Time) error {
	e := Event(r, authority.EventSignedOut, now)
	e.Subject, e.SessionID, e.Reason = session.Subject, session.ID, reason
	_, err := s.Endings.EndSession(r.Context(), session.ID, e)
	return err
}

// Forget takes the session's cookie from the browser, if it has one.
func (s *Sessions) Forget(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie(s.Pages.CookieName(sessionCookie)); err == nil {
		s.Pages.dropCookie(w, sessionCookie)
	}
}

// front is the page for people who came without a request.
func (s *Sessions) front(w http.ResponseWriter, r *http.Request) {
	_, user, err := s.Of(r, s.Pages.Now())
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		s.Pages.Fail(w, r, err)
		return
	}
	s.Pages.Show(w, r, http.StatusOK, ui.Nothing{Username: user.Username})
}

// Lasting is for a change and its record: a caller who hangs up does not leave
// a change that is done in part, or one that the journal knows nothing of.
func Lasting(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := authority.Settle(r.Context())
	return r.WithContext(ctx), cancel
}
