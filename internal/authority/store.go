package authority

import (
	"context"
	"errors"
	"time"
)

// What a store answers besides success. Anything else is a failure of the
// storage: the caller answers 503 and must assume nothing.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrSpent    = errors.New("already spent")
	ErrConflict = errors.New("changed by somebody else")
	ErrEnded    = errors.New("ended")
	ErrRetired  = errors.New("in use before, and never given again")
)

// Ending says how something ends, for the transitions below.
type Ending struct {
	Reason string
	At     time.Time
	// Remember is how long the revocation is kept after the last moment at which
	// what it ends could still have given a token. Every token lives shorter.
	Remember time.Duration
}

// GrantStore keeps grants. Every method is one atomic, durable transition.
type GrantStore interface {
	// CreateGrant stores a new grant. ErrEnded if one of its ancestors or its
	// evidence has ended, however the two race: a grant is never born to
	// something dead. An ancestor need not have a row. ErrExists if the id is
	// taken. A pending grant with a session takes the place of an earlier pending
	// one of the same session and client, whose code is gone with it. Also ErrExists
	// if g is standing and another active grant stands for the same: see StandingGrant.
	CreateGrant(ctx context.Context, g Grant) error

	// Grant returns a grant in any state. ErrNotFound.
	Grant(ctx context.Context, id ID) (Grant, error)

	// StandingGrant returns the active grant, expired or not, with g's evidence,
	// client and resources, where g IsStanding: there is never more than one.
	// ErrNotFound.
	StandingGrant(ctx context.Context, g Grant) (Grant, error)

	// RedeemCode moves a grant from pending to active, and gives it its first
	// refresh state and its expiry. Of several concurrent callers exactly one
	// succeeds; the others get ErrSpent. Also ErrSpent if the code has expired
	// at now, or the hash is not the row's. Codes belong to people: a pending
	// grant never has a workload's evidence.
	RedeemCode(ctx context.Context, id ID, codeHash [32]byte, refresh Refresh, expiresAt, now time.Time) error

	// RotateRefresh replaces the refresh state `from` with `to` if the row
	// still holds from's generation and hash and the grant is active.
	// ErrConflict otherwise. Of several concurrent callers exactly one succeeds.
	RotateRefresh(ctx context.Context, id ID, from, to Refresh) error

	// EndGrant ends a grant, and with it all that names it as an ancestor: one
	// row and one revocation, whatever hangs below. A grant without a row (what a
	// client gets for itself) is ended by the revocation alone. It returns what
	// this call wrote: nothing if the grant had ended already. The revocation is
	// remembered for e.Remember after the later of e.At and the grant's expiry,
	// which no descendant outlives; without a row, after MaxGrantTTL.
	EndGrant(ctx context.Context, id ID, e Ending) ([]Revocation, error)

	// EndEvidence ends evidence for good, and every grant that depends on it, in
	// one transaction: one revocation for the evidence and one for each grant.
	// No grant with this evidence is born afterwards. The evidence is remembered
	// for e.Remember after the later of e.At and proofUntil: so long could proof
	// from it still come. It returns what this call wrote.
	EndEvidence(ctx context.Context, evidence Evidence, proofUntil time.Time, e Ending) ([]Revocation, error)

	// Grants lists grants, oldest first.
	Grants(ctx context.Context, f GrantFilter, p Page) ([]Grant, error)

	// CountGrants counts the grants that Grants would list on all its pages.
	CountGrants(ctx context.Context, f GrantFilter) (int, error)

	// EvidenceKeys lists the keys of evidence of this kind that begin with prefix
	// and that grants depend on which have not ended: each once, sorted by bytes.
	// p.After is a key. Whoever watches over the evidence learns here what others
	// saw before.
	EvidenceKeys(ctx context.Context, kind EvidenceKind, prefix string, p Page) ([]string, error)

	// Consented says whether the subject has an active grant for the client
	// that covers these scopes and resources, with this RedirectDigest, which is
	// not zero, and was made after since: an epoch ends grants without touching
	// their rows. A grant is as old as the earlier
	// of its id and CreatedAt, since the id is made with the consent page. Of very
	// many grants only the newest may be looked at: to ask once more is safe.
	Consented(ctx context.Context, g Grant, since, now time.Time) (bool, error)
}

