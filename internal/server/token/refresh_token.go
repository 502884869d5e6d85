// RFC 6749 §6 and RFC 9700 §4.14.2: rotation with reuse detection. The rule
// is authority.Grant.Present; here it meets the store.
package token

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (h *Handler) refreshToken(ctx context.Context, req *request) (authority.Authorization, authority.Spend, error) {
	presented := req.form.Get("refresh_token")
	if presented == "" {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidRequest, "refresh_token is missing")
	}
	token, err := h.Refresh.Parse(presented)
	if err != nil {
		return authority.Authorization{}, nil, errRefresh.Because(err)
	}
	if err := h.Endings.Follower.Fresh(); err != nil { // an epoch ends grants and leaves their rows as they are
		return authority.Authorization{}, nil, err
	}
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.Authorization{}, nil, errRefresh.Because(err)
	}
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	if grant.ClientID != req.client.ID {
		return authority.Authorization{}, nil, errRefresh
	}
	if err := proved(grant); err != nil {
		return authority.Authorization{}, nil, err
	}
	issuer := h.Settings()
	presentation := grant.Present(h.Refresh, token, req.now, issuer.RefreshGrace)
	switch presentation {
	case authority.Rotate, authority.Replay:
	case authority.Reuse:
		return authority.Authorization{}, nil, h.refreshReused(ctx, req, grant)
	default:
		if grant.State == authority.GrantEnded && grant.EndReason == reasonReused {
			return authority.Authorization{}, nil, h.refreshReused(ctx, req, grant) // that may not be on record
		}
		return authority.Authorization{}, nil, errRefresh
	}

	if grant.Evidence == authority.SessionEvidence(grant.SessionID) {
		if _, err := h.session(ctx, req, grant); err != nil {
			return authority.Authorization{}, nil, err
		}
	}
	asked, err := oauth.ParseScopes(req.form.Get("scope"))
	if err != nil {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidScope, "%s", err)
	}
	if grant, err = remaining(grant, req.client); err != nil {
		return authority.Authorization{}, nil, err
	}
	scopes, _, err := grant.Narrow(asked, nil)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	target, err := h.resolveTarget(ctx, req, scopes, !asked.IsEmpty(), grant.Resources)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	successor := h.Refresh.Successor(token)
	a := h.authorization(req, grant, target)
	a.RefreshToken, a.IDToken = oauth.SecretOf(h.Refresh.Reveal(successor)), target.Scopes.Has(oauth.ScopeOpenID)
	if presentation == authority.Replay {
		return a, nil, nil // paid for already
	}
	a.Grant.Refresh = successor.State(req.now, issuer.RefreshIdleTTL)
	spend := func(ctx context.Context) error {
		// The grace period begins now. The journal may have taken longer than that, and
		// then the client has given up and comes again.
		err := h.Grants.RotateRefresh(ctx, grant.ID, grant.Refresh, successor.State(h.Now(), issuer.RefreshIdleTTL))
		if errors.Is(err, authority.ErrConflict) {
			return h.lostRace(ctx, req, token)
		}
		return err
	}
	return a, spend, nil
}

var errRefresh = oauth.Errorf(oauth.InvalidGrant, "the refresh token is not valid")

// lostRace looks again after another request moved the grant on first. If
// that one presented the same token, both get the same successor, however long
// it took: this request found the token current, so it came before.
func (h *Handler) lostRace(ctx context.Context, req *request, token authority.RefreshToken) error {
	grant, err := h.Grants.Grant(ctx, token.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return errRefresh
	}
	if err != nil {
		return err
	}
	const anyLength = time.Duration(math.MaxInt64)
	switch grant.Present(h.Refresh, token, req.now, anyLength) {
	case authority.Replay:
		return nil
	case authority.Reuse:
		return h.refreshReused(ctx, req, grant)
	default:
		return errRefresh
	}
}

const reasonReused = "refresh token used again after its time"

// refreshReused ends the grant: whether the thief or the honest client comes
// second cannot be told, so both stop.
func (h *Handler) refreshReused(ctx context.Context, req *request, grant authority.Grant) error {
	if err := h.endGrant(ctx, grant, authority.EventRefreshReused, reasonReused, req.at); err != nil {
		return err
	}
	return oauth.Errorf(oauth.InvalidGrant, "the refresh token has been used already: the grant has been ended")
}
