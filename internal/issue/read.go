package issue

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

// AccessToken is an access token of ours that is authentic and not over. Only
// Reader makes one. It may still have been revoked: Live asks.
type AccessToken struct {
	Lineage  authority.Lineage
	Audience []string
	Scopes   oauth.Scopes
	Expires  time.Time
	Claims   []byte // the JSON object, as it was signed or sealed
}

// GoodAt says whether one of the names is in the audience.
func (t *AccessToken) GoodAt(audience string) bool { return slices.Contains(t.Audience, audience) }

// Reader reads our own access tokens, of both formats.
type Reader struct {
	issuer  string
	find    func(kid string, alg jose.Algorithm) (jose.PublicKey, bool)
	opaque  *seal.Box
	revoked func(authority.Lineage) bool
	now     func() time.Time
	// read remembers by hash what has been read before, so that the signature
	// of a token is checked once and not on every request. It holds no token
	// value. Revocation and expiry are asked every time.
	read *otter.Cache[[32]byte, *AccessToken]
}

// readerCacheSize times about 1 KiB is what the cache takes at most.
const readerCacheSize = 8192

// NewReader makes a reader. find looks up the published keys.
func NewReader(issuer string, find func(kid string, alg jose.Algorithm) (jose.PublicKey, bool), opaque *seal.Box, revoked func(authority.Lineage) bool, now func() time.Time) *Reader {
	cache := otter.Must(&otter.Options[[32]byte, *AccessToken]{
		MaximumSize: readerCacheSize,
		// A goroutine for the upkeep after each new token, as is usual, costs several times the upkeep.
		Executor: func(task func()) { task() },
	})
	return &Reader{issuer, find, opaque, revoked, now, cache}
}

var (
	errNotOurs = errors.New("not a token of this issuer")
	errDead    = errors.New("the token has been revoked")
	errOver    = errors.New("the token has expired")
)

// Live returns an access token that is authentic, not over and not revoked.
// Every error means: not active, whatever the reason.
func (r *Reader) Live(raw string) (*AccessToken, error) {
	hash := sha256.Sum256([]byte(raw))
	token, known := r.read.GetIfPresent(hash)
	if !known {
		var err error
		if token, err = r.parse(raw); err != nil {
			return nil, err
		}
		r.read.Set(hash, token)
	}
	if !r.now().Before(token.Expires) {
		return nil, errOver
	}
	if r.revoked(token.Lineage) {
		return nil, errDead
	}
	return token, nil
}

// The largest access tokens, in bytes.
const (
	maxJWT    = 16 << 10
	maxSealed = 8 << 10 // inside an opaque one
)

var accessTokenJWT = jose.Expect{
	Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA},
	Types:      []string{oauth.TypAccessToken},
	MaxSize:    maxJWT,
}

// readable says whether a token of ours is one that parse takes. Another could
// be neither introspected nor revoked, while offline verifiers accept it.
func readable(token string) bool {
	if !strings.HasPrefix(token, string(oauth.PrefixAccessToken)) {
		return len(token) <= maxJWT
	}
	_, err := oauth.DecodeOpaque(oauth.PrefixAccessToken, token, maxSealed)
	return err == nil
}

func (r *Reader) parse(raw string) (*AccessToken, error) {
	if !strings.HasPrefix(raw, string(oauth.PrefixAccessToken)) {
		verified, err := jose.Verify(raw, accessTokenJWT, r.find)
		if err != nil {
			return nil, err
		}
		return r.fromClaims(verified.Claims, verified.Header.KeyID)
	}
	sealed, err := oauth.DecodeOpaque(oauth.PrefixAccessToken, raw, maxSealed)
	if err != nil {
		return nil, err
	}
	body, err := r.opaque.Open(sealed, r.now())
	if err != nil {
		return nil, err
	}
	claims, err := jose.ParseClaims(body)
	if err != nil {
		return nil, err
	}
	return r.fromClaims(claims, "")
}

func (r *Reader) fromClaims(c jose.Claims, keyID string) (*AccessToken, error) {
	times, err := c.CheckTimes(r.now(), jose.TimeRules{Leeway: authority.Leeway})
	if err != nil {
		return nil, err
	}
	f := fields{claims: c}
	token := &AccessToken{
		Lineage: authority.Lineage{
			TokenID: f.id("jti"), GrantID: f.id("grant_id"), KeyID: keyID,
			Subject: authority.Subject{Issuer: f.text("iss"), ID: f.text("sub")}, ClientID: f.text("client_id"),
		},
		Expires: times.Expires,
		Claims:  c.JSON(),
	}
	if c.Has("sid") {
		token.Lineage.SessionID = f.id("sid")
	}
	if c.Has("scope") {
		token.Scopes = f.scopes("scope")
	}
	token.Audience = f.list("aud")
	token.Lineage.Granted = token.Lineage.GrantID.Time()
	token.Lineage.SignedIn = f.signedIn(token.Lineage.SessionID)
	if f.err != nil {
		return nil, f.err
	}
	if token.Lineage.Subject.Issuer != r.issuer {
		return nil, errNotOurs
	}
	token.Lineage.Subject.Kind = authority.SubjectUser
	if token.Lineage.Subject.ID == token.Lineage.ClientID {
		token.Lineage.Subject.Kind = authority.SubjectClient
	}
	return token, nil
}

// fields reads required claims and keeps the first failure.
type fields struct {
	claims jose.Claims
	err    error
}

func (f *fields) text(name string) string {
	value, ok, err := f.claims.String(name)
	if err != nil || !ok || value == "" {
		f.err = errNotOurs
	}
	return value
}

func (f *fields) id(name string) authority.ID {
	id, err := authority.ParseID(f.text(name))
	if err != nil {
		f.err = errNotOurs
	}
	return id
}

func (f *fields) list(name string) []string {
	values, ok, err := f.claims.Strings(name)
	if err != nil || !ok || len(values) == 0 {
		f.err = errNotOurs
	}
	return values
}

// signedIn is when the person signed in. A session's id says it to the
// millisecond. auth_time has whole seconds: then its last millisecond, so that
// who signs in anew right after an epoch is not taken for older than it.
func (f *fields) signedIn(session authority.ID) time.Time {
	if !session.IsZero() {
		return session.Time()
	}
	at, ok, err := f.claims.Time("auth_time")
	if err != nil {
		f.err = errNotOurs
	}
	if !ok {
		return time.Time{}
	}
	return at.Add(time.Second - time.Millisecond)
}

func (f *fields) scopes(name string) oauth.Scopes {
	scopes, err := oauth.ParseScopes(f.text(name))
	if err != nil {
		f.err = errNotOurs
	}
	return scopes
}
