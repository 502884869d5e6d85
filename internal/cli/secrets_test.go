package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// TestCredentialsFollowNoRedirect: whoever can redirect a request would get
// them.
func TestCredentialsFollowNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s came to another place, with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	file := (&shell{T: t}).secretFile(unsigned(`{}`))
	for _, row := range []struct {
		sentence, redirects string
		args                []string
	}{
		{"a token is asked for", "/token", []string{"token", "get", "--client-id", "a", "--client-secret-file", file}},
		{"a token is revoked", "/revoke", []string{"token", "revoke", "--client-id", "a", "--client-secret-file", file, file}},
		{"the metadata are elsewhere", "/.well-known/openid-configuration", []string{"token", "get", "--client-id", "a", "--client-secret-file", file}},
		{"the keys are elsewhere", "/jwks", []string{"token", "verify", file}},
		{"the admin API", "/admin/v1/clients", []string{"client", "list"}},
	} {
		for _, status := range []int{http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
			server := httptest.NewServer(nil)
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == row.redirects {
					http.Redirect(w, r, elsewhere.URL+"/catch", status)
					return
				}
				_ = json.NewEncoder(w).Encode(issuerMetadata{Issuer: server.URL, TokenEndpoint: server.URL + "/token", RevocationEndpoint: server.URL + "/revoke", JWKSURI: server.URL + "/jwks"})
			})
			vars := map[string]string{"SIGNALBOX_ISSUER_URL": server.URL, "SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
			r := execute(t, t.Context(), vars, strings.NewReader(""), row.args...).wants(1)
			if row.redirects != "/admin/v1/clients" && !strings.Contains(r.err, "redirects to "+elsewhere.URL+"/catch, and no redirect is followed") {
				t.Errorf("%s: %s", row.sentence, r.err)
			}
			server.Close()
		}
	}
}

// TestASecretGivenAsAFileNameIsNotRepeated: it would be in the log of a CI job.
func TestASecretGivenAsAFileNameIsNotRepeated(t *testing.T) {
	const issuer = "http://127.0.0.1:1"
	for _, secret := range []string{
		oauth.NewSecret(oauth.PrefixClientSecret).Reveal(), "hunter2hunter2", "c2VjcmV0/c2VjcmV0+c2VjcmV0==", "eyJhbGciOiJFUzI1NiJ9.e30", strings.Repeat("k3y", 200),
	} {
		for _, args := range [][]string{
			{"token", "get", "--issuer", issuer, "--client-id", "a", "--client-secret-file", secret},
			{"token", "revoke", "--issuer", issuer, "--client-id", "a", "--client-secret-file", secret},
			{"token", "inspect", secret},
			{"client", "list", "--admin-token-file", secret},
			{"grant", "revoke", "--token-file", secret},
			{"user", "create", "bob", "--password-file", secret},
			{"audit", "verify", "--master-key-file", secret, t.TempDir()},
		} {
			if strings.HasPrefix(secret, "sbx_") && args[1] == "inspect" {
				continue // it is taken as the value
			}
			r := execute(t, t.Context(), nil, strings.NewReader(""), args...).wants(1, "is not a readable file; is it the secret itself? Then put it in a file")
			if strings.Contains(r.out+r.err, secret[:10]) {
				t.Errorf("%v: the secret is shown: %s%s", args[:2], r.out, r.err)
			}
		}
	}
	secret := oauth.NewSecret(oauth.PrefixClientSecret).Reveal()
	r := execute(t, t.Context(), nil, strings.NewReader(""), "client", "create", "a", "--grant-type", "client_credentials", "--secret-file", secret).wants(2, "looks like a secret")
	if left, _ := filepath.Glob("sbx_*"); strings.Contains(r.err, secret) || len(left) > 0 {
		t.Errorf("shown, or made a file: %s %v", r.err, left)
	}
}

// TestAnIssuerInTLSHasNoEndpointInTheOpen: its metadata cannot talk a client
// into sending its secret in plain HTTP, not even one that may do so elsewhere.
func TestAnIssuerInTLSHasNoEndpointInTheOpen(t *testing.T) {
	for _, row := range []struct{ issuer, endpoint, want, insecure string }{
		{"https://sts.example.com", "https://sts.example.com/token", "", ""},
		{"https://sts.example.com", "http://sts.example.com/token", "not a safe URL", "not a safe URL"},
		{"https://sts.example.com", "ftp://sts.example.com/token", "not a safe URL", "not a safe URL"},
		{"https://sts.example.com", "", "not a safe URL", "not a safe URL"},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/token", "", ""},
		{"http://127.0.0.1:8080", "http://sts.example.com/token", "plain HTTP", ""},
		{"http://sts.example.com", "http://sts.example.com/token", "plain HTTP", ""},
	} {
		for insecure, want := range map[bool]string{false: row.want, true: row.insecure} {
			if err := takesSecrets(row.issuer, row.endpoint, insecure); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %q, insecure %v: %v", row.issuer, row.endpoint, insecure, err)
			}
		}
	}
}

// TestNoCredentialGoesToAnotherMachineInTheOpen, before anything is asked there:
// the address is one where nobody answers.
func TestNoCredentialGoesToAnotherMachineInTheOpen(t *testing.T) {
	vars := home(t)
	file := (&shell{T: t}).secretFile(unsigned(`{}`))
	run := func(args ...string) result {
		t.Helper()
		return execute(t, t.Context(), vars, strings.NewReader(""), args...)
	}
	const there, refused = "http://sts.invalid:1", "plain HTTP (http://sts.invalid:1): write https, or say --insecure-http"
	client := []string{"--client-id", "a", "--client-secret-file", file}
	for _, args := range [][]string{
		append([]string{"token", "get", "--issuer", there}, client...),
		append([]string{"token", "revoke", file, "--issuer", there}, client...),
		append([]string{"context", "create", "a", "--issuer", there}, client...),
		append([]string{"context", "create", "a", "--issuer", "https://sts.invalid:1", "--admin-url", there}, client...),
		{"client", "list", "--admin-url", there, "--admin-token-file", file},
	} {
		if r := run(args...).wants(2, refused); strings.Contains(r.err, "reached") {
			t.Errorf("%v: it was asked: %s", args, r.err)
		}
		if args[0] != "context" {
			run(append(args, "--insecure-http")...).wants(1, "cannot be reached")
		}
	}
	// A context that may says so, and for its own service alone.
	run(append([]string{"context", "create", "lab", "--issuer", there, "--admin-url", there, "--insecure-http"}, client...)...).wants(0)
	run("context", "show", "lab").wants(0, "insecure_http", "true")
	run("token", "get").wants(1, "cannot be reached")
	run("client", "list").wants(1, "cannot be reached")
	run(append([]string{"token", "get", "--issuer", "http://other.invalid:1"}, client...)...).wants(2, "--insecure-http")
	run("client", "list", "--admin-url", "http://other.invalid:1", "--admin-token-file", file).wants(2, "--insecure-http")
}
