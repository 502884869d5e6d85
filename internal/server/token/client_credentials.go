// RFC 6749 §4.4: the client acts for itself. Nothing is stored: the token is
// its own grant, and dies with the client. That of a client which another issuer
// vouches for also dies with its pod or job: see vouched.go.
package token

import (
	"context"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (h *Handler) clientCredentials(ctx context.Context, req *request) (authority.Authorization, authority.Spend, error) {
	if req.client.IsPublic() {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.UnauthorizedClient, "a public client cannot act for itself")
	}
	// The scopes of OpenID Connect are about a person, and here is none.
	allowed := req.client.Scopes.Filter(func(s string) bool { return !oauth.StandardScopes.Has(s) })
	scopes, err := oauth.ParseScopes(req.form.Get("scope"))
	if err != nil {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidScope, "%s", err)
	}
	explicit := !scopes.IsEmpty()
	if outside, is := scopes.FirstOutside(allowed); is {
		return authority.Authorization{}, nil, oauth.Errorf(oauth.InvalidScope, "the client may not ask for scope %q", outside)
	}
	if !explicit {
		scopes = allowed
	}
	target, err := h.resolveTarget(ctx, req, scopes, explicit, req.client.Resources)
	if err != nil {
		return authority.Authorization{}, nil, err
	}
	grant := authority.Grant{
		ID:       authority.NewID(req.at),
		ClientID: req.client.ID,
		Subject:  authority.Subject{Issuer: h.Settings().URL, ID: req.client.ID, Kind: authority.SubjectClient},
		Scopes:   target.Scopes, Resources: target.ResourceIDs(),
		State: authority.GrantActive, CreatedAt: req.at, ExpiresAt: req.at.Add(authority.MaxTokenTTL),
	}
	a := h.authorization(req, grant, target)
	return a, nil, h.vouch(ctx, req, &a)
}
