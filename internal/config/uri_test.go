package config

import (
	"strings"
	"testing"
)

func TestRedirectURIs(t *testing.T) {
	for _, s := range []string{
		"https://app.example.com/callback", "https://app.example.com", "https://app.example.com/?tenant=1", "https://app.example.com:8443/cb",
		"https://192.0.2.7/cb", "https://[2001:db8::1]/cb", "https://xn--bcher-kva.example/cb", "https://a.example/a%20b",
		"http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://[::1]:8080/cb", "http://localhost:3000/cb",
		"com.example.app:/callback", "com.example.app:/", "com.example.app://oauth/cb",
	} {
		if m := checkRedirect(s); m != nil {
			t.Errorf("%s refused: %s", s, m.problem)
		}
	}
	for _, row := range []struct{ uri, want string }{
		{"", "is empty"},
		{"/callback", "not an absolute"},
		{"//app.example.com/cb", "not an absolute"},
		{"https://app.example.com/cb#x", "fragment"},
		{"https://app.example.com/cb#", "fragment"},
		{"javascript:alert(1)", "dangerous"},
		{"JaVaScRiPt:alert(1)", "dangerous"},
		{"DATA:text/html,x", "dangerous"},
		{"vbscript:x", "dangerous"}, {"file:///etc/passwd", "dangerous"}, {"blob:https://x", "dangerous"}, {"About:blank", "dangerous"},
		{" javascript:alert(1)", "space"},
		{"java\tscript:alert(1)", "space"},
		{"https://app.example.com/c b", "space"},
		{"https://app.example.com/\ncb", "space"},
		{"https://app.example.com/\x00", "space"},
		{"https://bücher.example/cb", "space"},
		{`https://app.example.com\@evil.example/cb`, "backslash"},
		{"https://user@evil.example/cb", "user name"},
		{"https://app.example.com@evil.example/cb", "user name"},
		{"http://localhost@evil.example/cb", "user name"},
		{"http://127.0.0.1:80@evil.example/cb", "user name"},
		{"http://127.0.0.1.evil.example/cb", "only for"},
		{"http://app.example.com/cb", "only for"},
		{"http://0.0.0.0/cb", "only for"},
		{"http://127.0.0.2/cb", "only for"},
		{"HTTPS://app.example.com/cb", "capital"},
		{"https://App.example.com/cb", "capital"},
		{"https://*.example.com/cb", "wildcards"},
		{"https:///cb", "no valid host"},
		{"https://-x.example/cb", "no valid host"},
		{"https://app.example.com:0/cb", "no valid port"},
		{"https://app.example.com:99999/cb", "no valid port"},
		{"https://app.example.com:/cb", "colon without a port"},
		{"https://app.example.com/a/../b", ". or .."},
		{"https://app.example.com/a/..;x=1/b", ". or .."},
		{"https://app.example.com/a/%2e%2e/b", "encoded"},
		{"https://app.example.com/a/%252e%252e/b", "encoded"},
		{"https://app.example.com/a%2Fb", "encoded"},
		{"https://app.example.com/a%0d%0aSet-Cookie:x", "encoded"},
		{"https://app.example.com/%zz", "% without"},
		{"https://app.example.com/?a=%", "% without"},
		{"myapp:/callback", "no dot"},
		{"com.example.app:callback", "not a valid URI"},
		{"https:app.example.com", "not a valid URI"},
		{"https://app.example.com/" + strings.Repeat("a", 2048), "longer"},
	} {
		m := checkRedirect(row.uri)
		if m == nil {
			t.Errorf("%q accepted", row.uri)
		} else if !strings.Contains(m.problem, row.want) {
			t.Errorf("%q: %s, want %s", row.uri, m.problem, row.want)
		}
	}
}

func TestIssuers(t *testing.T) {
	for _, s := range []string{"https://sts.example.com", "https://sts.example.com:8443", "https://sts.example.com/tenant/a",
		"http://127.0.0.1:8443", "http://127.9.9.9", "http://[::1]:80443"[:17], "http://localhost:8080"} {
		if m := checkIssuer(s); m != nil {
			t.Errorf("%s refused: %s", s, m.problem)
		}
	}
	for _, s := range []string{"", "sts.example.com", "https://", "https:sts.example.com", "http://sts.example.com", "https://sts.example.com/",
		"https://sts.example.com/a/", "https://sts.example.com?x=1", "https://sts.example.com?", "https://sts.example.com#x",
		"https://u:p@sts.example.com", "https://STS.example.com", "HTTPS://sts.example.com", "https://sts.example.com:443",
		"https://sts.example.com/a//b", "https://sts.example.com/../b", "https://sts.example.com/%61", "https://sts_x.example.com",
		"http://127.0.0.1.evil.example", "http://10.0.0.1", "ftp://sts.example.com", "https://sts.example.com:"} {
		if checkIssuer(s) == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestResourceIdentifiers(t *testing.T) {
	for _, s := range []string{"https://api.example.com", "https://api.example.com/v1?x=1", "urn:example:api", "http://internal/api"} {
		if m := checkResource(s); m != nil {
			t.Errorf("%s refused: %s", s, m.problem)
		}
	}
	for _, s := range []string{"", "api", "/api", "https://api.example.com#x", "https://u@api.example.com", "javascript:x", "urn:a b"} {
		if checkResource(s) == nil {
			t.Errorf("%q accepted", s)
		}
	}
}
