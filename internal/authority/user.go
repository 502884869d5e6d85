// OpenID Connect Core §5.1: the names of what is known about a person.
package authority

import (
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// UserProfile is a person as somebody writes them: in the file, to the admin
// API, in a stored row. NewUser turns it into a User.
type UserProfile struct {
	Sub           string `json:"sub"`
	Username      string `json:"username"`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
	// Groups are what trust policies ask for (user_group).
	Groups []string       `json:"groups,omitempty"`
	Claims StandardClaims `json:"claims,omitzero"`
}

// User is a person with an account here.
type User struct {
	ID            string // `sub`: stable, never reused, never the username
	Username      string
	PasswordHash  string // argon2id, PHC string format
	Name          string
	Email         string
	EmailVerified bool
	Groups        []string
	Claims        StandardClaims
	Disabled      bool
	Source        Source
	Revision      int64 // in the database
	CreatedAt     time.Time
	UpdatedAt     time.Time

	Problems Problems // of a stored one that breaks the rule book: it is off
	broken   *UserProfile
}

// NewUser makes a User of what was written. The error is Problems.
func NewUser(p UserProfile) (User, error) {
	if found := p.Validate(); len(found) > 0 {
		return User{}, Problems(found)
	}
	return User{ID: p.Sub, Username: p.Username, Name: p.Name, Email: p.Email, EmailVerified: p.EmailVerified, Groups: p.Groups, Claims: p.Claims}, nil
}

// Profile is the user as it is written.
func (u User) Profile() UserProfile {
	if u.broken != nil {
		return *u.broken
	}
	return UserProfile{Sub: u.ID, Username: u.Username, Name: u.Name, Email: u.Email, EmailVerified: u.EmailVerified, Groups: slices.Clone(u.Groups), Claims: u.Claims}
}

const maxEmail = 254

// Validate finds what breaks a rule, without asking about other objects.
func (p UserProfile) Validate() []Problem {
	var found Problems
	found.at("sub", checkID(p.Sub))
	found.at("username", checkUsername(p.Username))
	found.at("name", checkName(p.Name))
	if p.Email != "" && !isEmail(p.Email) {
		found.add("email", "expected an e-mail address, found "+quote(p.Email), "write it like ada@example.com")
	}
	if p.EmailVerified && p.Email == "" {
		found.add("email_verified", "is true, but there is no email", "add email, or remove this")
	}
	if found.list("groups", p.Groups, maxGroups) {
		found.each("groups", p.Groups, checkGroup)
	}
	p.Claims.validate(&found)
	return found
}

// CheckReferences finds what does not fit the other objects. An error is a
// failure to look at them.
func (p UserProfile) CheckReferences(r References) ([]Problem, error) {
	var found Problems
	_, taken, err := known(r.Client, p.Sub)
	if taken {
		// RFC 9068 §5: a subject that looks like a client could be taken for it.
		found.add("sub", quote(p.Sub)+" is the id of a client", "choose another")
	}
	return found, err
}

// checkUsername keeps apart what people could take for each other: two
// accounts that differ in case alone would share a lockout and fool whoever
// reads a list. People may type capital letters all the same.
func checkUsername(name string) *Problem {
	switch {
	case name == "":
		return problem("is missing", "choose a name")
	case len(name) > maxID || !utf8.ValidString(name):
		return problem(quote(name)+" is not a username", "use 1 to "+strconv.Itoa(maxID)+" bytes of UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }):
		return problem(quote(name)+" is not a username", "remove spaces and invisible characters")
	case strings.ToLower(name) != name:
		return problem(quote(name)+" has capital letters", "write "+clip(strings.ToLower(name)))
	}
	return nil
}

// isEmail says whether s is one bare address (RFC 5322 addr-spec).
func isEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	return err == nil && address.Address == s && len(s) <= maxEmail
}

// The length of a password that somebody may choose, in bytes. A longer one
// only costs us time: argon2id as denial of service.
const (
	MinPassword = 8
	MaxPassword = 1024
)

// CheckPassword says whether somebody may choose this password.
func CheckPassword(password string) *Problem {
	if len(password) < MinPassword || len(password) > MaxPassword {
		return problem("has fewer than "+strconv.Itoa(MinPassword)+" or more than "+strconv.Itoa(MaxPassword)+" bytes", "choose another")
	}
	return nil
}
