// RFC 7636: Proof Key for Code Exchange. Only S256: with the
// plain method the authorization request shows the verifier.
package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
)

// Challenge is a valid S256 code challenge (RFC 7636 §4.2). The zero value is
// "no challenge was sent".
type Challenge struct{ s256 string }

// ParseChallenge reads code_challenge and code_challenge_method. An absent
// method means plain (RFC 7636 §4.3), so it is refused like plain.
func ParseChallenge(challenge, method string) (Challenge, error) {
	if challenge == "" && method == "" {
		return Challenge{}, nil
	}
	if method != "S256" {
		return Challenge{}, errors.New("code_challenge_method must be S256")
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	if err != nil || len(sum) != sha256.Size || len(challenge) != 43 { // the decoder skips line breaks
		return Challenge{}, errors.New("code_challenge must be the base64url SHA-256 of the verifier, 43 characters")
	}
	return Challenge{challenge}, nil
}

// IsZero says that no challenge was sent.
func (c Challenge) IsZero() bool { return c.s256 == "" }

// String is the challenge as it was sent.
func (c Challenge) String() string { return c.s256 }

// Verify checks the code_verifier (RFC 7636 §4.6). A challenge demands a
// verifier. A verifier without a challenge is refused too: that is how a
// removed challenge is noticed (RFC 9700 §4.8.2).
func (c Challenge) Verify(verifier string) error {
	if c.IsZero() {
		if verifier != "" {
			return errors.New("code_verifier was sent but the authorization request had no code_challenge")
		}
		return nil
	}
	if verifier == "" {
		return errors.New("code_verifier is missing")
	}
	if len(verifier) < 43 || len(verifier) > 128 || !unreserved(verifier) {
		return errors.New("code_verifier must be 43 to 128 unreserved characters")
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(got), []byte(c.s256)) != 1 {
		return errors.New("code_verifier does not match the code_challenge")
	}
	return nil
}

func unreserved(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}
