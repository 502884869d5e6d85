package issue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

// AccessToken is an access token of ours that is authentic. Only Reader makes one.
type AccessToken struct {
	ID        authority.ID // jti
	GrantID   authority.ID
	SessionID authority.ID // zero where no browser session is involved
	Subject   authority.Subject
	ClientID  string
	Audience  []string
	Scopes    oauth.Scopes
	Groups    []string
	Policy    string   // the trust policy that allowed it; empty where none was asked
	Bound     bool     // to a key (`cnf`): who presents it must prove that key
	UserInfo  []string // claims about the person that UserInfo gives besides those of the scopes
	Lineage   []authority.Ancestor
	Workloads []string  // by whose proof its clients have proved themselves: see authority.Grant
	AuthTime  time.Time // when the person signed in: the last moment of that second; zero where nobody did
	AMR       []string
	Expires   time.Time
	Links     []authority.Link // what its life depends on
	Claims    string           // the JSON object, as it was signed or sealed; most other fields share its memory
}

// Checks are what a Reader asks. All fields are required.
type Checks struct {
	Issuer string
	// Find looks up the published keys.
	Find   func(kid string, alg jose.Algorithm) (jose.PublicKey, bool)
	Opaque *seal.Box
	// Revoked asks the revocation view; Fresh fails when the view may miss what
	// other nodes have revoked.
	Revoked func([]authority.Link) bool
	Fresh   func() error
	// Alive finds the accounts that a token depends on: authority.Directory.Alive.
	Alive func(ctx context.Context, clientID string, subject authority.Subject) (authority.User, error)
	Now   func() time.Time
}

// Reader reads our own access tokens, of both formats.
type Reader struct {
	Checks
	// read remembers by hash what has been read before, so that the signature
	// of a token is checked once and not on every request. It holds no token
	// value. Revocation and expiry are asked every time.
	read *otter.Cache[[32]byte, *AccessToken]
}

// readerCacheSize times about 1.4 KiB is what the cache takes at most, and twice that
// with what the collector has not found yet.
const readerCacheSize = 4096

// NewReader makes a reader.
func NewReader(checks Checks) *Reader {
	return &Reader{checks, otter.Must(&otter.Options[[32]byte, *AccessToken]{
		MaximumSize: readerCacheSize,
		// A goroutine for the upkeep after each new token, as is usual, costs several times the upkeep.
		Executor: func(task func()) { task() },
	})}
}

// ErrInactive says that a token is worth nothing: it is not ours, or over, or
// revoked, or its accounts are. ErrAudience says that it is meant for others,
// ErrRevoked that it, or what it depends on, has ended, ErrBound that it needs a
// proof of a key.
var (
	ErrInactive = errors.New("the token is not active")
	ErrAudience = fmt.Errorf("%w here: it is meant for another audience", ErrInactive)
	ErrBound    = fmt.Errorf("%w here: it is bound to a key, and nobody has proved that key", ErrInactive)
	ErrRevoked  = fmt.Errorf("%w: it has been revoked", ErrInactive)

	errNotOurs = fmt.Errorf("%w: not an access token of this issuer", ErrInactive)
	errExpired = fmt.Errorf("%w: it has expired", ErrInactive)
)

// AnyAudience is for a caller who tells others about a token and gives nothing for
// it. Who may know of it, that caller decides by itself. It is nobody's identifier,
// so only a caller who writes this name gets a token of others: an audience that was
// forgotten, or is empty, accepts none.
const AnyAudience = "\x00any"

