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

// Grant is a standing permission: every token comes from one. Grants form a
// tree, and ending a grant ends its descendants.
type Grant struct {
	ID        ID
	Parent    ID // zero for a root
	ClientID  string
	Subject   Subject
	Scopes    oauth.Scopes
	Resources []string
	SenderKey string // thumbprint of the key that the client must prove (`cnf`); empty for bearer tokens
	SessionID ID     // the browser session that the grant rests on; zero for none
	AuthTime  time.Time
	AMR       []string
	Nonce     string
	Code      Code
	Refresh   Refresh
	State     GrantState
	CreatedAt time.Time
	ExpiresAt time.Time
	EndedAt   time.Time
	EndReason string
}

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

// Outlives says whether the grant goes on when its browser session ends
// (OpenID Connect Core §11).
func (g Grant) Outlives() bool { return g.Scopes.Has(oauth.ScopeOfflineAccess) }

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

// Child derives a grant from g. It has no more scope, no more resources and no
// longer life than its parent, whatever the caller asks for.
func (g Grant) Child(id ID, clientID string, scopes oauth.Scopes, resources []string, now, until time.Time) (Grant, error) {
	if !g.Alive(now) {
		return Grant{}, ErrEnded
	}
	scopes, resources, err := g.Narrow(scopes, resources)
	if err != nil {
		return Grant{}, err
	}
	if until.After(g.ExpiresAt) {
		until = g.ExpiresAt
	}
	return Grant{
		ID: id, Parent: g.ID, ClientID: clientID, Subject: g.Subject,
		Scopes: scopes, Resources: resources, SenderKey: g.SenderKey,
		SessionID: g.SessionID, AuthTime: g.AuthTime, AMR: g.AMR,
		State: GrantActive, CreatedAt: now, ExpiresAt: until,
	}, nil
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
