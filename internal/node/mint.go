package node

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Mint issues a token for a client of the file, on the same road as every
// other token. A resource's own lifetime may be replaced.
func (n *Node) Mint(ctx context.Context, clientID, resourceID string, ttl time.Duration) (string, error) {
	client, err := n.directory.Client(ctx, clientID)
	if err != nil {
		return "", err
	}
	resource, err := n.directory.Resource(ctx, resourceID)
	if err != nil {
		return "", err
	}
	now := n.now()
	target := authority.Target{Scopes: client.Scopes, Resources: []authority.Resource{resource}}
	if ttl == 0 {
		ttl = target.AccessTTL(n.settings())
	}
	response, err := n.issuer.Issue(ctx, authority.Authorization{
		GrantType: oauth.ClientCredentials, Client: client, At: now, Target: target, Format: target.Format(), Life: ttl,
		Grant: authority.Grant{
			ID: authority.NewID(now), ClientID: client.ID, State: authority.GrantActive,
			Subject: authority.Subject{Issuer: n.settings().URL, ID: client.ID, Kind: authority.SubjectClient},
			Scopes:  client.Scopes, CreatedAt: now, ExpiresAt: now.Add(authority.MaxTokenTTL),
		},
	}, nil)
	return response.AccessToken, err
}
