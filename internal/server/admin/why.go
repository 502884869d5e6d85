package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) whyRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.Why, Scope: "journal:read", Run: a.why,
			Summary: "Explain a request id, the jti of a token, a grant or a session: what it is, whose, whether it is alive, why it was refused or what ended it, and what to do.", Out: admin.Why{},
		},
		{
			Operation: operation.WhyToken, Scope: "journal:read", Run: a.whyToken,
			Summary: "Explain a token, also one that is over or revoked.", In: admin.AskWhy{}, Out: admin.Why{},
		},
	}
}

func (a *API) why(ctx context.Context, c *api.Call) (api.Plan, error) {
	if strings.HasPrefix(c.ID, "sbx_") || strings.HasPrefix(c.ID, "eyJ") {
		return api.Plan{}, api.Invalid("a token does not belong in a URL, which ends up in logs: revoke it, and send it as token in the body of POST /admin/v1/why")
	}
	if tag, at, ok := httpx.ParseRequestID(c.ID); ok {
		return answer(a.whyRequest(ctx, c, tag, at))
	}
	if id, err := authority.ParseID(c.ID); err == nil {
		return answer(a.whyID(ctx, c, id))
	}
	return api.Reads(admin.Why{Key: api.Clip(c.ID), Kind: "unknown", Summary: "This is not the id of a request (24 hexadecimal digits), of a token, a grant or a session (a UUID)."}), nil
}

func answer(w admin.Why, err error) (api.Plan, error) { return api.Reads(w), err }

// whyRequest explains the number on an error page. The memory of refusals has
// what the journal has counted together; the journal has what is older.
func (a *API) whyRequest(ctx context.Context, c *api.Call, tag httpx.NodeTag, at time.Time) (admin.Why, error) {
	w := admin.Why{Key: c.ID, Kind: "request"}
	if err := a.records(ctx, &w, query.Query{RequestID: c.ID, Since: at.Add(-time.Minute), Until: at.Add(10 * time.Minute)}); err != nil {
		return admin.Why{}, err
	}
	if r, known := a.Refusals.Find(c.ID); known {
		w.Request = &admin.WhyAsked{
			Node: a.Node, Time: r.At.UTC(), Method: r.Method, Path: r.Path, Status: r.Status, Error: r.Code, Description: r.Description,
			Cause: r.Cause, ClientID: r.ClientID, Proved: r.Proved, Remote: r.Remote,
		}
		w.Found, w.Summary = true, summaryOf(w.Request)
		w.Reason, w.Action = reasonOf(r.Description, r.Cause), actionFor(r.Code)
		return w, nil
	}
	if len(w.Records) > 0 {
		return w, a.whyRecorded(ctx, c, &w)
	}
	nodes, err := a.otherNodes(ctx)
	if err != nil {
		return admin.Why{}, err
	}
	w.Nodes = slices.DeleteFunc(nodes, func(node string) bool { return httpx.TagOf(node) != tag })
	w.Summary = unknownRequest(at, c.Now, httpx.TagOf(a.Node) == tag, w.Nodes)
	return w, nil
}

// whyRecorded explains a request from its newest record.
func (a *API) whyRecorded(ctx context.Context, c *api.Call, w *admin.Why) error {
	newest := w.Records[0]
	w.Found, w.Summary = true, "This request is in the journal as "+newest.Type+", "+newest.Time.UTC().Format(time.RFC3339)+"."
	w.Reason, w.Action = newest.Reason, actionFor(newest.Error)
	if newest.Type != string(authority.EventTokenIssued) {
		return nil
	}
	return a.whyIssued(ctx, c, w, newest)
}

// whyID explains a token, a grant or a session by its id.
func (a *API) whyID(ctx context.Context, c *api.Call, id authority.ID) (admin.Why, error) {
	w := admin.Why{Key: c.ID, Kind: "grant"}
	born := id.Time().Add(-time.Minute)
	grant, err := a.Grants.Grant(ctx, id)
	if err == nil {
		if err := a.records(ctx, &w, query.Query{GrantID: c.ID, Since: born}); err != nil {
			return admin.Why{}, err
		}
		return w, a.whyGrant(ctx, c, &w, grant)
	}
	if !errors.Is(err, authority.ErrNotFound) {
		return admin.Why{}, err
	}
	session, err := a.Sessions.Session(ctx, id)
	if err == nil {
		return w, a.whySession(ctx, c, &w, session)
	}
	if !errors.Is(err, authority.ErrNotFound) {
		return admin.Why{}, err
	}
	w.Kind = "token"
	if err := a.records(ctx, &w, query.Query{TokenID: c.ID, Since: born, Until: born.Add(authority.MaxTokenTTL + time.Hour)}); err != nil {
		return admin.Why{}, err
	}
	for _, r := range w.Records {
		if r.Type == string(authority.EventTokenIssued) {
			return w, a.whyIssued(ctx, c, &w, r)
		}
	}
	if len(w.Records) == 0 {
		w.Kind = "grant"
		if err := a.records(ctx, &w, query.Query{GrantID: c.ID, Since: born}); err != nil {
			return admin.Why{}, err
		}
	}
	if len(w.Records) > 0 {
		w.Found, w.Summary = true, whatMachinesGet(w.Kind)
		return w, a.ended(ctx, &w, []authority.Link{{Kind: authority.RevokeGrant, Key: c.ID}, {Kind: authority.RevokeToken, Key: c.ID}}, born)
	}
	if known, err := a.whyEndedSession(ctx, &w, id); known || err != nil {
		return w, err
	}
	w.Kind = "unknown"
	w.Summary = "This node knows no token, no standing grant and no session with this id. It was made at " + id.Time().Format(time.RFC3339) + "."
	w.Nodes, err = a.otherNodes(ctx)
	return w, err
}

