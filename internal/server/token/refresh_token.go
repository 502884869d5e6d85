// RFC 6749 §6 and RFC 9700 §4.14.2: rotation with reuse detection. The rule
// stands in authority.Grant.Present; here it meets the store.
package token

import (
	"context"
	"errors"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (h *Handler) refreshToken(ctx context.Context, req *request) (authority.Authorization, error) {
	presented := req.form.Get("refresh_token")
	if presented == "" {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidRequest, "refresh_token is missing")
	}
	token, err := h.Refresh.Parse(presented)
	if err != nil {
		return authority.Authorization{}, errRefresh.Because(err)
	}
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.Authorization{}, errRefresh.Because(err)
	}
	if err != nil {
		return authority.Authorization{}, err
	}
	if grant.ClientID != req.client.ID {
		return authority.Authorization{}, errRefresh
	}
	issuer := h.Settings()
	presentation := grant.Present(h.Refresh, token, req.at, issuer.RefreshGrace)
	switch presentation {
	case authority.Rotate, authority.Replay:
	case authority.Reuse:
		return authority.Authorization{}, h.refreshReused(ctx, req, grant)
	default:
		return authority.Authorization{}, errRefresh
	}

	asked, err := oauth.ParseScopes(req.form.Get("scope"))
	if err != nil {
		return authority.Authorization{}, oauth.Errorf(oauth.InvalidScope, "%s", err)
	}
	if grant, err = remaining(grant, req.client); err != nil {
		return authority.Authorization{}, err
	}
	scopes, _, err := grant.Narrow(asked, nil)
	if err != nil {
		return authority.Authorization{}, err
	}
	target, err := h.resolveTarget(ctx, req, scopes, !asked.IsEmpty(), grant.Resources)
	if err != nil {
		return authority.Authorization{}, err
	}
	successor := h.Refresh.Successor(token)
	a := authority.Authorization{
		GrantType: req.grantType, Client: req.client, Grant: grant, Target: target, At: req.at,
		RefreshToken: h.Refresh.Reveal(successor),
		IDToken:      target.Scopes.Has(oauth.ScopeOpenID),
	}
	if presentation == authority.Rotate {
		a.Spend = func(ctx context.Context) error {
			err := h.Grants.RotateRefresh(ctx, grant.ID, grant.Refresh, successor.State(req.at, issuer.RefreshIdleTTL))
			if errors.Is(err, authority.ErrConflict) {
				return h.lostRace(ctx, req, token)
			}
			return err
		}
	}
	return a, nil
}

var errRefresh = oauth.Errorf(oauth.InvalidGrant, "the refresh token is not valid")

// lostRace looks again after another request moved the grant on first. If
// that one presented the same token, both get the same successor.
func (h *Handler) lostRace(ctx context.Context, req *request, token authority.RefreshToken) error {
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return errRefresh
	}
	if err != nil {
		return err
	}
	switch grant.Present(h.Refresh, token, req.at, h.Settings().RefreshGrace) {
	case authority.Replay:
		return nil
	case authority.Reuse:
		return h.refreshReused(ctx, req, grant)
	default:
		return errRefresh
	}
}

// refreshReused ends the grant: whether the thief or the honest client comes
// second cannot be told, so both stop.
func (h *Handler) refreshReused(ctx context.Context, req *request, grant authority.Grant) error {
	if err := h.endGrant(ctx, grant, authority.EventRefreshReused, "refresh token used again after its time", req.at); err != nil {
		return err
	}
	return oauth.Errorf(oauth.InvalidGrant, "the refresh token has been used already: the grant has been ended")
}
