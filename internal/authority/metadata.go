// The rule book: every rule about a registered object, once. The file, the
// admin API and stored rows all ask Validate; what only others can tell
// (does this resource exist?) is CheckReferences.
package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// References is what a rule about one object has to know about others.
type References struct {
	Issuer     string                                    // our own URL
	Algorithms []string                                  // those that we sign with
	Client     func(id string) (ClientMetadata, error)   // ErrNotFound
	Resource   func(id string) (ResourceMetadata, error) // ErrNotFound

	Cluster       func(name string) (ClusterMetadata, error)       // ErrNotFound
	TrustedIssuer func(name string) (TrustedIssuerMetadata, error) // ErrNotFound
	// KeyOwner names the cluster or trusted issuer in whose pasted key set a key
	// is, by its thumbprint. ErrNotFound.
	KeyOwner func(thumbprint string) (name string, err error)
}

const (
	maxID      = 255
	maxName    = 200
	maxMembers = 100
	maxScope   = 255
)

// SelfClientID is this service as a client of its own: with tokens that it
// issues to itself it reaches clusters (credential: self).
const SelfClientID = "signalbox"

// PolicyClientPrefix begins the client_id of a workload that gets its tokens
// by a trust policy. No registered client and no person may have such an id.
const PolicyClientPrefix = "policy:"

// checkID is the rule for client_id and sub. They share one namespace, since
// the sub of a token holds either (RFC 9068 §5). The characters are those of a
// scope value; an id of dots would be lost in a path.
func checkID(id string) *Problem {
	switch {
	case id == "":
		return problem("is missing", "choose an id")
	case len(id) > maxID || !isToken(id):
		return problem(quote(id)+" is not an id", `use 1 to 255 printable ASCII characters without spaces, " and \`)
	case strings.Trim(id, ".") == "":
		return problem(quote(id)+" has nothing but dots", "add a letter")
	case id == SelfClientID:
		return problem(quote(id)+" is this service itself", "choose another")
	case strings.HasPrefix(id, clusterSubject), strings.HasPrefix(id, issuerSubject):
		return problem(quote(id)+" begins like the subject of a workload", "choose another beginning than cluster: and issuer:")
	case strings.HasPrefix(id, PolicyClientPrefix):
		return problem(quote(id)+" begins with "+PolicyClientPrefix, "choose another: these ids belong to workloads and their policies")
	}
	return nil
}

// isToken: RFC 6749 §3.3, scope-token.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

func checkScope(s string) *Problem {
	if !isToken(s) || len(s) > maxScope {
		return problem(quote(s)+" is not a scope", `use 1 to 255 printable ASCII characters without spaces, " and \`)
	}
	return nil
}

// checkName is for what people read on a page and in a terminal.
func checkName(name string) *Problem {
	switch {
	case len(name) > maxName:
		return problem(fmt.Sprintf("is longer than %d bytes", maxName), "shorten it: people read it on a page")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return problem("has a control character", "remove it")
	case strings.ContainsFunc(name, turnsText):
		return problem("has a character that turns the direction of text", "remove it: it can make one name look like another")
	}
	return nil
}

// turnsText: the explicit directional formatting characters (UAX #9).
func turnsText(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }

// known makes a function that finds things into one that says whether they are
// there; a failure of the storage stays one.
func known[T any](find func(string) (T, error), id string) (T, bool, error) {
	v, err := find(id)
	if errors.Is(err, ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// Seconds is a life that JSON writes as OAuth does (expires_in).
type Seconds time.Duration

// SecondsOf is n seconds; beyond what any rule allows it does not matter how many.
func SecondsOf(n int64) Seconds {
	return Seconds(time.Duration(min(max(n, -1), 1<<31)) * time.Second)
}

func (s Seconds) whole() bool { return time.Duration(s)%time.Second == 0 }

// MarshalJSON writes whole seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%d", time.Duration(s)/time.Second), nil
}

// UnmarshalJSON reads whole seconds.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var n int32
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	*s = Seconds(time.Duration(n) * time.Second)
	return nil
}
