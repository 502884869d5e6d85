package authority

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// GrantState is where a grant is in its life.
type GrantState string

// A grant goes pending -> active -> ended. A grant that needs no code starts active.
const (
	GrantPending GrantState = "pending" // approved; the authorization code is not yet redeemed
	GrantActive  GrantState = "active"
	GrantEnded   GrantState = "ended"
)

// MaxLineage is the longest lineage: a token carries all of it.
const MaxLineage = 8

// Ancestor is one grant that another came from.
type Ancestor struct {
	GrantID  ID
	ClientID string
}

// Grant is a standing permission: every token comes from one. Grants form a
// tree, and ending a grant ends its descendants: each carries its ancestors, so
// nobody has to look for them.
type Grant struct {
	ID           ID
	Lineage      []Ancestor // oldest first; empty for a root
	ClientID     string
	Subject      Subject
	Scopes       oauth.Scopes
	Resources    []string
	Confirmation Confirmation // the key that the client must prove; zero for bearer tokens
	Evidence     Evidence     // what the grant dies with; zero for none
	// Workloads are those by whose proof a client that acts here has proved itself, in this grant and
	// those that it came from. No row has them: they are of tokens.
	Workloads []string
	SessionID ID // the browser session in which a person approved; zero for none
	// RedirectDigest is Client.RedirectDigest when the person consented; zero if
	// nobody was asked.
	RedirectDigest [32]byte
	AuthTime       time.Time
	AMR            []string
	Nonce          string
	Claims         RequestedClaims
	Code           Code
	Refresh        Refresh
	State          GrantState
	CreatedAt      time.Time
	ExpiresAt      time.Time
	EndedAt        time.Time
	EndReason      string
}

// Confirmation is the key that a token is bound to (`cnf`, RFC 7800 §3.1).
type Confirmation struct {
	JKT string // SHA-256 thumbprint of a DPoP key (RFC 9449 §6.1)
}

// IsZero says that a token is a bearer token.
func (c Confirmation) IsZero() bool { return c == Confirmation{} }

// Code is what an authorization code is bound to (RFC 9700 §4.5). The zero
// value means that the grant did not come from a code.
type Code struct {
	Hash        [32]byte
	Challenge   oauth.Challenge
	RedirectURI string
	ExpiresAt   time.Time
}

// Alive says whether the grant itself may still give tokens. Accounts and
// epochs are asked elsewhere.
func (g Grant) Alive(now time.Time) bool {
	return g.State == GrantActive && now.Before(g.ExpiresAt)
}

// WasRedeemed says whether the grant's code was ever redeemed, also of a grant that has
// ended. Redeeming moves the expiry, which is the code's before.
func (g Grant) WasRedeemed() bool {
	return g.State != GrantPending && g.Code.Hash != [32]byte{} && !g.ExpiresAt.Equal(g.Code.ExpiresAt)
}

// IsStanding says whether the grant is an active one of a workload's own
// evidence, a pod or a job. However often the workload comes, it has one for
// each client and resource.
func (g Grant) IsStanding() bool {
	return g.State == GrantActive && (g.Evidence.Kind == EvidencePod || g.Evidence.Kind == EvidenceJob)
}

// ComesFrom says whether a grant is an ancestor of g.
func (g Grant) ComesFrom(id ID) bool {
	return slices.ContainsFunc(g.Lineage, func(a Ancestor) bool { return a.GrantID == id })
}

