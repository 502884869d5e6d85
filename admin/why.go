package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Why is the answer to "what is this, and why does it not work?".
type Why struct {
	Key     string      `json:"key,omitempty" doc:"What was asked for. Of a token its jti, never the token itself."`
	Kind    string      `json:"kind" enum:"request,token,id_token,client_secret,grant,session,unknown"`
	Found   bool        `json:"found" doc:"false: this node knows nothing of it; summary says what to try, and nodes who may know."`
	Summary string      `json:"summary" doc:"What it is, in one sentence."`
	Alive   *bool       `json:"alive,omitempty" doc:"Whether the token, the grant or the session is still good. Missing for a request that was refused, for an ID token that names no session, and where this node cannot say."`
	Reason  string      `json:"reason,omitempty" doc:"Why the request was refused, or what ended the token, the grant or the session."`
	Action  string      `json:"action,omitempty" doc:"What to do."`
	Request *WhyAsked   `json:"request,omitempty" doc:"The request, where it was refused within about an hour."`
	Token   *WhyToken   `json:"token,omitempty"`
	Session *WhySession `json:"session,omitempty" doc:"The signed-in browser; of an ID token, the one that it names."`
	Grant   *Grant      `json:"grant,omitempty" doc:"The standing grant. What a machine gets for itself has none."`
	EndedBy *WhyEnded   `json:"ended_by,omitempty" doc:"The revocation or epoch that ended it."`
	Records []Record    `json:"records,omitempty" doc:"What this node's journal says, newest first, at most 20."`
	Partial bool        `json:"partial,omitempty" doc:"The journal is long, and was not searched to its end."`
	Nodes   []string    `json:"nodes,omitempty" doc:"Other nodes that may know more: ask their admin API, or read their log and journal."`
}

// WhyAsked is a request that was refused.
type WhyAsked struct {
	Node        string    `json:"node"`
	Time        time.Time `json:"time"`
	Method      string    `json:"method"`
	Path        string    `json:"path" doc:"The template of the route."`
	Status      int       `json:"status"`
	Error       string    `json:"error,omitempty" doc:"The code that was answered."`
	Description string    `json:"error_description,omitempty" doc:"What the caller was told."`
	Cause       string    `json:"cause,omitempty" doc:"What the caller was not told."`
	ClientID    string    `json:"client_id,omitempty"`
	Proved      bool      `json:"authenticated" doc:"The client has proved that it is client_id."`
	Remote      string    `json:"remote,omitempty"`
}

// WhyToken is what an access token or an ID token says of itself.
type WhyToken struct {
	TokenID   string    `json:"jti,omitempty" doc:"Missing for an ID token, which has none."`
	GrantID   string    `json:"grant_id,omitempty"`
	SessionID string    `json:"sid,omitempty"`
	ClientID  string    `json:"client_id"`
	Subject   Subject   `json:"subject"`
	Audience  []string  `json:"aud,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// WhyEnded is what ended a token, a grant or a session.
type WhyEnded struct {
	Kind   string     `json:"kind" doc:"token, grant, session, key, another kind of evidence, or an epoch: user, client, workload, everything."`
	Key    string     `json:"key,omitempty"`
	At     *time.Time `json:"at,omitempty" doc:"An epoch ends what is as old as this or older."`
	By     string     `json:"by,omitempty" doc:"Who did it, where this node's journal says so."`
	Reason string     `json:"reason,omitempty"`
}

// AskWhy is a token to be explained. It is in the body and not in the URL, which
// ends up in logs.
type AskWhy struct {
	Token string `json:"token" doc:"An access token, an ID token, a refresh token, an authorization code or a client secret of this issuer."`
}

// WhySession is a signed-in browser.
type WhySession struct {
	SessionID string     `json:"sid"`
	Subject   *Subject   `json:"subject,omitempty" doc:"Missing where the session has ended, and this node's journal has no record of it."`
	AuthTime  *time.Time `json:"auth_time,omitempty" doc:"The last sign-in. Missing where the session has ended."`
	AMR       []string   `json:"amr,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Missing where the session has ended."`
}

// Why explains a request id, the jti of a token, a grant or a session: what it is, whose, whether it is alive, why
// it was refused or what ended it, and what to do. A token does not belong here, but into WhyToken.
func (a *API) Why(ctx context.Context, id string) (Why, error) {
	return call[Why](ctx, a, operation.Why, id, nil)
}

// WhyToken explains a token, also one that is over or revoked.
func (a *API) WhyToken(ctx context.Context, q AskWhy) (Why, error) {
	return call[Why](ctx, a, operation.WhyToken, "", q)
}
