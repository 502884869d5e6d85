// Package token is the token endpoint and its neighbours: /token, /introspect,
// /revoke and /userinfo.
//
// POST /token runs, top to bottom: parse, authenticate the client, run the
// grant, issue (which checks accounts and epochs, signs, journals and spends),
// write. A grant type is one function in one file.
package token

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// Handler serves the endpoints. All fields are required.
type Handler struct {
	Settings  func() authority.Issuer
	Directory *authority.Directory
	Clients   *clientauth.Authenticator
	Grants    authority.GrantStore
	Sessions  authority.SessionStore
	Refresh   authority.RefreshKey
	Issue     func(ctx context.Context, a authority.Authorization, spend authority.Spend) (issue.Response, error)
	Tokens    *issue.Reader
	Endings   *revocation.Endings
	// Prove verifies a token of another issuer, that the pod that it is bound to lives,
	// and that no epoch has ended what is as old as it. Its refusals are oauth.InvalidRequest. That of a token which is authentic, and
	// no proof all the same, comes with the token's Hash, and with whose it is if that is
	// certain: for the record alone.
	Prove func(ctx context.Context, raw string) (authority.Proof, error)
	// Decide asks the trust policies.
	Decide   func(policy.Request) policy.Decision
	Standing *Standing
	Ends     *EndLimit
	// Record returns when the entry is on disk; Tally does not wait and
	// counts repeats, for callers who have not proved who they are.
	Record func(ctx context.Context, e authority.Event) error
	Tally  func(ctx context.Context, e authority.Event)
	Now    func() time.Time
}

// request is one request to the token endpoint on its way down.
type request struct {
	at        time.Time // before anything was looked at: what is issued is as old as this
	now       time.Time // after the body was read: what has run out by then is over
	form      httpx.Params
	client    authority.Client // zero until it has proved itself, and for a workload
	proof     authority.Proof  // what another issuer says of the client; zero where none does
	assertion authority.Origin // the token that says it, once its issuer is known to have made it
	grantType oauth.GrantType

	// Of an exchange, for the record.
	subject authority.Subject // whom the subject token is about
	origin  authority.Origin  // the subject token, once its issuer is known to have made it
	target  string
}

// isKnown says whether the caller has proved to be a client: anybody can say that
// they are a public one.
func (req *request) isKnown() bool { return req.client.ID != "" && !req.client.IsPublic() }

// grantFunc runs one grant type: it checks the proof and says what may be
// issued, and how that is paid for. It changes nothing by itself.
type grantFunc func(*Handler, context.Context, *request) (authority.Authorization, authority.Spend, error)

// grants is every grant type that the token endpoint knows.
var grants = map[oauth.GrantType]grantFunc{
	oauth.ClientCredentials: (*Handler).clientCredentials,
	oauth.AuthorizationCode: (*Handler).authorizationCode,
	oauth.RefreshToken:      (*Handler).refreshToken,
	oauth.TokenExchange:     (*Handler).tokenExchange,
	oauth.JWTBearer:         (*Handler).jwtBearer,
}

// Token is POST /token (RFC 6749 §3.2).
func (h *Handler) Token(w http.ResponseWriter, r *http.Request) {
	req := &request{at: h.Now()}
	response, err := h.token(r, req)
	if err != nil {
		h.recordRefusal(r.Context(), req, err)
		httpx.Error(w, r, err)
		return
	}
	httpx.RawJSON(w, http.StatusOK, response.JSON())
}

func (h *Handler) token(r *http.Request, req *request) (issue.Response, error) {
	ctx := r.Context()
	var err error
	if req.form, err = httpx.ReadForm(r); err != nil {
		return issue.Response{}, err
	}
	req.now = h.Now() // a caller who sends its body slowly gains no time
	asked := oauth.GrantType(req.form.Get("grant_type"))
	// A workload needs no client: its proof is the subject token.
	exchanges := asked == oauth.TokenExchange || asked == oauth.JWTBearer
	isWorkload := exchanges && !clientauth.Names(r, req.form)
	if !isWorkload {
		if err := h.authenticate(r, req); err != nil {
			return issue.Response{}, err
		}
	}
	run, known := grants[asked]
	switch {
	case asked == "":
		return issue.Response{}, oauth.Errorf(oauth.InvalidRequest, "grant_type is missing")
	case !known:
		return issue.Response{}, oauth.Errorf(oauth.UnsupportedGrantType, "this grant_type is not supported")
	}
	req.grantType = asked // only a word of ours goes into journal and metrics
	if !isWorkload && !req.client.MayUse(req.grantType) {
		return issue.Response{}, oauth.Errorf(oauth.UnauthorizedClient, "the client is not registered for %s", req.grantType)
	}
	authorization, spend, err := run(h, ctx, req)
	var response issue.Response
	if err == nil {
		response, err = h.Issue(ctx, authorization, spend)
	}
	if err != nil && exchanges {
		err = h.refusedExchange(r, req, err)
	}
	return response, err
}

