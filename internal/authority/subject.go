package authority

import (
	"errors"
	"time"
)

// Subject is whom a token is about: a user, a workload or a service, always
// with the issuer that vouched for it.
type Subject struct {
	Issuer string
	ID     string
	Kind   SubjectKind
}

// SubjectKind says which account decides over a subject. It is in the token
// (`sub_profile`) and is never guessed.
type SubjectKind string

// The kinds of subject.
const (
	SubjectUser     SubjectKind = "user"     // a User of ours
	SubjectClient   SubjectKind = "client"   // a client that acts for itself
	SubjectWorkload SubjectKind = "workload" // proved by a trusted issuer: it has no account here
)

// ParseSubjectKind reads the `sub_profile` of a token. A kind that is not known
// is an error: no check could decide over it.
func ParseSubjectKind(s string) (SubjectKind, error) {
	switch kind := SubjectKind(s); kind {
	case SubjectUser, SubjectClient, SubjectWorkload:
		return kind, nil
	default:
		return "", errors.New("not a kind of subject")
	}
}

// Epochs are the links to the epochs that end a subject's older tokens.
func (s Subject) Epochs(born time.Time) []Link {
	everything := Link{Kind: EpochEverything, Born: born}
	switch s.Kind {
	case SubjectUser:
		return []Link{everything, {Kind: EpochUser, Key: s.ID, Born: born}}
	case SubjectClient:
		return []Link{everything, {Kind: EpochClient, Key: s.ID, Born: born}}
	case SubjectWorkload:
		links := []Link{everything, {Kind: EpochWorkload, Key: s.ID, Born: born}}
		switch cluster, namespace, issuer := workloadOf(s.ID); {
		case cluster != "":
			links = append(links, Link{Kind: EpochWorkload, Key: namespace, Born: born}, Link{Kind: EpochCluster, Key: cluster, Born: born})
		case issuer != "":
			links = append(links, Link{Kind: EpochIssuer, Key: issuer, Born: born})
		}
		return links
	default:
		return []Link{everything} // the account check refuses it
	}
}

// Source says where a client, user or resource is kept. What is in the file
// is read-only at run time; what the admin API makes lives in the database.
type Source string

// The two places.
const (
	FromFile     Source = "file"
	FromDatabase Source = "database"
)

// Session is one signed-in browser.
type Session struct {
	ID        ID       // `sid`
	Hash      [32]byte // SHA-256 of the cookie's value; the value is never stored
	Subject   Subject
	AuthTime  time.Time
	AMR       []string // RFC 8176
	ExpiresAt time.Time
}

// Alive says whether the session may still vouch for its subject.
func (s Session) Alive(now time.Time) bool { return now.Before(s.ExpiresAt) }

// Links are what the session's life depends on. A person's epoch also ends the
// sessions that are older than it.
func (s Session) Links() []Link {
	return append(s.Subject.Epochs(s.ID.Time()), SessionEvidence(s.ID).Link())
}
