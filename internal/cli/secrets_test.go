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
				_ = json.NewEncoder(w).Encode(issuerMetadata{server.URL, server.URL + "/token", server.URL + "/revoke", server.URL + "/jwks"})
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
// into sending its secret in plain HTTP.
func TestAnIssuerInTLSHasNoEndpointInTheOpen(t *testing.T) {
	for _, row := range []struct{ issuer, endpoint, want, warning string }{
		{"https://sts.example.com", "https://sts.example.com/token", "", ""},
		{"https://sts.example.com", "http://sts.example.com/token", "not a safe URL", ""},
		{"https://sts.example.com", "ftp://sts.example.com/token", "not a safe URL", ""},
		{"https://sts.example.com", "", "not a safe URL", ""},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/token", "", ""},
		{"http://sts.example.com", "http://sts.example.com/token", "", "plain HTTP"},
	} {
		var errs lockedBuffer
		err := takesSecrets(&Environment{Err: &errs}, row.issuer, row.endpoint)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) || (errs.String() == "") != (row.warning == "") || !strings.Contains(errs.String(), row.warning) {
			t.Errorf("%s, %q: %v %s", row.issuer, row.endpoint, err, errs.String())
		}
	}
}
