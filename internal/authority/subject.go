package authority

import "time"

// Subject is whom a token is about: a user, a workload or a service, always
// with the issuer that vouched for it.
type Subject struct {
	Issuer string
	ID     string
	Kind   SubjectKind
}

// SubjectKind says which account state decides over a subject.
type SubjectKind string

// The kinds of subject.
const (
	SubjectUser   SubjectKind = "user"   // a User of ours
	SubjectClient SubjectKind = "client" // a client that acts for itself
)

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
