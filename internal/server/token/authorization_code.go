// RFC 6749 §4.1.3, RFC 7636 §4.6, OpenID Connect Core §3.1.3: a code is
// redeemed once, by the client that it was made for.
package token

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (h *Handler) authorizationCode(ctx context.Context, req *request) (authority.Authorization, authority.Spend, error) {
	presented := req.form.Get("code")
	if presented == "" {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidRequest, "code is missing")
	}
	code, err := authority.ParseAuthorizationCode(presented)
	if err != nil {
		return authority.Authorization{}, nil, errCode.Because(err)
	}
	if err := h.Endings.Follower.Fresh(); err != nil { // an epoch ends grants and leaves their rows as they are
		return authority.Authorization{}, nil, err
	}
	grant, err := h.Grants.Grant(ctx, code.GrantID)
	if errors.Is(err, authority.ErrNotFound) {
		return authority.Authorization{}, nil, errCode.Because(err)
	}
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	if !grant.Matches(code) || grant.ClientID != req.client.ID {
		return authority.Authorization{}, nil, errCode
	}
	if err := proved(grant); err != nil {
		return authority.Authorization{}, nil, err
	}
	if grant.State == authority.GrantPending && !req.now.Before(grant.Code.ExpiresAt) {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidGrant, "the authorization code has expired")
	}
	if req.form.Get("redirect_uri") != grant.Code.RedirectURI {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidGrant, "redirect_uri is not the one of the authorization request")
	}
	if err := grant.Code.Challenge.Verify(req.form.Get("code_verifier")); err != nil {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidGrant, "%s", err)
	}
	if grant.State != authority.GrantPending {
		// Only who could have redeemed it ends the grant: an old code out of a
		// browser's history signs nobody out.
		return authority.Authorization{}, nil, h.codeReused(ctx, req, grant)
	}
	if grant, err = remaining(grant, req.client); err != nil {
		return authority.Authorization{}, nil, err
	}
	target, err := h.resolveTarget(ctx, req, grant.Scopes, false, grant.Resources)
	if err != nil {
		return authority.Authorization{}, nil, err
	}

	expires, err := h.expiry(ctx, req, grant)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	grant.State, grant.ExpiresAt = authority.GrantActive, expires
	var refreshToken oauth.Secret
	if req.client.MayUse(oauth.RefreshToken) {
		first := h.Refresh.First(grant.ID)
		grant.Refresh = first.State(req.now, h.Settings().RefreshIdleTTL)
		refreshToken = oauth.SecretOf(h.Refresh.Reveal(first))
	}
	a := h.authorization(req, grant, target)
	a.RefreshToken, a.IDToken = refreshToken, grant.Scopes.Has(oauth.ScopeOpenID)
	spend := func(ctx context.Context) error {
		err := h.Grants.RedeemCode(ctx, grant.ID, code.Hash(), grant.Refresh, grant.ExpiresAt, req.now)
		if errors.Is(err, authority.ErrSpent) {
			return h.lostCode(ctx, req, grant)
		}
		return err
	}
	return a, spend, nil
}

// expiry is when the grant ends by itself. One without refresh tokens needs to
// live only as long as its one access token. One that depends on a session ends
// with it at the latest.
func (h *Handler) expiry(ctx context.Context, req *request, grant authority.Grant) (time.Time, error) {
	expires := req.now.Add(authority.MaxTokenTTL)
	if req.client.MayUse(oauth.RefreshToken) {
		expires = req.now.Add(h.Settings().RefreshTTL)
	}
	if grant.Evidence != authority.SessionEvidence(grant.SessionID) {
		return expires, nil
	}
	session, err := h.session(ctx, req, grant)
	if err != nil {
		return time.Time{}, err
	}
	if session.ExpiresAt.Before(expires) {
		expires = session.ExpiresAt
	}
	return expires, nil
}

// session finds the browser session that a grant depends on.
func (h *Handler) session(ctx context.Context, req *request, grant authority.Grant) (authority.Session, error) {
	session, err := h.Sessions.Session(ctx, grant.SessionID)
	if errors.Is(err, authority.ErrNotFound) || err == nil && !session.Alive(req.now) {
		return session, oauth.Errorf(oauth.InvalidGrant, "the person is not signed in any more")
	}
	return session, err
}

var errCode = oauth.Errorf(oauth.InvalidGrant, "the authorization code is not valid")

// lostCode looks why the code is spent, after it was not a moment ago.
func (h *Handler) lostCode(ctx context.Context, req *request, grant authority.Grant) error {
	_, err := h.Grants.Grant(ctx, grant.ID)
	if errors.Is(err, authority.ErrNotFound) {
		return errCode.Because(err) // the person has begun again: see GrantStore.CreateGrant
	}
	if err != nil {
		return err
	}
	return h.codeReused(ctx, req, grant)
}

// codeReused ends the grant: a code that is presented twice has been seen by
// somebody else (RFC 6749 §4.1.2).
func (h *Handler) codeReused(ctx context.Context, req *request, grant authority.Grant) error {
	if err := h.endGrant(ctx, grant, authority.EventGrantEnded, "authorization code used twice", req.at); err != nil {
		return err
	}
	return oauth.Errorf(oauth.InvalidGrant, "the authorization code has been used already")
}
