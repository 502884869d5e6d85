package authority

import (
	"errors"
	"net/url"
	"slices"
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

// Resource is an API that accepts our tokens.
type Resource struct {
	ID                   string // what `aud` holds (RFC 8707)
	Scopes               oauth.Scopes
	Format               TokenFormat
	AccessTTL            time.Duration // zero means the issuer's
	IntrospectionClients []string      // the clients that may introspect tokens meant for this resource
	Source               Source
	CreatedAt            time.Time
	UpdatedAt            time.Time
}

// ParseResourceID checks a resource indicator: an absolute URI without a
// fragment (RFC 8707 §2).
func ParseResourceID(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || !u.IsAbs() || u.Fragment != "" || len(s) > 2048 || (u.Opaque == "" && u.Host == "") {
		return "", errors.New("resource must be an absolute URI without a fragment")
	}
	return s, nil
}

// MayIntrospect says whether a client may ask about tokens for this resource.
func (r Resource) MayIntrospect(clientID string) bool {
	return slices.Contains(r.IntrospectionClients, clientID)
}