func (a *API) whyToken(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.AskWhy](c)
	if err != nil {
		return api.Plan{}, err
	}
	if body.Token == "" || len(body.Token) > api.MaxToken {
		return api.Plan{}, api.Invalid("token is missing or too long")
	}
	return answer(a.explain(ctx, c, body.Token))
}

func (a *API) explain(ctx context.Context, c *api.Call, raw string) (admin.Why, error) {
	if grantID, err := a.GrantOf(raw); err == nil {
		c.ID = grantID.String()
		w, err := a.whyID(ctx, c, grantID)
		w.Summary = "This is a refresh token. " + w.Summary
		return w, err
	}
	if code, err := authority.ParseAuthorizationCode(raw); err == nil {
		return a.whyCode(ctx, c, code)
	}
	if _, err := oauth.DecodeOpaque(oauth.PrefixClientSecret, raw, api.MaxToken); err == nil {
		return a.whySecret(ctx, c, oauth.SecretOf(raw))
	}
	if token, err := a.Tokens.IDToken(raw); err == nil {
		return a.whyIDToken(ctx, c, token)
	}
	token, err := a.Tokens.Explain(raw)
	if err != nil {
		return admin.Why{Kind: "unknown", Summary: unknownToken(raw), Reason: err.Error()}, nil
	}
	w := admin.Why{Key: token.ID.String(), Kind: "token"}
	born := token.ID.Time().Add(-time.Minute)
	if err := a.records(ctx, &w, query.Query{TokenID: w.Key, Since: born, Until: born.Add(authority.MaxTokenTTL + time.Hour)}); err != nil {
		return admin.Why{}, err
	}
	return w, a.whyAccess(ctx, c, &w, token)
}

// whyCode explains the grant of a code. A code has no MAC, so anybody can write
// one that names a grant: only the grant's own one speaks for it.
func (a *API) whyCode(ctx context.Context, c *api.Call, code authority.AuthorizationCode) (admin.Why, error) {
	g, err := a.Grants.Grant(ctx, code.GrantID)
	switch {
	case err == nil && !g.Matches(code), errors.Is(err, authority.ErrNotFound):
		dead := false
		return admin.Why{Kind: "unknown", Alive: &dead, Summary: "This has the form of an authorization code, and no standing grant has it: it is over, was never one, or is another installation's."}, nil
	case err != nil:
		return admin.Why{}, err
	}
	c.ID = code.GrantID.String()
	w, err := a.whyID(ctx, c, code.GrantID)
	w.Summary = "This is an authorization code. " + w.Summary
	return w, err
}

// whySecret says whose client secret this is. No index finds a hash, so that
// none can be tried against one: each client is asked, which only this does.
func (a *API) whySecret(ctx context.Context, c *api.Call, secret oauth.Secret) (admin.Why, error) {
	accepts := func(client authority.Client) bool { return client.AcceptsSecret(secret, c.Now) }
	alive := true
	w := admin.Why{Kind: "client_secret", Found: true, Alive: &alive}
	declared := a.Directory.StaticClients()
	if i := slices.IndexFunc(declared, accepts); i >= 0 {
		w.Key, w.Action = declared[i].ID, "put another one into the configuration file"
	} else {
		stored, err := a.storedClient(ctx, accepts)
		if errors.Is(err, authority.ErrNotFound) {
			alive = false
			return admin.Why{Kind: "client_secret", Alive: &alive, Summary: "This is a client secret that no client of this issuer has now: it was rotated, its client is gone, or it is another installation's."}, nil
		}
		if err != nil {
			return admin.Why{}, err
		}
		w.Key, w.Action = stored.ID, "`signalbox client rotate "+stored.ID+"`"
	}
	w.Summary = "This is a secret of the client " + w.Key + ". It is no token."
	w.Action = "If somebody has seen it: " + w.Action + ", then `signalbox panic --client " + w.Key + "`."
	return w, nil
}

