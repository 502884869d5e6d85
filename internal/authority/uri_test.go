package authority

import (
	"net/url"
	"strings"
	"testing"
)

func TestIssuersThatMayBeConfigured(t *testing.T) {
	for _, s := range []string{
		"https://sts.example.com", "https://sts.example.com:8443", "https://sts.example.com/tenant/a",
		"http://127.0.0.1:8443", "http://127.9.9.9", "http://[::1]:8044", "http://localhost:8080",
	} {
		if p := CheckIssuer(s); p != nil {
			t.Errorf("%s refused: %v", s, p)
		}
	}
	for _, s := range []string{
		"", "sts.example.com", "https://", "https:sts.example.com", "http://sts.example.com", "https://sts.example.com/",
		"https://sts.example.com/a/", "https://sts.example.com?x=1", "https://sts.example.com?", "https://sts.example.com#x",
		"https://u:p@sts.example.com", "https://STS.example.com", "HTTPS://sts.example.com", "https://sts.example.com:443",
		"https://sts.example.com/a//b", "https://sts.example.com/../b", "https://sts.example.com/%61", "https://sts_x.example.com",
		"http://127.0.0.1.evil.example", "http://10.0.0.1", "ftp://sts.example.com", "https://sts.example.com:",
	} {
		if CheckIssuer(s) == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestResourceIdentifiers(t *testing.T) {
	for row, s := range map[string]string{
		"a host":                 "https://api.example.com",
		"a path and a query":     "https://api.example.com/v1?x=1",
		"a name":                 "urn:example:api",
		"a host without TLS":     "http://internal/api",
		"a scheme of their own":  "api://orders",
		"a port":                 "https://api.example.com:8443/",
		"an application's own":   "com.example.app:/api",
		"a workload's trust URI": "spiffe://example.com/ns/prod/sa/api",
	} {
		if p := checkResourceID(s); p != nil {
			t.Errorf("%s: %s refused: %v", row, s, p)
		}
	}
	for row, s := range map[string]string{
		"nothing":                         "",
		"a word":                          "api",
		"a path":                          "/api",
		"no scheme":                       "//api.example.com",
		"no host":                         "https:///path",
		"a scheme alone":                  "urn:",
		"A 4: a fragment":                 "https://api.example.com#x",
		"a user name":                     "https://u@api.example.com",
		"A 5: a script":                   "javascript:alert(1)",
		"A 5: a script in mixed case":     "JavaScript:alert(1)",
		"A 5: data":                       "data:text/html,x",
		"A 5: another script":             "vbscript:x",
		"a file":                          "file:///etc/passwd",
		"a space":                         "urn:a b",
		"a line break":                    "urn:a\nb",
		"an encoded line break":           "https://api.example.com/%0d%0a",
		"capital letters in the scheme":   "HTTPS://api.example.com",
		"capital letters in the host":     "https://API.example.com",
		"a wildcard that somebody hoped":  "https://*.example.com",
		"a port that is none":             "https://api.example.com:99999",
		"dot segments":                    "https://api.example.com/a/../b",
		"a host that some read as 127.1":  "https://127.1/",
		"a host in another number system": "https://0x7f000001/",
		"too long":                        "https://api.example.com/" + strings.Repeat("a", 2048),
	} {
		if checkResourceID(s) == nil {
			t.Errorf("%s: %q accepted", row, s)
		}
	}
}

// FuzzURIs: what may be registered means the same to another parser, has no
// scheme that runs code, and nothing that moves when it is shown or sent.
func FuzzURIs(f *testing.F) {
	for _, s := range []string{"https://a.example/b?c=d", "urn:a:b", "HTTPS://a", "http://[::1]:80/", "javascript:x", "https://a/%2e%2e", "https://a:00080", "https://1.2/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkResourceID(s) != nil && CheckIssuer(s) != nil && checkRedirectURI(s) != nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q: %v, %v", s, u, err)
		}
		if strings.ContainsAny(s, "\\#\r\n\t \x00\"<>*") || len(s) > maxURI || u.Scheme != strings.ToLower(u.Scheme) || u.Host != strings.ToLower(u.Host) && u.Scheme == "https" {
			t.Fatalf("%q may be registered", s)
		}
		for _, bad := range []string{"javascript:", "data:", "vbscript:"} {
			if strings.HasPrefix(strings.ToLower(s), bad) {
				t.Fatalf("%q may be registered", s)
			}
		}
	})
}
