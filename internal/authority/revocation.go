package authority

import "time"

// RevocationKind says what a revocation ends.
type RevocationKind string

// Kinds that end a thing for good: every token that carries the id is dead.
const (
	RevokeToken   RevocationKind = "token"   // key: jti
	RevokeGrant   RevocationKind = "grant"   // key: grant id
	RevokeSession RevocationKind = "session" // key: sid
	RevokeKey     RevocationKind = "key"     // key: kid; the key was removed in an emergency
)

// Epochs: a "not before" mark. What was issued at or before it is dead.
const (
	EpochUser       RevocationKind = "user"       // key: user id
	EpochClient     RevocationKind = "client"     // key: client id
	EpochEverything RevocationKind = "everything" // key: empty
)

// Revocation is one entry of the feed that every node follows.
type Revocation struct {
	Seq       int64 // set by the store; grows, but may become visible out of order
	Kind      RevocationKind
	Key       string
	NotBefore time.Time // when it was made, to the millisecond
	ExpiresAt time.Time // after this nothing that it ends can still be alive
}

// IsEpoch says whether the revocation ends only what is older than it.
func (r Revocation) IsEpoch() bool {
	switch r.Kind {
	case EpochUser, EpochClient, EpochEverything:
		return true
	default:
		return false
	}
}

// Lineage is all that a token's life hangs on.
type Lineage struct {
	TokenID   ID // zero for a grant that is asked about itself
	GrantID   ID
	SessionID ID // zero where no browser was involved
	KeyID     string
	Subject   Subject
	ClientID  string
	Granted   time.Time // when the grant was made: what a client's epoch is compared with
	SignedIn  time.Time // when its person signed in, zero for none: epochs of users and of everything end sign-ins too
}
