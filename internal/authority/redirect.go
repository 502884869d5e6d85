// RFC 9700 §4.1.3 and RFC 8252 §7: redirect URIs are compared as strings; only
// the port of a loopback IP literal may vary.
package authority

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

const maxRedirectURI = 2048

// RedirectURI is a registered redirect URI: absolute, without a fragment, and
// of a scheme that a browser cannot run.
type RedirectURI struct{ raw string }

// ParseRedirectURI accepts https, http on loopback, and private-use schemes
// with a dot in them (RFC 8252 §7.1).
func ParseRedirectURI(s string) (RedirectURI, error) {
	if s == "" || len(s) > maxRedirectURI {
		return RedirectURI{}, errors.New("redirect URI is empty or too long")
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= 0x20 || s[i] >= 0x7f || s[i] == '\\' || s[i] == '#' || s[i] == '"' || s[i] == '<' || s[i] == '>' {
			return RedirectURI{}, errors.New("redirect URI has a fragment, a backslash, white space or a character that must be percent-encoded")
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" {
		return RedirectURI{}, errors.New("redirect URI is not an absolute URI")
	}
	if u.User != nil {
		return RedirectURI{}, errors.New("redirect URI must not hold a user name")
	}
	if hasDotSegment(u.EscapedPath()) {
		return RedirectURI{}, errors.New("redirect URI must not hold dot segments")
	}
	switch {
	case u.Scheme == "https" && u.Host != "":
	case u.Scheme == "http" && isLoopbackHost(u.Hostname()):
	case u.Scheme == "http":
		return RedirectURI{}, errors.New("redirect URI with http must be on loopback (127.0.0.1, [::1] or localhost)")
	case strings.Contains(u.Scheme, ".") && u.Opaque == "":
	default:
		return RedirectURI{}, errors.New("redirect URI must use https, http on loopback, or a private-use scheme such as com.example.app:/")
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
		if _, err := ParseRedirectURI(s); err != nil {
			return "", false
		}
		return origin + rest, true
	}
	return "", false
}

func hasDotSegment(escapedPath string) bool {
	path := strings.ToLower(escapedPath)
	path = strings.ReplaceAll(path, "%2e", ".")
	path = strings.ReplaceAll(path, "%2f", "/")
	path = strings.ReplaceAll(path, "%5c", "/")
	for segment := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return true
		}
	}
	return false
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() && (ip == netip.IPv6Loopback() || ip.Is4())
}