func (a *API) storedClient(ctx context.Context, is func(authority.Client) bool) (authority.Client, error) {
	const page = 1000
	for after := ""; ; {
		clients, err := a.clients().List(ctx, authority.Page{After: after, Limit: page})
		if err != nil {
			return authority.Client{}, err
		}
		if i := slices.IndexFunc(clients, is); i >= 0 {
			return clients[i], nil
		}
		if len(clients) < page {
			return authority.Client{}, authority.ErrNotFound
		}
		after = clients[page-1].ID
	}
}

// whyIssued explains a token from the record of its issue, which does not tell
// its ancestors: the grant's row does, where there is one.
func (a *API) whyIssued(ctx context.Context, c *api.Call, w *admin.Why, issued admin.Record) error {
	token, err := tokenOf(issued)
	if err != nil {
		w.Found, w.Summary = true, "The record of this token cannot be read."
		return nil
	}
	grant, err := a.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		grant, err = authority.Grant{ID: token.GrantID, CreatedAt: token.GrantID.Time(), ClientID: token.ClientID, Subject: token.Subject}, nil
		if !token.SessionID.IsZero() {
			grant.Evidence = authority.SessionEvidence(token.SessionID)
		}
	}
	if err != nil {
		return err
	}
	token.Links = append(grant.Links(), authority.Link{Kind: authority.RevokeToken, Key: token.ID.String()})
	return a.whyAccess(ctx, c, w, token)
}

// tokenOf reads the record of an issue.
func tokenOf(r admin.Record) (*issue.AccessToken, error) {
	token := &issue.AccessToken{ClientID: r.ClientID, Audience: r.Audience, Expires: time.Unix(r.ExpiresAt, 0)}
	var errs [4]error
	token.ID, errs[0] = authority.ParseID(r.TokenID)
	token.GrantID, errs[1] = authority.ParseID(r.GrantID)
	if r.SessionID != "" {
		token.SessionID, errs[2] = authority.ParseID(r.SessionID)
	}
	token.Scopes, errs[3] = oauth.ParseScopes(r.Scope)
	if r.Subject != nil {
		token.Subject = authority.Subject{Issuer: r.Subject.Issuer, ID: r.Subject.ID, Kind: authority.SubjectKind(r.Subject.Kind)}
	}
	return token, errors.Join(errs[:]...)
}

func (a *API) whyAccess(ctx context.Context, c *api.Call, w *admin.Why, token *issue.AccessToken) error {
	w.Found = true
	w.Token = &admin.WhyToken{
		TokenID: token.ID.String(), GrantID: token.GrantID.String(), SessionID: token.SessionID.String(), ClientID: token.ClientID,
		Subject:  admin.Subject{Issuer: token.Subject.Issuer, ID: token.Subject.ID, Kind: string(token.Subject.Kind)},
		Audience: token.Audience, Scope: token.Scopes.String(), IssuedAt: token.ID.Time(), ExpiresAt: token.Expires.UTC(),
	}
	w.Summary += sentenceOf(w.Token)
	return a.life(ctx, c, w, dependent{token.Links, token.ID.Time(), token.Expires, token.ClientID, token.Subject})
}

func (a *API) whyGrant(ctx context.Context, c *api.Call, w *admin.Why, g authority.Grant) error {
	shown := a.showing(g, c.Now)
	w.Found, w.Grant, w.Summary = true, &shown, grantSentence(shown)
	if err := a.life(ctx, c, w, dependent{g.Links(), g.ID.Time(), g.ExpiresAt, g.ClientID, g.Subject}); err != nil {
		return err
	}
	if w.EndedBy == nil && g.State == authority.GrantEnded {
		w.EndedBy = &admin.WhyEnded{Kind: string(authority.RevokeGrant), Key: shown.GrantID}
	}
	if w.EndedBy != nil && w.EndedBy.Key == shown.GrantID {
		w.EndedBy.At, w.EndedBy.Reason = shownTime(g.EndedAt), g.EndReason
		w.Reason = reasonOf(endedWords(w.EndedBy.Kind, w.EndedBy.Key), g.EndReason)
	}
	// Whoever has the code of a pending grant may be faster than the application, so it is alive.
	isPending := g.State == authority.GrantPending && c.Now.Before(g.Code.ExpiresAt)
	if w.Alive != nil && g.State != authority.GrantActive && !isPending {
		*w.Alive = false
	}
	if g.State == authority.GrantPending {
		w.Reason, w.Action = "its authorization code has not been redeemed", "The application has to redeem the code within its lifetime, a minute by default; else the person starts again."
	}
	return nil
}

