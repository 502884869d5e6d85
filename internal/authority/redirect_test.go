package authority

import (
	"net/url"
	"strings"
	"testing"
)

func mustRedirect(t testing.TB, s string) RedirectURI {
	t.Helper()
	r, err := ParseRedirectURI(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return r
}

func TestRedirectURIsThatMayBeRegistered(t *testing.T) {
	for _, s := range []string{
		"https://app.example.com/callback", "https://app.example.com", "https://app.example.com:8443/cb?tenant=1", "https://app.example.com/a%20b",
		"http://127.0.0.1/cb", "http://127.0.0.1:3000/cb", "http://[::1]/cb", "http://[::1]:3000/cb", "http://localhost:3000/cb",
		"com.example.app:/callback", "com.example.app://callback", "https://app.example.com/..x/...",
	} {
		if r := mustRedirect(t, s); r.String() != s || !r.Allows(s) {
			t.Errorf("%q does not allow itself", s)
		}
	}
}

func TestRedirectURIsThatMayNot(t *testing.T) {
	for row, s := range map[string]string{
		"empty":                                 "",
		"too long":                              "https://app.example.com/" + strings.Repeat("a", 2048),
		"no scheme":                             "app.example.com/cb",
		"a path alone":                          "/cb",
		"a network path":                        "//app.example.com/cb",
		"no host":                               "https:///cb",
		"http elsewhere":                        "http://app.example.com/cb",
		"A 2: http on a name that looks local":  "http://127.0.0.1.evil.example/cb",
		"A 2: localhost as a user name":         "http://localhost@evil.example/cb",
		"A 2: an address as a user name":        "http://127.0.0.1:80@evil.example/cb",
		"A 2: a subdomain of localhost":         "http://evil.localhost/cb",
		"A 2: a decimal address":                "http://2130706433/cb",
		"A 2: the unspecified address":          "http://0.0.0.0/cb",
		"A 2: loopback mapped into IPv6":        "http://[::ffff:127.0.0.1]/cb",
		"A 3: a dot segment":                    "https://app.example.com/a/../cb",
		"A 3: a dot segment at the end":         "https://app.example.com/a/..",
		"A 3: a single dot":                     "https://app.example.com/./cb",
		"A 3: an encoded dot segment":           "https://app.example.com/%2e%2e/cb",
		"A 3: a half-encoded dot segment":       "https://app.example.com/.%2E/cb",
		"A 3: an encoded slash before dots":     "https://app.example.com/a%2f..%2fcb",
		"A 3: an encoded backslash before dots": "https://app.example.com/a%5c..%5ccb",
		"A 3: dots with a path parameter":       "https://app.example.com/..;/cb",
		"A 3: a backslash":                      `https://app.example.com\@evil.example/cb`,
		"A 3: a tab":                            "https://app.example.com/\tcb",
		"A 3: a newline":                        "https://app.example.com/cb\n",
		"A 3: a NUL":                            "https://app.example.com/cb\x00",
		"A 3: a space":                          "https://app.example.com/c b",
		"A 3: a letter beyond ASCII":            "https://äpp.example.com/cb",
		"A 3: user information":                 "https://user:pass@app.example.com/cb",
		"A 3: user information with several at": "https://a@b@app.example.com/cb",
		"A 3: empty user information":           "https://@app.example.com/cb",
		"A 4: a fragment":                       "https://app.example.com/cb#x",
		"A 4: an empty fragment":                "https://app.example.com/cb#",
		"A 5: javascript":                       "javascript:alert(1)",
		"A 5: javascript in mixed case":         "JaVaScRiPt:alert(1)",
		"A 5: javascript with an authority":     "javascript://app.example.com/%0aalert(1)",
		"A 5: data":                             "data:text/html,x",
		"A 5: vbscript":                         "vbscript:x",
		"A 5: file":                             "file:///etc/passwd",
		"A 5: blob":                             "blob:https://app.example.com/1",
		"a private scheme without a dot":        "myapp:/cb",
		"a private scheme with an opaque part":  "com.example.app:cb",
		"the out-of-band address of old":        "urn:ietf:wg:oauth:2.0:oob",
		"a wildcard that somebody hoped for":    "*",
		"a bad percent encoding":                "https://app.example.com/%zz",
		"a port that is none":                   "http://127.0.0.1:x/cb",
		"markup":                                `https://app.example.com/"><script>`,
	} {
		if r, err := ParseRedirectURI(s); err == nil {
			t.Errorf("%s: %q was taken", row, r)
		}
	}
}

func TestRedirectURIComparesStrings(t *testing.T) {
	const web, v4, v6, name = "https://app.example.com/callback", "http://127.0.0.1/cb", "http://[::1]:3000/cb", "http://localhost:3000/cb"
	for row, tc := range map[string]struct {
		registered, requested string
		want                  bool
	}{
		"the same":                                {web, web, true},
		"A 1: the path in another case":           {web, "https://app.example.com/CALLBACK", false},
		"A 1: the host in another case":           {web, "https://APP.example.com/callback", false},
		"A 1: the scheme in another case":         {web, "HTTPS://app.example.com/callback", false},
		"A 1: a trailing slash":                   {web, web + "/", false},
		"A 1: a query added":                      {web, web + "?x=1", false},
		"A 1: an empty query":                     {web, web + "?", false},
		"A 1: the default port":                   {web, "https://app.example.com:443/callback", false},
		"A 1: another port":                       {web, "https://app.example.com:444/callback", false},
		"A 1: only a prefix":                      {web, "https://app.example.com/callback/x", false},
		"A 1: http for https":                     {web, "http://app.example.com/callback", false},
		"A 1: a longer host":                      {web, "https://app.example.com.evil.example/callback", false},
		"A 3: a double slash":                     {web, "https://app.example.com//callback", false},
		"A 3: an encoded letter":                  {web, "https://app.example.com/%63allback", false},
		"A 4: a fragment":                         {web, web + "#x", false},
		"nothing":                                 {web, "", false},
		"a port on loopback":                      {v4, "http://127.0.0.1:51234/cb", true},
		"no port where one is registered":         {"http://127.0.0.1:3000/cb", "http://127.0.0.1/cb", true},
		"another port on IPv6 loopback":           {v6, "http://[::1]:51234/cb", true},
		"A 2: the other loopback":                 {v4, "http://[::1]:51234/cb", false},
		"A 2: another address of 127/8":           {v4, "http://127.0.0.2:51234/cb", false},
		"A 2: https on loopback":                  {v4, "https://127.0.0.1:51234/cb", false},
		"A 2: localhost for loopback":             {v4, "http://localhost/cb", false},
		"A 2: another port on localhost":          {name, "http://localhost:51234/cb", false},
		"A 2: another path on loopback":           {v4, "http://127.0.0.1:51234/other", false},
		"A 2: another query on loopback":          {v4, "http://127.0.0.1:51234/cb?x=1", false},
		"A 2: a port with a user behind it":       {v4, "http://127.0.0.1:80@evil.example/cb", false},
		"A 2: a user before the port":             {v4, "http://x@127.0.0.1:80/cb", false},
		"A 2: no digit in the port":               {v4, "http://127.0.0.1:/cb", false},
		"A 2: a sign in the port":                 {v4, "http://127.0.0.1:+80/cb", false},
		"A 2: six digits":                         {v4, "http://127.0.0.1:123456/cb", false},
		"A 2: digits then a host":                 {v4, "http://127.0.0.1:80.evil.example/cb", false},
		"A 2: the address as a label":             {v4, "http://127.0.0.1.evil.example/cb", false},
		"A 2: a backslash after the port":         {v4, `http://127.0.0.1:80\@evil.example/cb`, false},
		"A 2: dot segments after the port":        {v4, "http://127.0.0.1:80/x/../cb", false},
		"A 2: a shorter spelling of the address":  {v4, "http://127.1:80/cb", false},
		"A 2: the scheme in another case":         {v4, "HTTP://127.0.0.1:80/cb", false},
		"A 4: a fragment on loopback":             {v4, "http://127.0.0.1:80/cb#x", false},
		"A 3: a newline on loopback":              {v4, "http://127.0.0.1:80/cb\n", false},
		"A 5: a private scheme in another case":   {"com.example.app:/cb", "COM.example.app:/cb", false},
		"a private scheme":                        {"com.example.app:/cb", "com.example.app:/cb", true},
		"a loopback without a path, with a query": {"http://127.0.0.1?a=b", "http://127.0.0.1:8000?a=b", true},
	} {
		if got := mustRedirect(t, tc.registered).Allows(tc.requested); got != tc.want {
			t.Errorf("%s: %q for %q is %v", row, tc.requested, tc.registered, got)
		}
	}
}

// FuzzRedirectURI asks two questions of any string. If it may be registered, a
// browser that reads it goes nowhere but to the host that we read. If it is
// allowed for a registered one, it differs from that in the port at most.
func FuzzRedirectURI(f *testing.F) {
	for _, s := range []string{
		"https://app.example.com/callback", "http://127.0.0.1:8080/cb", "http://[::1]/cb?x=y", "com.example.app:/cb", "http://127.0.0.1:80@evil.example/cb",
		"https://app.example.com\\@evil.example", "JaVaScRiPt:alert(1)", "https://a/%2e%2e/..;/x", "http://127.0.0.1:00080/cb", "http://localhost:3000/cb",
	} {
		f.Add(s)
	}
	registered := []RedirectURI{
		mustRedirect(f, "https://app.example.com/callback"), mustRedirect(f, "http://127.0.0.1/cb"),
		mustRedirect(f, "http://[::1]:3000/cb"), mustRedirect(f, "http://localhost:3000/cb"), mustRedirect(f, "com.example.app:/cb"),
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRedirectURI(s); err == nil {
			u, err := url.Parse(s)
			if err != nil || u.User != nil || u.Fragment != "" || strings.ContainsAny(s, "\\#\r\n\t \x00\"<>") || len(s) > 2048 {
				t.Fatalf("%q may be registered", s)
			}
			if u.Scheme != "https" && u.Scheme != "http" && !strings.Contains(u.Scheme, ".") {
				t.Fatalf("%q may be registered with its scheme", s)
			}
			if u.Scheme == "http" && u.Hostname() != "localhost" && u.Hostname() != "::1" && !strings.HasPrefix(u.Hostname(), "127.") {
				t.Fatalf("%q may be registered without TLS", s)
			}
			if !r.Allows(s) {
				t.Fatalf("%q does not allow itself", s)
			}
		}
		for _, r := range registered {
			if !r.Allows(s) || s == r.String() {
				continue
			}
			mine, errMine := url.Parse(r.String())
			theirs, errTheirs := url.Parse(s)
			if errMine != nil || errTheirs != nil {
				t.Fatalf("%q is allowed for %q and cannot be parsed", s, r)
			}
			host := mine.Hostname()
			if host != "127.0.0.1" && host != "::1" {
				t.Fatalf("%q is allowed for %q, which is not on loopback", s, r)
			}
			if theirs.Scheme != mine.Scheme || theirs.Hostname() != host || theirs.User != nil || theirs.RequestURI() != mine.RequestURI() || theirs.Fragment != "" {
				t.Fatalf("%q is allowed for %q", s, r)
			}
		}
	})
}