// GrantFilter selects grants; a zero field selects all.
type GrantFilter struct {
	ClientID  string
	SubjectID string
	// SubjectPrefix is how the subject's id begins, byte by byte, of printable ASCII:
	// the workloads of a cluster, a namespace or an issuer. See Workloads.
	SubjectPrefix string
	SessionID     ID
	ActiveOnly    bool
	AliveAt       time.Time // with ActiveOnly: expiry later than this
}

// Page selects a part of a list that is sorted by id.
type Page struct {
	After string // the last id of the page before; empty for the first
	Limit int    // 1 to 1000
}

// SessionStore keeps signed-in browsers.
type SessionStore interface {
	StartSession(ctx context.Context, s Session) error
	// SessionByHash finds the session of a cookie. ErrNotFound.
	SessionByHash(ctx context.Context, hash [32]byte) (Session, error)
	// RenewSession puts next in the place of the session that has its id and the
	// cookie of hash: its person has signed in again, and what depends on it stays.
	// ErrNotFound if that session has ended or has another cookie by now. Of
	// several concurrent callers exactly one succeeds.
	RenewSession(ctx context.Context, hash [32]byte, next Session) error
	// Session finds a session by id. ErrNotFound.
	Session(ctx context.Context, id ID) (Session, error)
	// EndSession deletes the session and does what EndEvidence does for it, in
	// one transaction. Where the session is gone already, what depends on it is
	// ended all the same. It returns what this call wrote.
	EndSession(ctx context.Context, id ID, e Ending) ([]Revocation, error)
}

// TicketStore remembers what has been spent.
type TicketStore interface {
	// TakeTicket spends a ticket. Of several concurrent callers, on any number
	// of nodes, exactly one succeeds; the others get ErrSpent.
	TakeTicket(ctx context.Context, t Ticket) error
}

// KeyStore keeps signing keys. Nodes share it, so every transition compares
// before it swaps; who loses gets ErrConflict and reads again.
type KeyStore interface {
	Keys(ctx context.Context) ([]Key, error)
	// AddKey stores a new key. ErrConflict if the algorithm already has a key
	// in that state (there is one next and one current key per algorithm).
	AddKey(ctx context.Context, k Key) error
	// PromoteKey makes next the current key of its algorithm and retires the
	// key that was current (empty id: there was none), in one transaction.
	// ErrConflict if either is not in that state any more.
	PromoteKey(ctx context.Context, nextID, currentID string, at time.Time) error
	// RemoveKey deletes a key in any state. ErrNotFound.
	RemoveKey(ctx context.Context, id string) error
}

// RevocationStore is the feed of what has ended.
type RevocationStore interface {
	// Revoke writes one entry. An epoch that is already there moves forward
	// and never back. It returns the entry with its Seq.
	Revoke(ctx context.Context, r Revocation) (Revocation, error)
	// Revocations returns the entries with a Seq greater than after, sorted
	// by it, at most limit. A reader must ask again from somewhat before the
	// last Seq that it saw: a Seq may become visible late.
	Revocations(ctx context.Context, after int64, limit int) ([]Revocation, error)
}

// ObjectStore keeps the objects that the admin API made, whatever their kind.
// Registry is its typed view.
type ObjectStore interface {
	// Object finds an object. ErrNotFound.
	Object(ctx context.Context, kind Kind, id string) (Object, error)
	// ObjectByName finds an object by its Name. ErrNotFound.
	ObjectByName(ctx context.Context, kind Kind, name string) (Object, error)
	// Objects lists the objects of a kind, sorted by the bytes of their ids.
	Objects(ctx context.Context, kind Kind, p Page) ([]Object, error)
	// CreateObject stores a new object at revision 1. ErrExists if its
	// Namespace has an object with the id, or the kind one with the name.
	// ErrRetired if the kind KeepsIDs and a deleted object of the namespace had
	// the id, or a file declared it. Of several concurrent callers exactly one succeeds.
	CreateObject(ctx context.Context, o Object) error
	// ClaimIDs takes ids for what a file declares, for ever: nothing else of
	// their namespace gets them, also when no file declares them any more. To
	// claim an id again for the same kind does nothing. All of them or none:
	// ErrExists if an object has one of them; ErrRetired if one that was deleted
	// had it, or a file declared it as another kind.
	ClaimIDs(ctx context.Context, kinds map[string]Kind, at time.Time) error
	// UpdateObject replaces name, body and UpdatedAt of an object that is still
	// at o.Revision, and moves it to the next revision. ErrNotFound,
	// ErrConflict; ErrExists if the name is another's. Of several concurrent
	// callers with one revision exactly one succeeds.
	UpdateObject(ctx context.Context, o Object) error
	// DeleteObject deletes an object that is still at this revision. Of one
	// whose kind KeepsIDs only the id stays, forever. ErrNotFound,
	// ErrConflict.
	DeleteObject(ctx context.Context, kind Kind, id string, revision int64, at time.Time) error
}

