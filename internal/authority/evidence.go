package authority

// EvidenceKind says what kind of thing a grant depends on.
type EvidenceKind string

// The kinds of evidence. Each is also a kind of revocation: see Evidence.Link.
const (
	EvidenceSession EvidenceKind = "session"    // key: sid of a signed-in browser
	EvidencePod     EvidenceKind = "pod"        // key: cluster/uid
	EvidenceJob     EvidenceKind = "job"        // key: trusted issuer/job id
	EvidenceKey     EvidenceKind = "sender_key" // key: thumbprint
)

// Evidence is what a grant depends on and dies with. The zero value means that
// the grant depends on nothing but itself and its accounts.
type Evidence struct {
	Kind EvidenceKind
	Key  string
}

// SessionEvidence is a browser session as evidence.
func SessionEvidence(id ID) Evidence { return Evidence{EvidenceSession, id.String()} }

// IsZero says that there is no evidence.
func (e Evidence) IsZero() bool { return e == Evidence{} }

// Link is what the end of the evidence is known by.
func (e Evidence) Link() Link { return Link{Kind: RevocationKind(e.Kind), Key: e.Key} }