// Links are what the grant's life depends on: itself, its ancestors, its
// evidence, and the epochs of everyone it came from. A grant is as old as the
// earlier of its making and its id, which is made with the consent page; a
// person's epoch also ends what an older sign-in still gives.
func (g Grant) Links() []Link {
	born := g.ID.Time()
	if g.CreatedAt.Before(born) {
		born = g.CreatedAt
	}
	links := make([]Link, 0, 8+2*len(g.Lineage)) // a token adds itself, its key and its policy
	links = append(links, Link{Kind: RevokeGrant, Key: g.ID.String()}, Link{Kind: EpochClient, Key: g.ClientID, Born: born})
	for _, a := range g.Lineage {
		at := a.GrantID.Time()
		links = append(links, Link{Kind: RevokeGrant, Key: a.GrantID.String()}, Link{Kind: EpochClient, Key: a.ClientID, Born: at})
		if at.Before(born) {
			born = at
		}
	}
	if !g.Evidence.IsZero() {
		links = append(links, g.Evidence.Link())
	}
	if !g.AuthTime.IsZero() && g.AuthTime.Before(born) {
		born = g.AuthTime
	}
	for _, id := range g.Workloads {
		links = append(links, Subject{ID: id, Kind: SubjectWorkload}.Epochs(born)...)
	}
	return append(links, g.Subject.Epochs(born)...)
}

// Covers says whether g gives all that asked asks for: scopes, resources and claims.
func (g Grant) Covers(asked Grant) bool {
	lacks := func(resource string) bool { return !slices.Contains(g.Resources, resource) }
	known := g.Claims.Beyond(oauth.Scopes{})
	more := func(claim string) bool { return !slices.Contains(known, claim) }
	return g.Scopes.Covers(asked.Scopes) && !slices.ContainsFunc(asked.Resources, lacks) && !slices.ContainsFunc(asked.Claims.Beyond(g.Scopes), more)
}

// Narrow gives the scopes and resources of a token under the grant: what was
// asked for, never more than the grant holds. Nothing asked means all of it.
func (g Grant) Narrow(scopes oauth.Scopes, resources []string) (oauth.Scopes, []string, error) {
	if outside, is := scopes.FirstOutside(g.Scopes); is {
		return oauth.Scopes{}, nil, oauth.Errorf(oauth.InvalidScope, "scope %q was not granted", outside)
	}
	for _, r := range resources {
		if !slices.Contains(g.Resources, r) {
			return oauth.Scopes{}, nil, oauth.Errorf(oauth.InvalidTarget, "resource was not granted")
		}
	}
	if scopes.IsEmpty() {
		scopes = g.Scopes
	}
	if len(resources) == 0 {
		resources = g.Resources
	}
	return scopes, slices.Clone(resources), nil
}

// AuthorizationCode is the secret that redeems a pending grant.
type AuthorizationCode struct {
	GrantID ID
	secret  [24]byte
}

// NewAuthorizationCode makes a code of 192 random bits.
func NewAuthorizationCode(grantID ID) AuthorizationCode {
	code := AuthorizationCode{GrantID: grantID}
	_, _ = rand.Read(code.secret[:]) // never fails
	return code
}

// ParseAuthorizationCode reads what Reveal gave.
func ParseAuthorizationCode(s string) (AuthorizationCode, error) {
	var code AuthorizationCode
	payload, err := oauth.DecodeOpaque(oauth.PrefixAuthorizationCode, s, 16+len(code.secret))
	if err != nil {
		return AuthorizationCode{}, err
	}
	if len(payload) != 16+len(code.secret) {
		return AuthorizationCode{}, errors.New("not an authorization code")
	}
	if code.GrantID, err = IDFromBytes(payload[:16]); err != nil {
		return AuthorizationCode{}, err
	}
	copy(code.secret[:], payload[16:])
	return code, nil
}

// Reveal is the value that goes to the client, once.
func (c AuthorizationCode) Reveal() string {
	return oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, slices.Concat(c.GrantID.Bytes(), c.secret[:]))
}

// Hash is what the grant's row holds.
func (c AuthorizationCode) Hash() [32]byte {
	return sha256.Sum256(append([]byte("signalbox code\x00"), c.secret[:]...))
}

func (c AuthorizationCode) String() string { return "[redacted]" }

// Matches says whether a presented code is the grant's, spent or not.
func (g Grant) Matches(code AuthorizationCode) bool {
	hash := code.Hash()
	return g.Code.Hash != [32]byte{} && subtle.ConstantTimeCompare(hash[:], g.Code.Hash[:]) == 1
}