// authenticate finds out who the client is.
func (h *Handler) authenticate(r *http.Request, req *request) error {
	client, proof, err := h.Clients.Authenticate(r, req.form)
	req.assertion = authority.Origin{TokenID: proof.ID, TokenHash: proof.Hash, Pod: proof.Pod.Name}
	if err != nil {
		return err
	}
	req.client, req.proof = client, proof
	return nil
}

// recordRefusal puts a refusal into the journal. One of a caller who is known, or
// who has shown an authentic token of somebody, waits for the disk; if that fails
// there is nothing more to refuse.
func (h *Handler) recordRefusal(ctx context.Context, req *request, err error) {
	refused := oauth.AsError(err)
	event := authority.Event{
		Type: authority.EventTokenRefused, At: req.at, ClientID: req.client.ID, Subject: req.subject,
		Error: string(refused.Code), Reason: refused.Description,
	}
	var judged *oauth.Error // not a failure of ours, of which nobody counts how many there are
	shown := (req.origin.TokenHash != "" || req.assertion.TokenHash != "") && errors.As(err, &judged) && judged != httpx.ErrTooMany
	if !req.isKnown() && !shown {
		h.Tally(ctx, event)
		return
	}
	event.GrantType, event.Assertion = string(req.grantType), req.assertion
	if shown {
		// The answer does not say which policy was near: the record does.
		event.Origin, event.Reason = req.origin, judged.Reason()
		if req.target != "" {
			event.Audience = []string{req.target}
		}
	}
	_ = h.Record(ctx, event)
}

// proved says whether the caller has proved the key that a grant is bound to. No
// proof can be checked yet, so nothing is given on such a grant, and nothing that
// its thief presents ends it (docs/security/threats.md F 79, 81).
func proved(g authority.Grant) error {
	if !g.Confirmation.IsZero() {
		return oauth.Errorf(oauth.InvalidGrant, "the grant is bound to a key, and the request proves none")
	}
	return nil
}

// remaining takes from a grant the scopes that its client has lost since
// consent. If that is all of them nothing is left to issue; a grant that
// never had a scope is another thing, and goes to its only resource.
func remaining(g authority.Grant, c authority.Client) (authority.Grant, error) {
	left := g.Scopes.Intersect(c.Scopes)
	if left.IsEmpty() && !g.Scopes.IsEmpty() {
		return authority.Grant{}, oauth.Errorf(oauth.InvalidGrant, "the client has lost every scope of the grant: ask for consent again")
	}
	g.Scopes = left
	return g, nil
}

// resolveTarget settles scopes and resources. reach are the resource ids that the
// request may go to at most.
func (h *Handler) resolveTarget(ctx context.Context, req *request, scopes oauth.Scopes, explicit bool, reach []string) (authority.Target, error) {
	resources := make([]authority.Resource, 0, len(reach))
	for _, id := range reach {
		if !req.client.MayReach(id) {
			continue // taken from the client since
		}
		r, err := h.Directory.Resource(ctx, id)
		if errors.Is(err, authority.ErrNotFound) {
			continue // removed since: nothing is good there any more
		}
		if err != nil {
			return authority.Target{}, err
		}
		resources = append(resources, r)
	}
	return authority.ResolveTarget(authority.TargetRequest{
		Scopes: scopes, Explicit: explicit, Reach: resources, Asked: req.form.All("resource"), Several: req.client.AllowMultipleAudiences,
	})
}

// authorization puts together what every grant type says in the same way.
func (h *Handler) authorization(req *request, grant authority.Grant, target authority.Target) authority.Authorization {
	return authority.Authorization{
		GrantType: req.grantType, Client: req.client, Grant: grant, Target: target, At: req.at, Assertion: req.assertion,
		Confirmation: grant.Confirmation, Format: target.Format(), Life: target.AccessTTL(h.Settings()),
	}
}

// endGrant ends a grant for good, here and everywhere, before the caller is told.
func (h *Handler) endGrant(ctx context.Context, g authority.Grant, event authority.EventType, reason string, at time.Time) error {
	_, err := h.Endings.EndGrant(ctx, g.ID, authority.Event{
		Type: event, At: at, ClientID: g.ClientID, Subject: g.Subject, GrantID: g.ID, SessionID: g.SessionID, Reason: reason,
	})
	return err
}
