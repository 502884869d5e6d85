package authority

import "time"

// RevocationKind says what a revocation ends.
type RevocationKind string

// Kinds that end a thing for good: every token that carries the id is dead.
const (
	RevokeToken   RevocationKind = "token"   // key: jti
	RevokeGrant   RevocationKind = "grant"   // key: grant id
	RevokeSession RevocationKind = "session" // key: sid
	RevokeKey     RevocationKind = "key"     // key: kid; the signing key was removed in an emergency
)

// The other kinds of evidence end for good too, under the names of EvidenceKind.

// Epochs: a "not before" mark. What was issued at or before it is dead.
const (
	EpochUser       RevocationKind = "user"       // key: user id
	EpochClient     RevocationKind = "client"     // key: client id
	EpochWorkload   RevocationKind = "workload"   // key: subject id of a workload, or its beginning up to the namespace
	EpochCluster    RevocationKind = "cluster"    // key: the name of a cluster whose pods proved themselves
	EpochIssuer     RevocationKind = "issuer"     // key: the name of a trusted issuer
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

// IsEpoch says whether a revocation of this kind ends only what is older than it.
func (k RevocationKind) IsEpoch() bool {
	switch k {
	case EpochUser, EpochClient, EpochWorkload, EpochCluster, EpochIssuer, EpochEverything:
		return true
	default:
		return false
	}
}

// Link is one thing that the life of a token or a grant depends on. For an
// epoch, Born is when the dependent thing was made; for all else it is zero.
type Link struct {
	Kind RevocationKind
	Key  string
	Born time.Time
}