// DeclarationStore keeps what the configuration file in force declares, and
// which files were in force before it.
type DeclarationStore interface {
	// Declare puts d in force, and writes the epochs of all who are gone from
	// what was in force or have another digest there (d.Ends), in one
	// transaction. It returns d with its revision, one more than the one before,
	// and the epochs that it wrote.
	//
	// Content that is in force already stays as it is and ends nothing: the
	// revision is the old one, and only the digests are replaced. d.MayReplace
	// decides over all other content. A refusal is a SupersededError and changes
	// nothing.
	//
	// ran is the revision that the caller's node works with, zero at its start.
	// Of several concurrent callers with the same content one writes and all
	// succeed. Those with different content replace one another in some order.
	Declare(ctx context.Context, d Declaration, ran int64) (Declaration, []Revocation, error)

	// Declaration returns what is in force. ErrNotFound before the first.
	Declaration(ctx context.Context) (Declaration, error)
}

// JournalStore remembers each node's journal outside of its folder, so that a folder
// that was cut, emptied, put back or swapped is found out. Nothing is ever removed.
type JournalStore interface {
	// Journals lists what is known of all nodes, sorted by node.
	Journals(ctx context.Context) ([]Journal, error)

	// StartJournal notes that node writes its journal at place from now on, and
	// returns its head: first, if the node is new. ErrConflict if the node was retired or
	// has lost records, or if the journal of another node is at that place, unless
	// that one was retired or has lost records. Of several nodes that claim one place
	// exactly one succeeds.
	StartJournal(ctx context.Context, node, place string, first JournalHead) (JournalHead, error)

	// SaveJournalHead moves a node's head on. ErrConflict if the store does not hold
	// `from`, if `to` is not behind it, or if the node was retired or has lost
	// records: a head never goes back and never forks. Of several concurrent callers
	// exactly one succeeds. A store that holds `to` already says that it succeeded, so
	// whoever did not hear the answer asks again.
	SaveJournalHead(ctx context.Context, node string, from, to JournalHead) error

	// LoseJournal notes forever that records of a node are lost. Its head moves no
	// more and its place is free. ErrNotFound; ErrConflict if it has a loss already.
	LoseJournal(ctx context.Context, node string, loss JournalLoss) error

	// RetireJournal notes that a node will not come back: its head moves no more and
	// its place is free. The first time stays. ErrNotFound.
	RetireJournal(ctx context.Context, node string, at time.Time) error
}

// LeaseStore says which of several nodes does a task that one does for all. Time is
// the store's own: what is compared are two readings of one clock, so nodes whose
// clocks differ by half a minute still follow each other within seconds.
//
// A lease bounds work. It is no lock: a holder whose last call hangs while its lease
// runs out may still be at work when the next one begins, so what holders do must
// bear being done twice.
type LeaseStore interface {
	// TakeLease gives the lease to holder for life from now on, if it is free, has
	// run out, or is holder's already; then it is renewed. With ErrConflict it
	// returns the lease that somebody else has. Fence grows by one whenever the
	// holder changes. Of several concurrent callers exactly one succeeds.
	//
	// Lease.Left counts from a moment during the call. So a holder is sure of its
	// lease until Left after the moment before it called, by its own clock.
	//
	// ready is the holder's word, for all who look, that it has caught up with its task.
	TakeLease(ctx context.Context, name, holder string, life time.Duration, ready bool) (Lease, error)

	// ReleaseLease frees the lease if it is holder's, so that the next one need not
	// wait. Otherwise it does nothing.
	ReleaseLease(ctx context.Context, name, holder string) error

	// Lease returns a lease as it is, also one that has run out. ErrNotFound.
	Lease(ctx context.Context, name string) (Lease, error)
}

// Lease is a task that one node at a time does.
type Lease struct {
	Name   string
	Holder string // one life of one node
	Fence  int64  // which holder this is: 1 for the first
	Ready  bool
	Left   time.Duration // how long it is still Holder's; zero: it is free
}
