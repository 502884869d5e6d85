package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// quiet is the log of a server that is called wrongly on purpose.
var quiet = log.New(io.Discard, "", 0)

// goInternals must not reach people.
var goInternals = []string{"jose:", "oidc:", "oauth2:", "tls:", "x509:", "Get \"", "Post \"", "dial tcp", "context deadline", "context canceled", "page not found", "%!"}

func (r result) inWords() result {
	r.t.Helper()
	for _, bad := range goInternals {
		if strings.Contains(r.err, bad) {
			r.t.Errorf("%v: %q is in: %s", r.args, bad, r.err)
		}
	}
	if strings.Count(r.err, "\n") > 1 {
		r.t.Errorf("%v: more than a line: %s", r.args, r.err)
	}
	return r
}

func (s *shell) client(id string) demoClient {
	s.Helper()
	for _, c := range s.ready.Clients {
		if c.ClientID == id {
			return c
		}
	}
	s.Fatalf("no client %s", id)
	return demoClient{}
}

func (s *shell) secretFile(value string) string {
	s.Helper()
	file := filepath.Join(s.TempDir(), "secret.txt")
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	return file
}

func TestTokenCommands(t *testing.T) {
	s := newShell(t)
	service := s.client("demo-service")
	s.env = map[string]string{"SIGNALBOX_ISSUER_URL": s.ready.Issuer, "SIGNALBOX_CLIENT_ID": service.ClientID, "SIGNALBOX_CLIENT_SECRET_FILE": s.secretFile(service.ClientSecret)}
	token := strings.TrimSpace(s.run("token", "get").wants(0).out)

	good := s.typing(token, "token", "verify").wants(0, "the token is good", "at+jwt")
	if strings.Contains(good.out+good.err, "not checked") {
		t.Errorf("%s%s", good.out, good.err)
	}
	s.typing(token, "token", "inspect").wants(0, "the signature was not checked")
	s.typing(token, "token", "verify", "--audience", "urn:other").wants(1, "the token is not good: it is not meant for urn:other")
	s.typing(token, "token", "verify", "--client-id", "demo-service").wants(1, "it is not an ID token").inWords()
	s.typing(token, "token", "verify", "--client-id", "a", "--audience", "b").wants(2, "not both")
	for in, want := range map[string]string{
		token[:len(token)-20] + strings.Repeat("A", 20): "its signature is wrong",
		"nonsense": "it is not a JSON Web Token that can be read",
		oauth.NewSecret(oauth.PrefixAccessToken).Reveal()[:30]: "cut off or mistyped",
		"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.e30.AAAA":        "it is not an access token: its typ is not at+jwt; for an ID token, say for which client: --client-id CLIENT",
		"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.e30.AAAA":     "its algorithm (alg) is not",
		"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AAAA":    "none of the issuer's keys",
	} {
		s.typing(in, "token", "verify").wants(1, "the token is not good: ", want).inWords()
	}
	s.typing(oauth.NewSecret(oauth.PrefixAccessToken).Reveal(), "token", "verify").wants(1, "only its issuer can tell").inWords()
	s.typing("nonsense", "token", "inspect").wants(1, "not a JSON Web Token").inWords()
	s.typing("", "token", "inspect").wants(1, "standard input is empty")

	s.typing(token, "token", "revoke").wants(0, "does not tell whether it knew the token").inWords()
	refused := map[string]string{
		"nonsense": "not a JSON Web Token", service.ClientSecret: "neither an access token nor a refresh token",
		oauth.NewSecret(oauth.PrefixRefreshToken).Reveal()[:30]: "cut off or mistyped", "sbx_xx_abc": "neither",
	}
	for in, want := range refused {
		// Nobody answers there: it is refused before anybody is asked.
		r := s.typing(in, "token", "revoke", "--issuer", "http://127.0.0.1:1").wants(1, "nothing was revoked: ", want).inWords()
		if strings.Contains(r.err, in) {
			t.Errorf("the value is in %s", r.err)
		}
	}

	delete(s.env, "SIGNALBOX_CLIENT_SECRET_FILE")
	refresh := oauth.NewSecret(oauth.PrefixRefreshToken).Reveal()
	s.typing(refresh, "token", "revoke", "--client-id", "demo-spa").wants(0, "does not tell").inWords()
	s.typing(refresh, "token", "revoke").wants(1, "invalid_client", "--client-secret-file").inWords()
	s.run("token", "get").wants(2, "--client-secret-file is needed")
	s.typing("wrong", "token", "get", "--client-secret-file", "-").wants(1, "invalid_client").inWords()
}

