package authority

import (
	"strings"
	"time"
)

// EventType names what happened, for the journal.
type EventType string

// The events of this version. A name never changes its meaning: other
// people's searches rely on it.
const (
	EventTokenIssued          EventType = "token.issued"
	EventTokenWithheld        EventType = "token.withheld" // on record as issued, and not handed out
	EventTokenRefused         EventType = "token.refused"
	EventTokenRevoked         EventType = "token.revoked"
	EventGrantCreated         EventType = "grant.created"
	EventGrantEnded           EventType = "grant.ended"
	EventEvidenceEnded        EventType = "evidence.ended" // a pod is gone, and with it all that came from it
	EventRefreshReused        EventType = "grant.reuse_detected"
	EventSignedIn             EventType = "user.signed_in"
	EventSignInFailed         EventType = "user.sign_in_failed"
	EventSignedOut            EventType = "user.signed_out"
	EventLogoutSent           EventType = "logout.sent"   // a client knows that a session has ended
	EventLogoutFailed         EventType = "logout.failed" // or could not be told
	EventConsentDenied        EventType = "consent.denied"
	EventPolicyTried          EventType = "policy.tried" // one in audit mode would have allowed it
	EventEpochSet             EventType = "epoch.set"
	EventKeyChanged           EventType = "key.changed"
	EventClientChanged        EventType = "client.changed"
	EventUserChanged          EventType = "user.changed"
	EventResourceChanged      EventType = "resource.changed"
	EventClusterChanged       EventType = "cluster.changed"
	EventTrustedIssuerChanged EventType = "trusted_issuer.changed"
	EventPolicyChanged        EventType = "policy.changed"
	EventNodeRetired          EventType = "node.retired"
	EventConfigLoaded         EventType = "config.loaded"
	EventConfigRefused        EventType = "config.refused"
	EventAdminRefused         EventType = "admin.refused"
	EventServiceStarted       EventType = "service.started"
	EventServiceStopped       EventType = "service.stopped"

	// The journal's own; nobody else may append them.
	EventCheckpoint EventType = "journal.checkpoint"
	EventRecovered  EventType = "journal.recovered"
	EventOmitted    EventType = "journal.omitted"
	EventLost       EventType = "journal.lost"
)

// EventTypes lists them all.
func EventTypes() []EventType {
	return []EventType{
		EventTokenIssued, EventTokenRefused, EventTokenWithheld, EventTokenRevoked,
		EventGrantCreated, EventGrantEnded, EventEvidenceEnded, EventRefreshReused,
		EventSignedIn, EventSignInFailed, EventSignedOut, EventLogoutSent, EventLogoutFailed, EventConsentDenied, EventPolicyTried,
		EventEpochSet, EventKeyChanged, EventClientChanged, EventUserChanged, EventResourceChanged, EventNodeRetired,
		EventClusterChanged, EventTrustedIssuerChanged, EventPolicyChanged,
		EventConfigLoaded, EventConfigRefused, EventAdminRefused, EventServiceStarted, EventServiceStopped,
		EventCheckpoint, EventRecovered, EventOmitted, EventLost,
	}
}

// IsJournals says whether only the journal itself writes events of this type.
func (t EventType) IsJournals() bool { return strings.HasPrefix(string(t), "journal.") }

// HasGrantType says whether events of this type are about one request for a
// token, and so tell its grant type.
func (t EventType) HasGrantType() bool { return t == EventTokenIssued || t == EventTokenRefused }

// Event is one entry of the journal. It holds ids and hashes, never values.
type Event struct {
	Type      EventType
	At        time.Time
	RequestID string // the correlation id that the client also gets
	Remote    string // IP address of the caller
	Actor     string // who did it, where that is not the client: an admin, the service itself
	ClientID  string
	Subject   Subject
	GrantType string
	GrantID   ID
	SessionID ID
	TokenID   ID     // jti
	TokenHash string // hex SHA-256 of the token's value, the first 16 bytes
	Origin    Origin // what the token was exchanged for
	Assertion Origin // of another issuer, by which the client has proved itself
	Policy    string // the trust policy that decided
	Audience  []string
	Scope     string
	ExpiresAt time.Time
	Error     string   // the RFC's error code, for a refusal
	Reason    string   // in words
	Target    string   // what was changed: a kid, a client id, a user id, a resource id
	Changes   []Change // of the target, at most MaxChanges; more go into further events
}

// MaxChanges is how many changes one event holds.
const MaxChanges = 6

// Change is one thing that was changed. Secrets are hashes.
type Change struct {
	Field string // as the admin API names it
	Old   string // empty for what was not there
	New   string // empty for what is no longer there
}
