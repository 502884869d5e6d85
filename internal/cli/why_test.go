package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// TestWhy asks a whole service about what has just happened to it.
func TestWhy(t *testing.T) {
	s := newShell(t)
	response, err := http.PostForm(s.ready.Issuer+"/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"demo-service"}, "client_secret": {"wrong"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	number := response.Header.Get("X-Request-Id")
	s.run("why", number).wants(0, "POST /token", "401", "invalid_client", "what to do  Compare the client")
	s.typing(number+"\n", "why", "-").wants(0, "invalid_client")
	s.run("why", number, "-o", "json").wants(0, `"found": true`, `"kind": "request"`)

	service := s.client("demo-service")
	secret := s.secretFile(service.ClientSecret)
	token := strings.TrimSpace(s.run("token", "get", "--issuer", s.ready.Issuer, "--client-id", service.ClientID, "--client-secret-file", secret).wants(0).out)
	good := s.typing(token, "why", "-").wants(0, "alive", "yes", "client demo-service", "orders:read orders:write at https://api.example.com", "token.issued")
	if strings.Contains(good.out+good.err, token) {
		t.Errorf("the token is shown: %s", good.out)
	}
	parsed, err := explain.Parse(token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var jti string
	for _, c := range parsed.Claims {
		if c.Name == "jti" {
			_ = json.Unmarshal(c.Value, &jti)
		}
	}
	s.run("why", jti).wants(0, "alive", "yes")
	file := s.secretFile(token)
	s.run("why", "--token-file", file).wants(0, "yes")
	onLine := s.run("why", token).wants(0, "warning: a token on the command line", "yes")
	if strings.Contains(onLine.out+onLine.err, token) {
		t.Errorf("the token is shown: %s%s", onLine.out, onLine.err)
	}
	s.run("panic", "--client", "demo-service", "--yes").wants(0)
	s.typing(token, "why", "-").wants(0, "no: it is dead", "ended by")

	for sentence, unknown := range map[string]string{
		"an id that nothing has": "01890000-0000-7000-8000-000000000000",
		"a token of nobody":      unsigned(`{"iss":"https://elsewhere.example.com"}`),
		"a secret":               oauth.NewSecret(oauth.PrefixClientSecret).Reveal(),
		"neither":                "correct horse",
	} {
		r := s.typing(unknown, "why", "-").wants(1)
		if r.out != "" || r.err == "" || strings.Contains(r.err, unknown) && !isID.MatchString(unknown) {
			t.Errorf("%s: %q %q", sentence, r.out, r.err)
		}
	}
	s.run("why", "01890000-0000-7000-8000-000000000000", "-o", "json").wants(1, `"found": false`)
	s.run("why").wants(2, "give one request id")
	s.run("why", "a", "b").wants(2)
	s.run("why", "a", "--token-file", file).wants(2)
	s.run("why", "--help").wants(0, "signalbox why - <")
}

// TestATokenGoesIntoNoURL: those end up in logs, on both sides.
func TestATokenGoesIntoNoURL(t *testing.T) {
	var asked []string
	var bodies []admin.AskWhy
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		var body admin.AskWhy
		_ = json.NewDecoder(r.Body).Decode(&body)
		bodies = append(bodies, body)
		_ = json.NewEncoder(w).Encode(admin.Why{Kind: "unknown", Summary: "nothing"})
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
	for _, row := range []struct{ sentence, value, want string }{
		{"a request id", "66f1c0de5b0a9a3e4d2c1b0a", "GET /admin/v1/why/66f1c0de5b0a9a3e4d2c1b0a"},
		{"a jti", exampleGrant, "GET /admin/v1/why/" + exampleGrant},
		{"a JWT", unsigned(`{}`), "POST /admin/v1/why"},
		{"a JWT of another form", "abc.def.ghi", "POST /admin/v1/why"},
		{"a value of ours", "sbx_rt_abc", "POST /admin/v1/why"},
		{"what is neither", "passw0rd", ""},
		{"a path", "clients/web", ""}, {"a path up", "../clients", "POST /admin/v1/why"},
	} {
		asked, bodies = nil, nil
		execute(t, t.Context(), vars, strings.NewReader(row.value), "why", "-").wants(1)
		if got := strings.Join(asked, ", "); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
		if strings.HasPrefix(row.want, "POST") && bodies[0].Token != row.value {
			t.Errorf("%s: the service was asked about %q", row.sentence, bodies[0].Token)
		}
	}
}

func TestWhyInWords(t *testing.T) {
	hour := func(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }
	yes, no := true, false
	at, later := hour(11), hour(23)
	for _, row := range []struct {
		sentence string
		why      admin.Why
		want     []string
		never    string
	}{
		{"a person's token", admin.Why{Found: true, Summary: "An access token.", Alive: &yes, Action: "Nothing.", Token: &admin.WhyToken{
			ClientID: "web", Subject: admin.Subject{Kind: "user", ID: "u_1"}, Scope: "openid", Audience: []string{"https://api.example.com"}, IssuedAt: hour(10), ExpiresAt: hour(13), GrantID: "g1",
		}}, []string{
			"An access token.\n", "  alive       yes\n", "  whose       user u_1, through the client web\n", "  allows      openid at https://api.example.com\n",
			"  issued      2026-03-01T10:00:00Z (2h ago)\n", "  expires     2026-03-01T13:00:00Z (in 60m)\n", "  what to do  Nothing.\n",
		}, "ended by"},
		{"a machine's token that is dead", admin.Why{Found: true, Summary: "x", Alive: &no, Reason: "it was revoked", Token: &admin.WhyToken{ClientID: "job", Subject: admin.Subject{Kind: "client", ID: "job"}},
			EndedBy: &admin.WhyEnded{Kind: "client", Key: "job", At: &at, By: "ops"}}, []string{
			"no: it is dead\n", "whose     client job\n", "why       it was revoked\n", "ended by  client job, 2026-03-01T11:00:00Z (60m ago), by ops\n",
		}, "through"},
		{"a request of a client that proved itself", admin.Why{Found: true, Summary: "x", Request: &admin.WhyAsked{Method: "POST", Path: "/token", Status: 400, Error: "invalid_scope", ClientID: "job", Proved: true, Remote: "192.0.2.1", Node: "n1", Time: hour(11)}}, []string{
			"request  POST /token, answered 400 invalid_scope\n", "client   job\n", "from     192.0.2.1\n", "node     n1\n",
		}, "proved it"},
		{"a session", admin.Why{Found: true, Summary: "A browser session.", Alive: &yes, Session: &admin.WhySession{SessionID: "s1", Subject: &admin.Subject{Kind: "user", ID: "u_1"}, AuthTime: &at, AMR: []string{"pwd", "otp"}, ExpiresAt: &later}}, []string{
			"alive      yes: the person is signed in\n", "whose      user u_1\n", "signed in  2026-03-01T11:00:00Z (60m ago), by pwd and otp\n", "until      2026-03-01T23:00:00Z (in 11h)\n",
		}, "through"},
		{"a session that has ended", admin.Why{Found: true, Summary: "x", Alive: &no, Session: &admin.WhySession{SessionID: "s1"}, Action: "Sign in."}, []string{
			"alive       no: the session is over\n", "what to do  Sign in.\n",
		}, "whose"},
		{"an ID token", admin.Why{Found: true, Summary: "x", Alive: &no, Token: &admin.WhyToken{ClientID: "web", Subject: admin.Subject{Kind: "user", ID: "u_1"}, IssuedAt: hour(10), ExpiresAt: hour(11)}, Session: &admin.WhySession{SessionID: "s1"}}, []string{
			"no: the session is over\n", "whose    user u_1, through the client web\n", "session  s1\n",
		}, "allows"},
		{"another's words", admin.Why{Found: true, Summary: "\x1b[2Jx\nforged", Reason: "\x1b[2J"}, []string{"\ufffd[2Jx\ufffdforged\n"}, "\x1b"},
	} {
		var out strings.Builder
		a := &adminCLI{env: &Environment{Out: &out, Err: &out, Getenv: func(string) string { return "" }, Now: func() time.Time { return hour(12) }}}
		if err := a.printWhy(t.Context(), row.why); err != nil {
			t.Fatal(err)
		}
		for _, want := range row.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", row.sentence, want, out.String())
			}
		}
		if strings.Contains(out.String(), row.never) {
			t.Errorf("%s: %q in\n%s", row.sentence, row.never, out.String())
		}
	}
}
