package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// whyIDToken explains an ID token, whose life nothing depends on, and the session
// that it names.
func (a *API) whyIDToken(ctx context.Context, c *api.Call, token issue.IDToken) (w admin.Why, err error) {
	if !token.SessionID.IsZero() {
		c.ID = token.SessionID.String()
		if w, err = a.whyID(ctx, c, token.SessionID); err != nil {
			return admin.Why{}, err
		}
	}
	session := ""
	if w.Session != nil {
		session = " " + w.Summary
	}
	w.Kind, w.Found = "id_token", true
	w.Token = &admin.WhyToken{
		SessionID: token.SessionID.String(), ClientID: token.ClientID, IssuedAt: token.IssuedAt.UTC(), ExpiresAt: token.Expires.UTC(),
		Subject: admin.Subject{Issuer: token.Subject.Issuer, ID: token.Subject.ID, Kind: string(token.Subject.Kind)},
	}
	w.Summary = idTokenSentence(w.Token, c.Now) + session
	w.Action = "Send APIs the access token that came with it. " + w.Action
	return w, nil
}

// whySession explains a session that has its row. One that has expired may have it
// for a while.
func (a *API) whySession(ctx context.Context, c *api.Call, w *admin.Why, s authority.Session) error {
	if err := a.records(ctx, w, query.Query{SessionID: s.ID.String(), Since: s.ID.Time().Add(-time.Minute)}); err != nil {
		return err
	}
	w.Kind, w.Found = "session", true
	w.Session = &admin.WhySession{
		SessionID: s.ID.String(), Subject: &admin.Subject{Issuer: s.Subject.Issuer, ID: s.Subject.ID, Kind: string(s.Subject.Kind)},
		AuthTime: shownTime(s.AuthTime), AMR: s.AMR, ExpiresAt: shownTime(s.ExpiresAt),
	}
	w.Summary = sessionSentence(w.Session)
	if err := a.life(ctx, c, w, dependent{s.Links(), s.ID.Time(), s.ExpiresAt, "", s.Subject}); err != nil {
		return err
	}
	if w.Alive != nil && (*w.Alive || w.EndedBy != nil || !s.Alive(c.Now)) { // else it is the account
		w.Action = sessionAction(*w.Alive)
	}
	return nil
}

// whyEndedSession explains a session whose row is gone: the list of what has ended
// still names it for a while, and whose it was is in the journal alone.
func (a *API) whyEndedSession(ctx context.Context, w *admin.Why, id authority.ID) (known bool, err error) {
	links, born := []authority.Link{authority.SessionEvidence(id).Link()}, id.Time().Add(-time.Minute)
	if err := a.records(ctx, w, query.Query{SessionID: id.String(), Since: born}); err != nil {
		return false, err
	}
	if len(w.Records) == 0 && !a.Endings.Follower.View.Revoked(links) {
		return false, nil
	}
	alive := false
	w.Kind, w.Found, w.Alive, w.Session = "session", true, &alive, &admin.WhySession{SessionID: id.String()}
	if len(w.Records) > 0 {
		w.Session.Subject = w.Records[0].Subject
	}
	w.Summary, w.Reason = sessionSentence(w.Session), "it is over: this node knows no more"
	err = a.ended(ctx, w, links, born)
	w.Action = sessionAction(false)
	return true, err
}
