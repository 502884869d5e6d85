// Package token is the token endpoint and its neighbours: /token, /introspect,
// /revoke and /userinfo.
//
// POST /token runs, top to bottom: parse, authenticate the client, run the
// grant, issue (which checks accounts and epochs, spends, signs and journals),
// write. A grant type is one function in one file; discovery lists the same map.
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
)

// Handler serves the endpoints. All fields are required.
type Handler struct {
	Settings  func() authority.Issuer
	Directory *authority.Directory
	Clients   *clientauth.Authenticator
	Grants    authority.GrantStore
	Refresh   authority.RefreshKey
	Issue     func(ctx context.Context, a authority.Authorization) (issue.Response, error)
	Live      func(raw string) (*issue.AccessToken, error)
	Revoked   func(authority.Lineage) bool
	// Fresh fails when this node cannot know what has been revoked.
	Fresh func() error
	// Revoke writes a revocation; Took applies what a store transition wrote.
	Revoke func(ctx context.Context, r authority.Revocation) error
	Took   func(...authority.Revocation)
	// Record returns when the entry is on disk; Tally does not wait and
	// counts repeats, for callers who have not proved who they are.
	Record func(ctx context.Context, e authority.Event) error
	Tally  func(ctx context.Context, e authority.Event)
	Now    func() time.Time
}

// request is one request to the token endpoint on its way down.
type request struct {
	at        time.Time
	form      httpx.Params
	client    authority.Client // zero until it has proved itself
	grantType oauth.GrantType
}

// grants is every grant type that the token endpoint knows.
var grants = map[oauth.GrantType]func(*Handler, context.Context, *request) (authority.Authorization, error){
	oauth.ClientCredentials: (*Handler).clientCredentials,
	oauth.AuthorizationCode: (*Handler).authorizationCode,
	oauth.RefreshToken:      (*Handler).refreshToken,
}

// GrantTypes lists the grant types, for discovery.
func GrantTypes() []oauth.GrantType {
	return []oauth.GrantType{oauth.AuthorizationCode, oauth.ClientCredentials, oauth.RefreshToken}
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
	if req.client, err = h.Clients.Authenticate(r, req.form); err != nil {
		return issue.Response{}, err
	}
	asked := oauth.GrantType(req.form.Get("grant_type"))
	run, known := grants[asked]
	switch {
	case asked == "":
		return issue.Response{}, oauth.Errorf(oauth.InvalidRequest, "grant_type is missing")
	case !known:
		return issue.Response{}, oauth.Errorf(oauth.UnsupportedGrantType, "this grant_type is not supported")
	}
	req.grantType = asked // only a word of ours goes into journal and metrics
	if !req.client.MayUse(req.grantType) {
		return issue.Response{}, oauth.Errorf(oauth.UnauthorizedClient, "the client is not registered for %s", req.grantType)
	}
	authorization, err := run(h, ctx, req)
	if err != nil {
		return issue.Response{}, err
	}
	return h.Issue(ctx, authorization)
}

// recordRefusal puts a refusal into the journal. One of a caller who is known
// waits for the disk; if that fails there is nothing more to refuse.
func (h *Handler) recordRefusal(ctx context.Context, req *request, err error) {
	refused := oauth.AsError(err)
	event := authority.Event{
		Type: authority.EventTokenRefused, At: req.at, ClientID: req.client.ID,
		Error: string(refused.Code), Reason: refused.Description,
	}
	if req.client.ID == "" || req.client.IsPublic() { // anybody can say that they are a public client
		h.Tally(ctx, event)
		return
	}
	event.GrantType = string(req.grantType)
	_ = h.Record(ctx, event)
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
	return authority.ResolveTarget(scopes, explicit, resources, req.form.All("resource"))
}

// endGrant ends a grant for good, here and everywhere, before the caller is told.
func (h *Handler) endGrant(ctx context.Context, g authority.Grant, event authority.EventType, reason string, at time.Time) error {
	ctx, cancel := issue.Settle(ctx)
	defer cancel()
	ended, err := h.Grants.EndGrant(ctx, g.ID, reason, at, at.Add(authority.MaxTokenTTL+authority.Leeway))
	if err != nil {
		return err
	}
	h.Took(ended...)
	if len(ended) == 0 {
		return nil // somebody else ended it first, and recorded it
	}
	return h.Record(ctx, authority.Event{
		Type: event, At: at, ClientID: g.ClientID, Subject: g.Subject, GrantID: g.ID, SessionID: g.SessionID, Reason: reason,
	})
}
