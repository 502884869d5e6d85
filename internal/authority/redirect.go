// RFC 9700 §4.1.3 and RFC 8252 §7: redirect URIs are compared as strings; only
// the port of a loopback IP literal may vary.
package authority

import "strings"

// RedirectURI is a registered redirect URI, or the URI after a sign-out: what
// checkRedirectURI has accepted.
type RedirectURI struct{ raw string }

// ParseRedirectURI accepts https, http on loopback, and private-use schemes
// with a dot in them (RFC 8252 §7.1). The error is a Problem.
func ParseRedirectURI(s string) (RedirectURI, error) {
	if p := checkRedirectURI(s); p != nil {
		return RedirectURI{}, *p
	}
	return RedirectURI{s}, nil
}

func (r RedirectURI) String() string { return r.raw }

// Allows compares a requested URI with the registered one: the same string,
// or the same but for the port where both name the same loopback IP literal
// over http (RFC 8252 §7.3). The name localhost gets no such latitude, since
// what it resolves to is not ours to say (RFC 8252 §8.3).
func (r RedirectURI) Allows(requested string) bool {
	if requested == r.raw {
		return true
	}
	mine, ok := loopbackWithoutPort(r.raw)
	if !ok {
		return false
	}
	theirs, ok := loopbackWithoutPort(requested)
	return ok && mine == theirs
}

// loopbackWithoutPort cuts the port out of http://127.0.0.1:port/… and
// http://[::1]:port/… by plain string work: two parsers that disagree about an
// authority are how such checks were passed elsewhere (CVE-2024-8883).
func loopbackWithoutPort(s string) (string, bool) {
	for _, origin := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, ok := strings.CutPrefix(s, origin)
		if !ok {
			continue
		}
		if after, hasPort := strings.CutPrefix(rest, ":"); hasPort {
			digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
			if digits == 0 || digits > 5 {
				return "", false
			}
			rest = after[digits:]
		}
		if rest != "" && rest[0] != '/' && rest[0] != '?' {
			return "", false
		}
		if checkRedirectURI(s) != nil {
			return "", false
		}
		return origin + rest, true
	}
	return "", false
}