// Accept is the one way to accept an access token: this node knows what has
// been revoked, the token is authentic, in time and not revoked, meant for this
// audience, and its accounts are alive. It returns the person's account too, if the
// token is about one. Any error but ErrInactive is a failure of ours: the caller
// must not say anything about the token.
//
// A token that is bound to a key is ErrBound, since no caller can check a proof of
// that key (docs/security/threats.md F 79). With AnyAudience it is accepted: it is
// told about, with its cnf, and whoever asked has to check the proof.
func (r *Reader) Accept(ctx context.Context, raw, audience string) (*AccessToken, authority.User, error) {
	if err := r.Fresh(); err != nil {
		return nil, authority.User{}, err
	}
	token, err := r.Authenticate(raw)
	if err != nil {
		return nil, authority.User{}, err
	}
	if audience != AnyAudience && !slices.Contains(token.Audience, audience) {
		return nil, authority.User{}, ErrAudience
	}
	if token.Bound && audience != AnyAudience {
		return nil, authority.User{}, ErrBound
	}
	user, err := r.Alive(ctx, token.ClientID, token.Subject)
	if errors.Is(err, authority.ErrEnded) {
		return nil, authority.User{}, fmt.Errorf("%w: %w", ErrInactive, err)
	}
	if err != nil {
		return nil, authority.User{}, err
	}
	return token, user, nil
}

// Authenticate says whose token it is, if it is authentic, in time and, as far
// as this node knows, not revoked: enough to end it, and for nothing else.
// Every error is ErrInactive. With ErrRevoked alone it returns the token too,
// so that an end which may not be on record can be asked for again.
func (r *Reader) Authenticate(raw string) (*AccessToken, error) {
	hash := sha256.Sum256([]byte(raw))
	token, known := r.read.GetIfPresent(hash)
	if !known {
		var err error
		if token, err = r.parse(raw); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInactive, err)
		}
		r.read.Set(hash, token)
	}
	if !r.Now().Before(token.Expires) {
		return nil, errExpired
	}
	if r.Revoked(token.Links) {
		return token, ErrRevoked
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

// Explain reads a token of ours that may be over or revoked: to say what it was,
// and for nothing else.
func (r *Reader) Explain(raw string) (*AccessToken, error) {
	claims, keyID, err := r.authentic(raw, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInactive, err)
	}
	issued, _, err := claims.Time("iat")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInactive, err)
	}
	return r.fromClaims(claims, keyID, issued)
}

func (r *Reader) parse(raw string) (*AccessToken, error) {
	now := r.Now()
	claims, keyID, err := r.authentic(raw, now)
	if err != nil {
		return nil, err
	}
	return r.fromClaims(claims, keyID, now)
}

// authentic gives the claims of a token that we have made, and the key that
// signed it. An opaque one must not be over at now; of a JWT that is not asked
// here.
func (r *Reader) authentic(raw string, now time.Time) (claims jose.Claims, keyID string, err error) {
	if !strings.HasPrefix(raw, string(oauth.PrefixAccessToken)) {
		verified, err := jose.Verify(raw, accessTokenJWT, r.Find)
		if err != nil {
			return jose.Claims{}, "", err
		}
		return verified.Claims, verified.Header.KeyID, nil
	}
	sealed, err := oauth.DecodeOpaque(oauth.PrefixAccessToken, raw, maxSealed)
	if err != nil {
		return jose.Claims{}, "", err
	}
	body, err := r.Opaque.Open(sealed, now)
	if err != nil {
		return jose.Claims{}, "", err
	}
	claims, err = jose.ParseClaims(body)
	return claims, "", err
}

