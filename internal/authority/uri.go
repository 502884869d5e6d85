// RFC 6749 §3.1.2, RFC 8252 §7 and §8.4, RFC 9700 §2.1: redirect URIs.
// RFC 8414 §2: issuers. RFC 8707 §2: resource identifiers.
package authority

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const maxURI = 2048

// dangerous schemes run code, read files or show content that others control.
// A redirect URI with a scheme without a dot is refused anyhow; these get an
// answer of their own.
var dangerous = []string{
	"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source",
	"chrome", "chrome-extension", "moz-extension", "resource", "jar", "ws", "wss", "ftp", "mailto", "tel", "sms", "intent", "content",
}

// checkRedirectURI says what may be registered as a redirect URI. It is
// compared by characters, so it must also mean one thing to every parser.
func checkRedirectURI(s string) *Problem {
	u, p := checkURI(s)
	if p != nil {
		return p
	}
	switch {
	case u.Opaque != "":
		return problem("is not a valid URI", "write it like https://app.example.com/callback, or com.example.app:/callback")
	case u.Scheme == "https":
		return checkHost(u)
	case u.Scheme == "http":
		if h := u.Hostname(); h != "127.0.0.1" && h != "::1" && h != "localhost" {
			return problem("http is accepted only for 127.0.0.1, [::1] and localhost", "use https")
		}
		return checkHost(u)
	case !strings.Contains(u.Scheme, "."):
		return problem("the private-use scheme "+clip(u.Scheme)+": has no dot", "use a domain name that you own, reversed: com.example.app:/callback")
	case u.Host == "" && u.Path == "":
		return problem("has no path", "write it like com.example.app:/callback")
	}
	return nil
}

// checkWebURI accepts what this service or a browser calls for a client: https, or
// http on loopback. Where it leads to is looked at when it is called: package outbound.
func checkWebURI(s string) *Problem {
	u, p := checkURI(s)
	switch {
	case p != nil:
		return p
	case u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
		return problem("is not an https URL", "write it like https://app.example.com/logout")
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		return problem("http is accepted only for 127.0.0.1, [::1] and localhost", "use https")
	}
	return checkHost(u)
}