func TestAnIssuerThatCannotBeAskedSaysNothingOfTheToken(t *testing.T) {
	s := newShell(t)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	unknown := httptest.NewUnstartedServer(http.NotFoundHandler())
	unknown.Config.ErrorLog = quiet
	unknown.StartTLS()
	defer unknown.Close()
	noKeys := httptest.NewServer(nil)
	defer noKeys.Close()
	noKeys.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" {
			_, _ = w.Write([]byte(`{"keys":7}`))
			return
		}
		_ = json.NewEncoder(w).Encode(issuerMetadata{Issuer: noKeys.URL, JWKSURI: noKeys.URL + "/jwks"})
	})
	plain := strings.Replace(elsewhere.URL, "http:", "https:", 1)
	token := s.ready.AdminToken
	for _, row := range []struct {
		name, issuer string
		code         int
		want         string
	}{
		{"nobody is there", "http://127.0.0.1:1", 1, "http://127.0.0.1:1/.well-known/openid-configuration cannot be reached: is the service running, and is --issuer right?"},
		{"a slash too many", s.ready.Issuer + "/", 1, "write --issuer " + s.ready.Issuer + "\n"},
		{"no scheme", "127.0.0.1:8080", 2, "must be a URL like https://"},
		{"no scheme and a name", "localhost:8080", 2, "must be a URL like https://"},
		{"another service", elsewhere.URL, 1, "answered 404 Not Found: is --issuer right?"},
		{"a page for people", page.URL, 1, "did not answer as an issuer does"},
		{"an unknown authority", unknown.URL, 1, "SSL_CERT_FILE"},
		{"no TLS", plain, 1, "does not speak TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := "could not ask the issuer: "
			if row.code == 2 {
				asked = ""
			}
			file := s.secretFile(token)
			for _, args := range [][]string{
				{"token", "verify", file}, {"token", "get", "--client-id", "a", "--client-secret-file", file}, {"token", "revoke", file, "--client-id", "a"},
			} {
				r := execute(t, t.Context(), nil, strings.NewReader(""), append(args, "--issuer", row.issuer)...).wants(row.code, asked, row.want).inWords()
				if strings.Contains(r.err, "not good") || r.out != "" {
					t.Errorf("%v: %s%s", args, r.out, r.err)
				}
			}
		})
	}
	s.typing(token, "token", "verify", "--issuer", noKeys.URL).wants(1, "could not ask the issuer: its keys at "+noKeys.URL+"/jwks cannot be used").inWords()

	patient := issuerHTTP
	defer func() { issuerHTTP = patient }()
	issuerHTTP = &http.Client{Timeout: time.Nanosecond}
	s.typing(token, "token", "verify", "--issuer", s.ready.Issuer).
		wants(1, "could not ask the issuer: no answer from "+s.ready.Issuer+"/.well-known/openid-configuration within 15 s").inWords()
}

func TestNoAnswerInWords(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	s := newShell(t)
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, row := range []struct {
		name string
		ctx  context.Context
		want string
	}{
		{"silence", late, "no answer from the admin API at " + s.ready.AdminURL + " within 30 s"},
		{"an interrupt", stopped, "interrupted before the admin API at " + s.ready.AdminURL + " answered"},
	} {
		t.Run(row.name, func(t *testing.T) {
			execute(t, row.ctx, s.env, strings.NewReader(""), "client", "list").wants(1, row.want).inWords()
		})
	}
	for name, words := range map[string]string{"bad.example": "cannot be reached", "sts.example.com": "authority"} {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = quiet
		server.StartTLS()
		client := server.Client()
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = name
		if name == "sts.example.com" {
			client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		_, err := client.Get(server.URL)
		said := noAnswer(err, server.URL, "--issuer", time.Second)
		result{t: t, err: fmt.Sprint(said)}.wants(0, words).inWords()
		server.Close()
	}
}

func TestEveryErrorOfATokenHasWords(t *testing.T) {
	for _, err := range []error{
		jose.ErrMalformed, jose.ErrAlgorithm, jose.ErrHeader, jose.ErrType, jose.ErrKey, jose.ErrSignature, jose.ErrClaim, jose.ErrExpired, jose.ErrNotYet,
	} {
		wrapped := tokenWords(fmt.Errorf("around it: %w: the reason", err))
		if strings.Contains(wrapped.Error(), "jose") {
			t.Errorf("%v: %v", err, wrapped)
		}
	}
}