func (r *Reader) fromClaims(c jose.Claims, keyID string, now time.Time) (*AccessToken, error) {
	times, err := c.CheckTimes(now, jose.TimeRules{Leeway: authority.Leeway})
	if err != nil {
		return nil, err
	}
	f := fields{claims: c}
	token := &AccessToken{
		ID: f.id("jti"), GrantID: f.id("grant_id"), ClientID: f.text("client_id"), Audience: f.list("aud"),
		Subject: authority.Subject{Issuer: f.text("iss"), ID: f.text("sub"), Kind: f.kind("sub_profile")},
		Bound:   c.Has("cnf"), // whatever it names: RFC 7800 has more than one kind
		Expires: times.Expires,
		Claims:  c.Text(),
	}
	if c.Has("sid") {
		token.SessionID = f.id("sid")
	}
	if c.Has("scope") {
		token.Scopes = f.scopes("scope")
	}
	if c.Has("groups") {
		token.Groups = f.list("groups")
	}
	if c.Has("userinfo_claims") {
		token.UserInfo = f.list("userinfo_claims")
	}
	if c.Has("policy") {
		token.Policy = f.text("policy")
	}
	if c.Has("amr") {
		token.AMR = f.list("amr")
	}
	if c.Has("client_workloads") {
		token.Workloads = f.list("client_workloads")
	}
	token.Lineage, token.AuthTime = f.lineage(), f.authTime()
	// The grant as far as the token tells of it: what it depends on, the token does.
	grant := authority.Grant{
		ID: token.GrantID, CreatedAt: token.GrantID.Time(), Lineage: token.Lineage, ClientID: token.ClientID, Subject: token.Subject,
		Workloads: token.Workloads, AuthTime: token.AuthTime,
	}
	if !token.SessionID.IsZero() { // its id says when to the millisecond
		grant.Evidence, grant.AuthTime = authority.SessionEvidence(token.SessionID), token.SessionID.Time()
	}
	if f.err != nil {
		return nil, f.err
	}
	if token.Subject.Issuer != r.Issuer {
		return nil, errNotOurs
	}
	token.Links = append(grant.Links(), authority.Link{Kind: authority.RevokeToken, Key: token.ID.String()})
	if keyID != "" {
		token.Links = append(token.Links, authority.Link{Kind: authority.RevokeKey, Key: keyID})
	}
	if token.Policy != "" {
		token.Links = append(token.Links, authority.PolicyLink(token.Policy, token.ID.Time()))
	}
	for _, aud := range token.Audience {
		if cluster, is := authority.ClusterOf(aud, r.Issuer); is { // a later cluster of the name is another one
			token.Links = append(token.Links, authority.Link{Kind: authority.EpochCluster, Key: cluster, Born: token.ID.Time()})
		}
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
	if err != nil || !ok || len(values) == 0 || slices.Contains(values, "") {
		f.err = errNotOurs
	}
	return values
}

func (f *fields) kind(name string) authority.SubjectKind {
	kind, err := authority.ParseSubjectKind(f.text(name))
	if err != nil {
		f.err = errNotOurs
	}
	return kind
}

// lineage reads the two lists that accessToken.claims writes.
func (f *fields) lineage() []authority.Ancestor {
	if !f.claims.Has("lineage") && !f.claims.Has("lineage_clients") {
		return nil
	}
	ids, clients := f.list("lineage"), f.list("lineage_clients")
	if f.err != nil || len(ids) != len(clients) || len(ids) > authority.MaxLineage {
		f.err = errNotOurs
		return nil
	}
	lineage := make([]authority.Ancestor, len(ids))
	for i := range ids {
		id, err := authority.ParseID(ids[i])
		if err != nil || clients[i] == "" {
			f.err = errNotOurs
			return nil
		}
		lineage[i] = authority.Ancestor{GrantID: id, ClientID: clients[i]}
	}
	return lineage
}

// authTime is the last millisecond of the second that auth_time names, so that a
// sign-in right after an epoch is not taken for older than it.
func (f *fields) authTime() time.Time {
	at, ok, err := f.claims.Time("auth_time")
	if err != nil {
		f.err = errNotOurs
	}
	if !ok {
		return time.Time{}
	}
	return at.Add(time.Second - time.Millisecond)
}

func (f *fields) time(name string) time.Time {
	at, ok, err := f.claims.Time(name)
	if err != nil || !ok {
		f.err = errNotOurs
	}
	return at
}

func (f *fields) scopes(name string) oauth.Scopes {
	scopes, err := oauth.ParseScopes(f.text(name))
	if err != nil {
		f.err = errNotOurs
	}
	return scopes
}