// dependent is what has a life, and what that depends on.
type dependent struct {
	links    []authority.Link
	born     time.Time
	expires  time.Time
	clientID string // empty: no client's account matters
	subject  authority.Subject
}

// life says whether something is still good, and if not what ended it.
func (a *API) life(ctx context.Context, c *api.Call, w *admin.Why, d dependent) error {
	alive := false
	w.Alive = &alive
	if err := a.ended(ctx, w, d.links, d.born); err != nil || w.EndedBy != nil {
		return err
	}
	if !c.Now.Before(d.expires) {
		w.Reason, w.Action = "it expired at "+d.expires.UTC().Format(time.RFC3339), "Get a new one. Clients should ask again shortly before expires_in has passed."
		return nil
	}
	_, err := a.Directory.Account(ctx, d.subject)
	if d.clientID != "" {
		_, err = a.Directory.Alive(ctx, d.clientID, d.subject)
	}
	switch {
	case errors.Is(err, authority.ErrEnded):
		w.Reason, w.Action = err.Error(), "Enable the account, or create it, and get a new token."
		return nil
	case err != nil:
		return err
	}
	if err := a.Endings.Follower.Fresh(); err != nil {
		w.Alive, w.Reason, w.Action = nil, "this node cannot say whether it is alive: "+err.Error(), "Look at this node's way to the database."
		return nil
	}
	alive = true
	w.Action = "Nothing: it is good. Where it is refused all the same, compare the audience and the scopes with what the API asks for."
	return nil
}

// ended finds what has ended of that which something depends on, and who did it.
func (a *API) ended(ctx context.Context, w *admin.Why, links []authority.Link, since time.Time) error {
	by, ended := a.Endings.Follower.View.EndedBy(links)
	if !ended {
		return nil
	}
	alive := false
	w.Alive, w.EndedBy = &alive, &admin.WhyEnded{Kind: string(by.Kind), Key: by.Key, At: shownTime(by.NotBefore)}
	w.Reason, w.Action = endedWords(string(by.Kind), by.Key), endedAction(by.Kind)
	var found admin.Why
	if err := a.records(ctx, &found, endingQuery(by, since)); err != nil {
		return err
	}
	w.Partial = w.Partial || found.Partial
	if len(found.Records) > 0 {
		r := found.Records[0]
		at := r.Time.UTC()
		w.EndedBy.At, w.EndedBy.By, w.EndedBy.Reason = &at, r.Actor, r.Reason
		w.Reason = reasonOf(w.Reason, r.Reason)
	}
	return nil
}

// endingQuery finds the record of an ending.
func endingQuery(by authority.Revocation, since time.Time) query.Query {
	q := query.Query{Since: since.Add(-time.Minute)}
	switch by.Kind {
	case authority.RevokeGrant:
		q.GrantID, q.Types = by.Key, []string{string(authority.EventGrantEnded), string(authority.EventRefreshReused)}
	case authority.RevokeToken:
		q.TokenID, q.Types = by.Key, []string{string(authority.EventTokenRevoked)}
	case authority.RevokeSession:
		q.SessionID, q.Types = by.Key, []string{string(authority.EventSignedOut)}
	case authority.RevokeKey:
		q.Text, q.Types = by.Key, []string{string(authority.EventKeyChanged)}
	default:
		q.Text = by.Key
		if by.Kind.IsEpoch() {
			q.Types = []string{string(authority.EventEpochSet)}
			q.Since, q.Until = by.NotBefore.Add(-time.Minute), by.NotBefore.Add(time.Minute)
		}
	}
	return q
}

// How much of the journal an answer may read.
const (
	whyRecords = 20
	whySearch  = 5 * time.Second
)

// records adds what this node's journal says. What takes too long is left out,
// and the answer says so.
func (a *API) records(ctx context.Context, w *admin.Why, q query.Query) error {
	ctx, cancel := context.WithTimeout(ctx, whySearch)
	defer cancel()
	q.Node, q.Newest, q.Limit = a.Node, true, whyRecords
	var found []admin.Record
	err := query.Search(ctx, a.JournalDir, q, func(r query.Record) error {
		found = append(found, r.Record)
		return nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		w.Partial, err = true, nil
	}
	slices.Reverse(found)
	w.Records = found
	return err
}

// otherNodes are those whose journals the database remembers.
func (a *API) otherNodes(ctx context.Context) (names []string, err error) {
	known, err := a.Journals.Journals(ctx)
	for _, j := range known {
		if j.Node != a.Node {
			names = append(names, j.Node)
		}
	}
	return names, err
}
