// Redirect URIs follow RFC 6749 §3.1.2, RFC 8252 §7 and §8.4, and RFC 9700
// §2.1; issuers RFC 8414 §2; resource identifiers RFC 8707 §2.

package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxURI = 2048

// dangerous schemes run code, read files or show content that others control.
// A dotless scheme is refused anyhow; these get an answer of their own.
var dangerous = []string{
	"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source",
	"chrome", "chrome-extension", "moz-extension", "resource", "jar", "ws", "wss", "ftp", "mailto", "tel", "sms", "intent", "content",
}

var (
	schemeForm  = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9+.-]*\z`)
	hostName    = regexp.MustCompile(`\A[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\z`)
	hiddenBytes = regexp.MustCompile(`(?i)%(2e|2f|5c|25|[01][0-9a-f]|7f)`)
	badEscape   = regexp.MustCompile(`%(?:[^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?\z)`)
)

// checkRedirect accepts what may be registered as a redirect URI. Matching is
// by characters, so the text must also mean one thing to every parser.
func checkRedirect(s string) *mistake {
	if m := plainURI(s); m != nil {
		return m
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !schemeForm.MatchString(scheme) {
		return &mistake{"is not an absolute URI", "start with https://"}
	}
	if slices.Contains(dangerous, strings.ToLower(scheme)) {
		return &mistake{"the scheme " + clip(scheme) + ": is dangerous and never accepted", "use https"}
	}
	if scheme != strings.ToLower(scheme) {
		return &mistake{"the scheme has capital letters", "write " + strings.ToLower(clip(scheme)) + ":"}
	}
	if strings.Contains(s, "*") {
		return &mistake{"wildcards are not supported", "register every URI in full: they are compared character by character"}
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" {
		return &mistake{"is not a valid URI", "write it like https://app.example.com/callback, or com.example.app:/callback"}
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return &mistake{"has a user name before the host", "remove everything up to the @"}
	}
	if m := plainPath(u.EscapedPath()); m != nil {
		return m
	}
	switch scheme {
	case "https":
		return checkHost(u)
	case "http":
		if h := u.Hostname(); h != "127.0.0.1" && h != "::1" && h != "localhost" {
			return &mistake{"http is accepted only for 127.0.0.1, [::1] and localhost", "use https"}
		}
		return checkHost(u)
	}
	if !strings.Contains(scheme, ".") {
		return &mistake{"the private-use scheme " + clip(scheme) + ": has no dot", "use a domain name that you own, reversed: com.example.app:/callback"}
	}
	if !strings.HasPrefix(rest, "/") {
		return &mistake{"has no path", "write it like com.example.app:/callback"}
	}
	return nil
}

// plainURI refuses characters on which parsers disagree.
func plainURI(s string) *mistake {
	switch {
	case s == "":
		return &mistake{"is empty", "write an absolute URI"}
	case len(s) > maxURI:
		return &mistake{"is longer than " + strconv.Itoa(maxURI) + " characters", "shorten it"}
	case strings.Contains(s, "#"):
		return &mistake{"has a fragment", "remove everything from the #"}
	case strings.Contains(s, `\`):
		return &mistake{`has a backslash`, "use /"}
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"<>^`{|}", s[i]) >= 0 {
			return &mistake{"has a space or a character that no URI has", "percent-encode it (a host name: as xn--…)"}
		}
	}
	if badEscape.MatchString(s) {
		return &mistake{"has a % without two hexadecimal digits", "write %25 where you mean a percent sign"}
	}
	return nil
}

// plainPath refuses what a proxy could read as another path.
func plainPath(p string) *mistake {
	if hiddenBytes.MatchString(p) {
		return &mistake{"has an encoded dot, slash, backslash, percent or control character in its path", "write the path as it is"}
	}
	for seg := range strings.SplitSeq(p, "/") {
		seg, _, _ = strings.Cut(seg, ";")
		if seg == "." || seg == ".." {
			return &mistake{"has . or .. in its path", "write the path that is meant"}
		}
	}
	return nil
}

func checkHost(u *url.URL) *mistake {
	host := u.Hostname()
	_, err := netip.ParseAddr(host)
	if err != nil && (len(host) > 253 || !hostName.MatchString(host)) {
		if host != "" && hostName.MatchString(strings.ToLower(host)) {
			return &mistake{"the host has capital letters", "write " + strings.ToLower(host)}
		}
		return &mistake{"has no valid host", "write it like https://app.example.com/callback"}
	}
	if err == nil && strings.Contains(host, "%") {
		return &mistake{"has an address with a zone", "remove the % and what follows"}
	}
	if strings.HasSuffix(u.Host, ":") {
		return &mistake{"has a colon without a port", "remove the colon"}
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return &mistake{"has no valid port", "write a port from 1 to 65535"}
		}
	}
	return nil
}

// checkIssuer accepts an issuer identifier in its one normal form: relying
// parties compare it character by character.
func checkIssuer(s string) *mistake {
	if m := plainURI(s); m != nil {
		return m
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return &mistake{"expected an https URL, found " + quote(s), "write it like https://sts.example.com"}
	case u.User != nil:
		return &mistake{"has a user name before the host", "remove everything up to the @"}
	case !strings.HasPrefix(s, u.Scheme+"://"):
		return &mistake{"the scheme has capital letters", "write " + u.Scheme + "://"}
	}
	if m := checkHost(u); m != nil {
		return m
	}
	switch {
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		return &mistake{"http is accepted only for a loopback address", "use https; behind a proxy that ends TLS too: the issuer is what clients see"}
	case u.RawQuery != "" || u.ForceQuery:
		return &mistake{"has a query", "remove everything from the ?"}
	case strings.HasSuffix(s, "/"):
		return &mistake{"ends with a slash", "write " + strings.TrimRight(s, "/")}
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return &mistake{"names the default port", "remove :" + u.Port()}
	case strings.Contains(u.Path, "//") || strings.ContainsAny(u.EscapedPath(), "%;"):
		return &mistake{"has an empty or encoded part in its path", "use a plain path, or none"}
	}
	return plainPath(u.EscapedPath())
}

// checkResource accepts an absolute URI without fragment (RFC 8707 §2).
func checkResource(s string) *mistake {
	if m := plainURI(s); m != nil {
		return m
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "" || (u.Host == "" && u.Opaque == "" && u.Path == ""):
		return &mistake{"expected an absolute URI, found " + quote(s), "write it like https://api.example.com or urn:example:api"}
	case u.User != nil:
		return &mistake{"has a user name before the host", "remove everything up to the @"}
	case slices.Contains(dangerous, strings.ToLower(u.Scheme)):
		return &mistake{"the scheme " + u.Scheme + ": is never accepted", "use https or urn"}
	}
	return nil
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
