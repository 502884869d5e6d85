// Package signin finds out which person sits in front of a browser.
//
// A sign-in is a row of steps (step.go), each one page and one form. Between
// two steps nothing is stored: what is known so far travels in the form, sealed
// and bound to the browser. Whoever has passed the last step gets a session.
package signin

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

// Handler serves /login. All fields are required.
type Handler struct {
	Pages     *browser.Pages
	Sessions  *browser.Sessions
	Directory *authority.Directory
	// Epoch is the newest "not before" mark that concerns the client or the
	// person; with an empty client id, the person alone.
	Epoch func(clientID, subjectID string) time.Time
	// Record writes to the journal and returns when the entry is on disk. Tally does not wait and
	// counts repeats: it is for what anonymous callers can cause at will.
	Record func(ctx context.Context, e authority.Event) error
	Tally  func(e authority.Event)
	// Devices seals what a browser keeps of those who have signed in with it.
	Devices *seal.Box
	Now     func() time.Time
	After   func(time.Duration) <-chan time.Time // time.After

	attempts limiter
	held     atomic.Int32
}

// Request is why somebody has to sign in, and where the browser goes then.
type Request struct {
	Then       string     `json:"then"`              // where the browser goes then: a path of ours
	Subject    string     `json:"subject,omitempty"` // the only person who will do, by id; empty for anybody
	Else       url.Values `json:"else,omitempty"`    // what Then's query says instead if it is another person
	Username   string     `json:"username,omitempty"`
	ClientID   string     `json:"client_id,omitempty"`
	ClientName string     `json:"client_name,omitempty"`
}

// Ask shows the first step.
func (h *Handler) Ask(w http.ResponseWriter, r *http.Request, req Request) {
	h.show(w, r, state{Request: req, Step: first}, nil)
}

// Routes are the pages of a sign-in.
func (h *Handler) Routes() []browser.Route {
	return []browser.Route{{Path: "/login", Get: h.Pages.Home, Post: h.Pages.Guard(h.post)}}
}

// post takes the answer to a step and leads to the next one, or to the end.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) {
	now := h.Now() // earlier than any check, so that no epoch can slip in between
	form, err := httpx.ReadForm(r)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	var before state
	if !h.Pages.Open(w, r, form, flowStep, &before) {
		return
	}
	httpx.RequestOf(r.Context()).Log.ClientID = before.ClientID
	asked, known := steps[before.Step]
	if !known { // by a node of another version
		h.Ask(w, r, before.Request)
		return
	}
	after, err := asked.take(h, r, before, form, now)
	var again *problem
	switch {
	case errors.As(err, &again):
		h.refused(r, before, again, now)
		if again.reason == "" { // nothing was looked at, so it has cost the caller nothing yet
			h.hold(r.Context())
		}
		h.show(w, r, before, again)
	case err != nil:
		h.Pages.Fail(w, r, err)
	case after.Step != done:
		h.show(w, r, after, nil)
	default:
		h.finish(w, r, after, now)
	}
}

func (h *Handler) show(w http.ResponseWriter, r *http.Request, st state, again *problem) {
	flow, err := h.Pages.Seal(w, r, flowStep, st)
	if err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	if again == nil {
		h.Pages.Show(w, r, http.StatusOK, steps[st.Step].page(flow, st, problem{}, ""))
		return
	}
	if again.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(again.wait)))
	}
	h.Pages.Show(w, r, again.status, steps[st.Step].page(flow, st, *again, httpx.RequestOf(r.Context()).ID))
}

// refused notes a wrong answer: in the log, and in the journal if the answer
// was looked at. The journal never gets what was typed: people type passwords
// into the field of the username.
func (h *Handler) refused(r *http.Request, st state, again *problem, now time.Time) {
	code := oauth.AccessDenied
	if again.status == http.StatusServiceUnavailable {
		code = oauth.TemporarilyUnavailable
	}
	browser.Refused(r, string(code), again)
	if again.reason != "" {
		h.Tally(h.failed(r, st.ClientID, again.userID, again.reason, now))
	}
}

const (
	holdFor = 500 * time.Millisecond
	maxHeld = 256
)

// hold keeps a caller whose answer was not looked at for half a second. Who asks in a
// loop asks less often then, and it costs us a timer, not a processor. When
// there are very many they are answered at once.
func (h *Handler) hold(ctx context.Context) {
	defer h.held.Add(-1)
	if h.held.Add(1) > maxHeld {
		return
	}
	select {
	case <-h.After(holdFor):
	case <-ctx.Done():
	}
}

func (h *Handler) failed(r *http.Request, clientID, userID, reason string, now time.Time) authority.Event {
	e := browser.Event(r, authority.EventSignInFailed, now)
	e.ClientID, e.Reason = clientID, reason
	if userID != "" {
		e.Subject = authority.Subject{Issuer: h.Pages.Settings().URL, ID: userID, Kind: authority.SubjectUser}
	}
	return e
}

// finish starts the session of a person who has passed every step.
func (h *Handler) finish(w http.ResponseWriter, r *http.Request, st state, now time.Time) {
	// Between the first step and the last the account may have changed.
	user, err := h.Directory.User(r.Context(), st.UserID)
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		h.Pages.Fail(w, r, err)
		return
	}
	if err != nil || user.Disabled || !h.Epoch("", st.UserID).Before(st.Since) {
		h.Ask(w, r, st.Request)
		return
	}
	if st.Subject != "" && st.Subject != user.ID {
		// OpenID Connect Core §3.1.2.1: the client asked for somebody else. The
		// answer says that the password was right, and gives no session: who
		// tries stolen passwords this way is in the journal, and has to wait.
		const reason = "another person than the one that was asked for signed in"
		browser.Refused(r, string(oauth.LoginRequired), errors.New(reason))
		if err := h.Record(r.Context(), h.failed(r, st.ClientID, user.ID, reason, now)); err != nil {
			h.Pages.Fail(w, r, err)
			return
		}
		browser.Go(w, st.otherwise())
		return
	}
	if err := h.Sessions.Start(w, r, user, st.AMR, now); err != nil {
		h.Pages.Fail(w, r, err)
		return
	}
	h.remember(w, r, user, now)
	browser.Go(w, st.Then)
}

// otherwise is where the browser goes if it is another person.
func (req Request) otherwise() string {
	path, query, _ := strings.Cut(req.Then, "?")
	values, _ := url.ParseQuery(query) // we have written it
	maps.Copy(values, req.Else)
	return path + "?" + values.Encode()
}
