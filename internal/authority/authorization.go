package authority

import (
	"context"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Authorization is the decision to issue now: what the tokens will say, before
// they are signed. Every flow ends in one. It is a plain value: who looks at it
// changes nothing.
type Authorization struct {
	GrantType    oauth.GrantType
	Client       Client
	Grant        Grant // as it will be once Spend has succeeded
	Target       Target
	Actor        *Actor       // who acts for the subject; nil where nobody does
	Confirmation Confirmation // the key that the access token is bound to; zero for a bearer token
	Format       TokenFormat
	Life         time.Duration // of the access token; never longer than its grant's
	At           time.Time     // when the request came in: `iat`. Earlier than any check, so that no epoch can slip in between

	Policy     string          // the trust policy that allowed it; empty where none was asked
	Groups     []string        // what the policy gives besides scopes: `groups`
	Origin     Origin          // what was exchanged for the token; zero for none
	Assertion  Origin          // of another issuer, by which the client has proved itself; zero for none
	IssuedType oauth.TokenType // what the answer calls it (RFC 8693 §2.2.1); empty for other grant types

	RefreshToken oauth.Secret // handed out with the access token; zero for none
	IDToken      bool         // an ID token goes with it (OpenID Connect Core §3.1.3.3, §12.2)
}

// Links are what the life of the tokens depends on: the grant, and the trust
// policy that allowed them, whoever the client is.
func (a Authorization) Links() []Link {
	links := a.Grant.Links()
	if a.Policy != "" {
		links = append(links, PolicyLink(a.Policy, a.At))
	}
	return links
}

// Claims are those about the person that were asked for by name and allowed, as
// far as the client may still have them.
func (a Authorization) Claims() RequestedClaims {
	return a.Grant.Claims.Only(func(c PersonClaim) bool { return a.Client.Scopes.Has(c.Scope) })
}

// PolicyLink is what ends the tokens that a trust policy has allowed when it is
// changed or removed.
func PolicyLink(policy string, issued time.Time) Link {
	return Link{Kind: EpochClient, Key: PolicyClientPrefix + policy, Born: issued}
}

// Spend makes the transition that pays for the tokens of an Authorization: it
// redeems the code or rotates the refresh token. Nil where nothing is spent.
type Spend func(ctx context.Context) error

// Origin is a token that was shown for another one, as the journal knows it.
type Origin struct {
	TokenID   string // `jti`: other issuers write what they like
	TokenHash string
	Pod       string // the name of the pod that it was bound to; empty for none
}

// Actor is who acts for a subject, and for whom that one acts (RFC 8693 §4.1).
type Actor struct {
	Subject string `json:"sub"`
	Act     *Actor `json:"act,omitempty"` // who acted before; nil at the first actor
}

// Target is where a token is good and for what.
type Target struct {
	Scopes    oauth.Scopes
	Resources []Resource // empty: good at the issuer alone (UserInfo)
}

// Audience is the `aud` of an access token. A token with openid is also good
// at UserInfo, which is the issuer itself.
func (t Target) Audience(issuer string) []string {
	var aud []string
	for _, r := range t.Resources {
		aud = append(aud, r.ID)
	}
	if len(aud) == 0 || t.Scopes.Has(oauth.ScopeOpenID) {
		aud = append(aud, issuer)
	}
	return aud
}

// ForCluster says whether the token is for a Kubernetes cluster.
func (t Target) ForCluster(issuer string) bool {
	return slices.ContainsFunc(t.Resources, func(r Resource) bool { _, is := ClusterOf(r.ID, issuer); return is })
}

// ResourceIDs are the identifiers of the targeted resources.
func (t Target) ResourceIDs() []string {
	ids := make([]string, 0, len(t.Resources))
	for _, r := range t.Resources {
		ids = append(ids, r.ID)
	}
	return ids
}

// Format is the form of the access token. ResolveTarget has made sure that the
// resources agree on it.
func (t Target) Format() TokenFormat {
	if len(t.Resources) == 0 {
		return FormatJWT
	}
	return t.Resources[0].Format
}

// AccessTTL is the life of the access token: the shortest of its resources'.
func (t Target) AccessTTL(issuer Issuer) time.Duration {
	ttl := issuer.AccessTTL
	for i, r := range t.Resources {
		own := r.AccessTTL
		if own == 0 {
			own = issuer.AccessTTL
		}
		if i == 0 || own < ttl {
			ttl = own
		}
	}
	return min(ttl, MaxTokenTTL)
}

// TargetRequest is what ResolveTarget has to settle.
type TargetRequest struct {
	Scopes   oauth.Scopes
	Explicit bool       // the scopes were asked for by name; else they are only narrowed to what the targets own
	Reach    []Resource // where the request may go at most: the resources of the client, or of the grant
	Asked    []string   // the resource indicators that were sent
	// Several resources at once are for a grant, whose tokens are for one each,
	// and for a token of a client that AllowMultipleAudiences.
	Several bool
}

// ResolveTarget settles scopes and audience of a request (RFC 6749 §3.3, RFC 8707 §2).
//
// A token is good at one resource, since each of two could use it at the other;
// and in no case at the admin API and elsewhere. Without a resource indicator it
// is the one that owns the scopes, so that a token is never good where it has
// nothing to do. Where they belong to several, the client must name one.
func ResolveTarget(r TargetRequest) (Target, error) {
	resources, err := r.resources()
	if err != nil {
		return Target{}, err
	}
	owned := oauth.StandardScopes
	for _, resource := range resources {
		switch {
		case resource.ID == AdminResource && len(resources) > 1:
			return Target{}, oauth.Errorf(oauth.InvalidTarget, "a token for the resource %s is good nowhere else: name one with resource", AdminResource)
		case resource.ID == AdminResource:
			owned = oauth.Scopes{} // openid would make it good at UserInfo too
		case resource.Format != resources[0].Format:
			return Target{}, oauth.Errorf(oauth.InvalidTarget, "these resources take different kinds of token: ask for one resource at a time")
		}
		owned = owned.Union(resource.Scopes)
	}
	if outside, is := r.Scopes.FirstOutside(owned); is && r.Explicit {
		return Target{}, oauth.Errorf(oauth.InvalidScope, "scope %q belongs to none of the resources asked for", outside)
	}
	return Target{Scopes: r.Scopes.Intersect(owned), Resources: resources}, nil
}

// resources are those that were asked for, or else those that own the scopes.
func (r TargetRequest) resources() (resources []Resource, err error) {
	for _, id := range r.Asked {
		i := slices.IndexFunc(r.Reach, func(resource Resource) bool { return resource.ID == id })
		if i < 0 {
			return nil, oauth.Errorf(oauth.InvalidTarget, "the client may not ask for tokens for this resource")
		}
		if !slices.ContainsFunc(resources, func(resource Resource) bool { return resource.ID == id }) {
			resources = append(resources, r.Reach[i])
		}
	}
	if len(resources) > 1 && !r.Several {
		return nil, oauth.Errorf(oauth.InvalidTarget, "a token is good at one resource: ask for each with a request of its own")
	}
	if len(resources) > 0 {
		return resources, nil
	}
	for _, resource := range r.Reach {
		if !r.Scopes.Intersect(resource.Scopes).IsEmpty() {
			resources = append(resources, resource)
		}
	}
	if len(resources) == 0 && r.Scopes.IsEmpty() && (len(r.Reach) == 1 || !r.Several) {
		resources = r.Reach
	}
	if len(resources) > 1 && !r.Several {
		return nil, oauth.Errorf(oauth.InvalidTarget, "the scopes belong to several resources, and a token is good at one: name it with resource")
	}
	return resources, nil
}
