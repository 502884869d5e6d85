// RFC 6749 §4.1.3, RFC 7636 §4.6, OpenID Connect Core §3.1.3: a code is
// redeemed once, by the client that it was made for.
package token

import (
	"context"
	"errors"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (h *Handler) authorizationCode(ctx context.Context, req *request) (authority.Authorization, error) {
	presented := req.form.Get("code")
	if presented == "" {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidRequest, "code is missing")
	}
	code, err := authority.ParseAuthorizationCode(presented)
	if err != nil {
		return authority.Authorization{}, errCode.Because(err)
	}
	grant, err := h.Grants.Grant(ctx, code.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.Authorization{}, errCode.Because(err)
	}
	if err != nil {
		return authority.Authorization{}, err
	}
	if !grant.Matches(code) || grant.ClientID != req.client.ID {
		return authority.Authorization{}, errCode
	}
	if grant.State == authority.GrantPending && !req.at.Before(grant.Code.ExpiresAt) {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidGrant, "the authorization code has expired")
	}
	if req.form.Get("redirect_uri") != grant.Code.RedirectURI {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidGrant, "redirect_uri is not the one of the authorization request")
	}
	if err := grant.Code.Challenge.Verify(req.form.Get("code_verifier")); err != nil {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidGrant, "%s", err)
	}
	if grant.State != authority.GrantPending {
		// Only who could have redeemed it ends the grant: an old code out of a
		// browser's history signs nobody out.
		return authority.Authorization{}, h.codeReused(ctx, req, grant)
	}
	if grant, err = remaining(grant, req.client); err != nil {
		return authority.Authorization{}, err
	}
	target, err := h.resolveTarget(ctx, req, grant.Scopes, false, grant.Resources)
	if err != nil {
		return authority.Authorization{}, err
	}

	issuer := h.Settings()
	a := authority.Authorization{
		GrantType: req.grantType, Client: req.client, Target: target, At: req.at,
		IDToken: grant.Scopes.Has(oauth.ScopeOpenID),
	}
	var refresh authority.Refresh
	grant.ExpiresAt = req.at.Add(authority.MaxTokenTTL) // long enough for its one access token
	if req.client.MayUse(oauth.RefreshToken) {
		first := h.Refresh.First(grant.ID)
		refresh = first.State(req.at, issuer.RefreshIdleTTL)
		a.RefreshToken = h.Refresh.Reveal(first)
		grant.ExpiresAt = req.at.Add(issuer.RefreshTTL)
	}
	grant.State, grant.Refresh = authority.GrantActive, refresh
	a.Grant = grant
	a.Spend = func(ctx context.Context) error {
		err := h.Grants.RedeemCode(ctx, grant.ID, code.Hash(), refresh, grant.ExpiresAt, req.at)
		if errors.Is(err, authority.ErrSpent) {
			return h.codeReused(ctx, req, grant)
		}
		return err
	}
	return a, nil
}

var errCode = oauth.Errorf(oauth.InvalidGrant, "the authorization code is not valid")

// codeReused ends the grant: a code that is presented twice has been seen by
// somebody else (RFC 6749 §4.1.2).
func (h *Handler) codeReused(ctx context.Context, req *request, grant authority.Grant) error {
	if err := h.endGrant(ctx, grant, authority.EventGrantEnded, "authorization code used twice", req.at); err != nil {
		return err
	}
	return oauth.Errorf(oauth.InvalidGrant, "the authorization code has been used already")
}
