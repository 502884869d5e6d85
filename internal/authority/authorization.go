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

	RefreshToken oauth.Secret // handed out with the access token; zero for none
	IDToken      bool         // an ID token goes with it (OpenID Connect Core §3.1.3.3, §12.2)
}

// Spend makes the transition that pays for the tokens of an Authorization: it
// redeems the code or rotates the refresh token. Nil where nothing is spent.
type Spend func(ctx context.Context) error

// Actor is who acts for a subject, and for whom that one acts (RFC 8693 §4.1).
type Actor struct {
	Subject string // `sub`
	Act     *Actor // nil at the first actor
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

// ResolveTarget settles scopes and audience of a request (RFC 6749 §3.3, RFC 8707 §2).
//
// reach are the resources that the request may go to: those of the client, or
// of the grant. asked are the resource indicators that were sent: none means
// every resource that owns one of the scopes, so that a token is never good
// where it has nothing to do. Scopes that were asked for by name must be owned
// by a targeted resource; with explicit false they are only narrowed to what
// the targets own.
func ResolveTarget(scopes oauth.Scopes, explicit bool, reach []Resource, asked []string) (Target, error) {
	var resources []Resource
	for _, id := range asked {
		i := slices.IndexFunc(reach, func(r Resource) bool { return r.ID == id })
		if i < 0 {
			return Target{}, oauth.Errorf(oauth.InvalidTarget, "the client may not ask for tokens for this resource")
		}
		if !slices.ContainsFunc(resources, func(r Resource) bool { return r.ID == id }) {
			resources = append(resources, reach[i])
		}
	}
	if len(asked) == 0 {
		for _, r := range reach {
			if !scopes.Intersect(r.Scopes).IsEmpty() {
				resources = append(resources, r)
			}
		}
		onlyOne := len(reach) == 1 && len(resources) == 0 && scopes.IsEmpty()
		if onlyOne {
			resources = reach
		}
	}
	owned := oauth.StandardScopes
	for _, r := range resources {
		owned = owned.Union(r.Scopes)
		if r.Format != resources[0].Format {
			return Target{}, oauth.Errorf(oauth.InvalidTarget, "these resources take different kinds of token: ask for one resource at a time")
		}
	}
	if outside, is := scopes.FirstOutside(owned); is && explicit {
		return Target{}, oauth.Errorf(oauth.InvalidScope, "scope %q belongs to none of the resources asked for", outside)
	}
	return Target{Scopes: scopes.Intersect(owned), Resources: resources}, nil
}
