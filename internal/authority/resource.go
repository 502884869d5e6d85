// RFC 8707 §2: resources and their identifiers.
package authority

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// TokenFormat says what the access tokens of a resource look like.
type TokenFormat string

// The two formats.
const (
	FormatJWT    TokenFormat = "jwt"    // RFC 9068
	FormatOpaque TokenFormat = "opaque" // sealed by us, read by introspection only
)

var tokenFormats = []TokenFormat{FormatJWT, FormatOpaque}

// TokenFormats lists what token_format may be.
func TokenFormats() []string { return texts(tokenFormats) }

// MaxAccessTTL is the longest life that may be configured for access tokens.
const MaxAccessTTL = time.Hour

// ownNames begin the identifiers that are built in.
const ownNames = "urn:signalbox:"

// ResourceMetadata is a resource as somebody writes it: in the file, to the
// admin API, in a stored row. NewResource turns it into a Resource.
type ResourceMetadata struct {
	ID                   string   `json:"id"`
	Scopes               []string `json:"scopes"`
	TokenFormat          string   `json:"token_format"`
	AccessTTL            Seconds  `json:"access_ttl,omitempty"`
	IntrospectionClients []string `json:"introspection_clients,omitempty"`
}

// Resource is an API that accepts our tokens.
type Resource struct {
	ID                   string // what `aud` holds (RFC 8707)
	Scopes               oauth.Scopes
	Format               TokenFormat
	AccessTTL            time.Duration // zero means the issuer's
	IntrospectionClients []string      // the clients that may introspect tokens meant for this resource
	Source               Source
	Revision             int64 // in the database
	CreatedAt            time.Time
	UpdatedAt            time.Time

	Problems Problems // of a stored one that breaks the rule book: it is off
	broken   *ResourceMetadata
}

// NewResource makes a Resource of what was written. The error is Problems.
func NewResource(m ResourceMetadata) (Resource, error) {
	if found := m.Validate(); len(found) > 0 {
		return Resource{}, Problems(found)
	}
	scopes, err := oauth.ScopesOf(m.Scopes...)
	return Resource{
		ID: m.ID, Scopes: scopes, Format: TokenFormat(m.TokenFormat), AccessTTL: time.Duration(m.AccessTTL),
		IntrospectionClients: m.IntrospectionClients,
	}, err
}

// Metadata is the resource as it is written. Changing it changes no Resource.
func (r Resource) Metadata() ResourceMetadata {
	if r.broken != nil {
		return *r.broken
	}
	return ResourceMetadata{
		ID: r.ID, Scopes: r.Scopes.List(), TokenFormat: string(r.Format), AccessTTL: Seconds(r.AccessTTL),
		IntrospectionClients: slices.Clone(r.IntrospectionClients),
	}
}

// Validate finds what breaks a rule, without asking about other objects.
func (m ResourceMetadata) Validate() []Problem {
	var found Problems
	if strings.HasPrefix(strings.ToLower(m.ID), ownNames) {
		found.add("id", quote(m.ID)+" is built in", "omit it: clients may name it without")
	}
	found.at("id", checkResourceID(m.ID))
	if found.list("scopes", m.Scopes, maxMembers) {
		found.each("scopes", m.Scopes, checkScope)
		for i, name := range m.Scopes {
			if oauth.StandardScopes.Has(name) {
				found.add(member("scopes", i), name+" is a scope of OpenID Connect", "choose another name")
			}
		}
	}
	if !slices.Contains(tokenFormats, TokenFormat(m.TokenFormat)) {
		found.add("token_format", quote(m.TokenFormat)+" is not accepted here", "write one of: "+strings.Join(TokenFormats(), ", "))
	}
	if ttl := time.Duration(m.AccessTTL); ttl != 0 && (ttl < time.Second || ttl > MaxAccessTTL || !m.AccessTTL.whole()) {
		found.add("access_ttl", ttl.String()+" is out of range", fmt.Sprintf("write whole seconds, from 1 to %d", MaxAccessTTL/time.Second))
	}
	if found.list("introspection_clients", m.IntrospectionClients, maxMembers) {
		found.each("introspection_clients", m.IntrospectionClients, checkID)
	}
	return found
}

// CheckReferences finds what does not fit the other objects. An error is a
// failure to look at them.
func (m ResourceMetadata) CheckReferences(r References) ([]Problem, error) {
	var found Problems
	if m.ID == r.Issuer {
		found.add("id", "is the issuer itself", "give the API an identifier of its own: a token for the issuer is something else")
	}
	if _, is := ClusterOf(m.ID, r.Issuer); is {
		found.add("id", quote(m.ID)+" is the place of a cluster", "register the cluster instead")
	}
	if m.ID == TokenReviewAudience(r.Issuer) {
		found.add("id", quote(m.ID)+" is built in", "omit it: clients may name it without")
	}
	_, taken, err := known(r.Client, m.ID)
	if err != nil {
		return nil, err
	}
	if taken {
		found.add("id", quote(m.ID)+" is the id of a client", "choose another")
	}
	for i, id := range m.IntrospectionClients {
		client, there, err := known(r.Client, id)
		switch at := member("introspection_clients", i); {
		case err != nil:
			return nil, err
		case !there:
			found.add(at, "there is no client "+quote(id), "register the client first")
		case client.authenticates(oauth.AuthNone):
			found.add(at, quote(id)+" is a public client: anybody could introspect in its name", "give it a secret or a key")
		}
	}
	return found, nil
}

// ParseResourceID checks a resource indicator. The error is a Problem.
func ParseResourceID(s string) (string, error) {
	if p := checkResourceID(s); p != nil {
		return "", *p
	}
	return s, nil
}

// MayIntrospect says whether a client may ask about tokens for this resource.
func (r Resource) MayIntrospect(clientID string) bool {
	return slices.Contains(r.IntrospectionClients, clientID)
}
