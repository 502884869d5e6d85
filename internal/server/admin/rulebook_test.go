package admin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// uris: who may be registered, by the file, by the admin API and by a stored
// row: one rule book (docs/security/threats.md A 1 to A 5).
var redirectURIs = []struct {
	uri  string
	good bool
}{
	{"https://app.example.com/callback", true},
	{"https://app.example.com", true},
	{"https://app.example.com/?tenant=1", true},
	{"https://app.example.com:8443/cb", true},
	{"https://192.0.2.7/cb", true},
	{"https://[2001:db8::1]/cb", true},
	{"https://xn--bcher-kva.example/cb", true},
	{"https://a.example/a%20b", true},
	{"http://127.0.0.1/cb", true},
	{"http://127.0.0.1:8080/cb", true},
	{"http://[::1]:8080/cb", true},
	{"http://localhost:3000/cb", true},
	{"com.example.app:/callback", true},
	{"com.example.app:/", true},
	{"com.example.app://oauth/cb", true},

	{"", false},
	{"/callback", false},
	{"//app.example.com/cb", false},
	{"https://app.example.com/cb#x", false},
	{"https://app.example.com/cb#", false},
	{"javascript:alert(1)", false},
	{"JaVaScRiPt:alert(1)", false},
	{"data:text/html,x", false},
	{"vbscript:x", false},
	{"file:///etc/passwd", false},
	{"blob:https://app.example.com/1", false},
	{" https://app.example.com/cb", false},
	{"https://app.example.com/c b", false},
	{"https://bücher.example/cb", false},
	{`https://app.example.com\@evil.example/cb`, false},
	{"https://user@evil.example/cb", false},
	{"http://127.0.0.1:80@evil.example/cb", false},
	{"http://127.0.0.1.evil.example/cb", false},
	{"http://app.example.com/cb", false},
	{"http://0.0.0.0/cb", false},
	{"http://127.0.0.2/cb", false},
	{"HTTPS://app.example.com/cb", false},
	{"https://App.example.com/cb", false},
	{"https://*.example.com/cb", false},
	{"https://app.example.com/*", false},
	{"https:///cb", false},
	{"https://-x.example/cb", false},
	{"https://app.example.com:0/cb", false},
	{"https://app.example.com:99999/cb", false},
	{"https://app.example.com:/cb", false},
	{"https://app.example.com/a/../b", false},
	{"https://app.example.com/a/..;x=1/b", false},
	{"https://app.example.com/a/%2e%2e/b", false},
	{"https://app.example.com/a/%252e%252e/b", false},
	{"https://app.example.com/a%2Fb", false},
	{"https://app.example.com/a%0d%0aSet-Cookie:x", false},
	{"https://app.example.com/%zz", false},
	{"https://app.example.com/?a=%", false},
	{"myapp:/callback", false},
	{"com.example.app:callback", false},
	{"https:app.example.com", false},
	{"https://app.example.com/" + strings.Repeat("a", 2048), false},
}

func TestOneRuleBook(t *testing.T) {
	s := newService(t)
	for _, row := range redirectURIs {
		file := "issuer: http://127.0.0.1:1\nlisten: {public: '127.0.0.1:1'}\nclients:\n  - {client_id: c, token_endpoint_auth_method: none, redirect_uris: ['" + row.uri + "']}\n"
		_, err := config.Parse("x.yaml", []byte(file), []string{"SIGNALBOX_SECRETS_MASTER_KEY=0123456789abcdef0123456789abcdef"})
		if (err == nil) != row.good {
			t.Errorf("file: %q: %v", row.uri, err)
		}
		got := s.call(s.admin(), "POST", "/clients", object{"grant_types": []string{"authorization_code"}, "redirect_uris": []string{row.uri}})
		if (got.status == http.StatusCreated) != row.good {
			t.Errorf("admin API: %q: %d", row.uri, got.status)
		}
	}
}