// OriginOf is scheme, host and port of a URL, as a browser compares them; empty if it has none.
func OriginOf(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// checkResourceID accepts an absolute URI without a fragment. Only a person or
// a program compares it, but some show it, so no scheme that runs code.
func checkResourceID(s string) *Problem {
	u, p := checkURI(s)
	switch {
	case p != nil:
		return p
	case u.Scheme == "https" || u.Scheme == "http":
		if u.Opaque != "" {
			return problem("is not a valid URI", "write it like https://api.example.com")
		}
		return checkHost(u)
	case u.Host == "" && u.Opaque == "" && u.Path == "":
		return problem("has nothing after its scheme", "write it like https://api.example.com or urn:example:api")
	}
	return nil
}

// CheckIssuer accepts an issuer identifier in its one normal form: relying
// parties compare it character by character.
func CheckIssuer(s string) *Problem {
	if scheme, _, _ := strings.Cut(strings.ToLower(s), "://"); s != "" && scheme != "https" && scheme != "http" {
		return problem("expected an https URL, found "+quote(s), "write it like https://sts.example.com")
	}
	u, p := checkURI(s)
	if p != nil {
		return p
	}
	if p := checkHost(u); p != nil {
		return p
	}
	switch {
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		return problem("http is accepted only for a loopback address", "use https; behind a proxy that ends TLS too: the issuer is what clients see")
	case u.RawQuery != "" || u.ForceQuery:
		return problem("has a query", "remove everything from the ?")
	case strings.HasSuffix(s, "/"):
		return problem("ends with a slash", "write "+clip(strings.TrimRight(s, "/")))
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return problem("names the default port", "remove :"+u.Port())
	case strings.Contains(u.Path, "//") || strings.ContainsAny(u.EscapedPath(), "%;"):
		return problem("has an empty or encoded part in its path", "use a plain path, or none")
	}
	return nil
}

// checkURI is what every registered URI is held to: absolute, without a
// fragment and a user name, and without what parsers read differently.
func checkURI(s string) (*url.URL, *Problem) {
	if p := checkCharacters(s); p != nil {
		return nil, p
	}
	scheme, _, ok := strings.Cut(s, ":")
	switch {
	case !ok || !isScheme(scheme):
		return nil, problem("is not an absolute URI", "start with https://")
	case slices.Contains(dangerous, strings.ToLower(scheme)):
		return nil, problem("the scheme "+scheme+": is dangerous and never accepted", "use https")
	case scheme != strings.ToLower(scheme):
		return nil, problem("the scheme has capital letters", "write "+clip(strings.ToLower(scheme))+":")
	case strings.Contains(s, "*"):
		return nil, problem("has a *, and wildcards are not supported", "write every URI in full: they are compared character by character")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, problem("is not a valid URI", "write it like https://app.example.com/path")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return nil, problem("has a user name before the host", "remove everything up to the @")
	}
	return u, checkPath(u.EscapedPath())
}

// checkCharacters refuses bytes and escapes on which parsers disagree.
func checkCharacters(s string) *Problem {
	switch {
	case s == "":
		return problem("is empty", "write an absolute URI")
	case len(s) > maxURI:
		return problem("is longer than "+strconv.Itoa(maxURI)+" characters", "shorten it")
	case strings.Contains(s, "#"):
		return problem("has a fragment", "remove everything from the #")
	case strings.Contains(s, `\`):
		return problem("has a backslash", "use /")
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"<>^`{|}", s[i]) >= 0 {
			return problem("has a space or a character that no URI has", "percent-encode it (a host name: as xn--…)")
		}
		if s[i] != '%' {
			continue
		}
		b, ok := escaped(s[i:])
		switch {
		case !ok:
			return problem("has a % without two hexadecimal digits", "write %25 where you mean a percent sign")
		case b < ' ' || b == 0x7f:
			return problem("has an encoded control character", "remove it")
		}
	}
	return nil
}

// escaped reads the byte of a percent escape.
func escaped(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	b, err := strconv.ParseUint(s[1:3], 16, 8)
	return byte(b), err == nil
}

// checkPath refuses what a proxy could read as another path.
func checkPath(path string) *Problem {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if b, _ := escaped(path[i:]); strings.IndexByte(`./\%`, b) >= 0 {
			return problem("has an encoded dot, slash, backslash or percent sign in its path", "write the path as it is")
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return problem("has . or .. in its path", "write the path that is meant")
		}
	}
	return nil
}

func checkHost(u *url.URL) *Problem {
	host := u.Hostname()
	address, err := netip.ParseAddr(host)
	switch {
	case err == nil && address.Zone() != "":
		return problem("has an address with a zone", "remove the % and what follows")
	case err == nil && address.String() != host:
		return problem("has an address that is not in its normal form", "write "+address.String())
	case err != nil && !isHostName(host):
		if isHostName(strings.ToLower(host)) {
			return problem("the host has capital letters", "write "+clip(strings.ToLower(host)))
		}
		return problem("has no valid host", "write it like https://app.example.com/path")
	case strings.HasSuffix(u.Host, ":"):
		return problem("has a colon without a port", "remove the colon")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return problem("has no valid port", "write a port from 1 to 65535")
		}
	}
	return nil
}

// isScheme: RFC 3986 §3.1.
func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !isDigit(s[i]) && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
}

// isHostName: labels of letters, digits and hyphens, in lower case. The last
// one is no number, since some parsers take that for an address.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; (c < 'a' || c > 'z') && !isDigit(c) && c != '-' {
				return false
			}
		}
		last = label
	}
	return !isDigit(last[0]) || strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
