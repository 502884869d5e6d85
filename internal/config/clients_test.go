package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const secretLine = `client_secret_hash: "sha256:` + exampleHash + `"`

// Each row changes one thing in the good document and gives exactly one error.
func TestOneWrongThingGivesOneError(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string { return write(t, dir, name, content) }
	keys := func(jwks string) string {
		return with(t, secretLine, "token_endpoint_auth_method: private_key_jwt\n    jwks_file: "+file(fmt.Sprintf("%x.json", sha256.Sum256([]byte(jwks))), jwks))
	}
	for _, row := range []struct{ name, doc, key, want string }{
		{"code flow without redirect_uris", with(t, `    redirect_uris: ["https://app.example.com/callback"]`+"\n", ""), "clients[0].redirect_uris", "is missing"},
		{"public client with client_credentials", strings.Replace(with(t, "refresh_token]", "client_credentials]"), secretLine, "token_endpoint_auth_method: none", 1), "clients[0].grant_types", "proves who it is"},
		{"refresh without code", with(t, "grant_types: [client_credentials]", "grant_types: [client_credentials, refresh_token]"), "clients[1].grant_types", "needs authorization_code"},
		{"public client without a grant", strings.Replace(with(t, "[authorization_code, refresh_token]", "[]"), secretLine, "token_endpoint_auth_method: none", 1), "clients[0].grant_types", "is empty"},
		{"people as administrators", with(t, `    resources: ["https://api.example.com"]`, `    resources: ["https://api.example.com", "urn:signalbox:admin"]`), "clients[0].grant_types", "authorization_code is beside"},
		{"no secret", with(t, "    "+secretLine+"\n", ""), "clients[0].client_secret_file", "needs a secret"},
		{"hash and file", with(t, secretLine, secretLine+"\n    client_secret_file: "+file("s", testKey)), "clients[0].client_secret_hash", "is beside"},
		{"hash of another kind", with(t, "sha256:", "md5:"), "clients[0].client_secret_hash", "expected sha256:"},
		{"short secret", with(t, secretLine, "client_secret_file: "+file("short", "password")), "clients[0].client_secret_file", "fewer than 22"},
		{"empty secret file", with(t, secretLine, "client_secret_file: "+file("empty", "\n")), "clients[0].client_secret_file", "is empty"},
		{"secret file is a folder", with(t, secretLine, "client_secret_file: "+dir), "clients[0].client_secret_file", "regular file"},
		{"secret file is a device", with(t, secretLine, "client_secret_file: /dev/zero"), "clients[0].client_secret_file", "regular file"},
		{"key method without keys", with(t, secretLine, "token_endpoint_auth_method: private_key_jwt"), "clients[0].jwks", "needs the client's public keys"},
		{"keys without key method", with(t, secretLine, secretLine+"\n    jwks: {keys: [{kty: EC}]}"), "clients[0].jwks", "has no use"},
		{"private key", keys(`{"keys":[{"kty":"EC","d":"x"}]}`), "clients[0].jwks_file", "private or symmetric"},
		{"shared key", keys(`{"keys":[{"kty":"oct","k":"x"}]}`), "clients[0].jwks_file", "private or symmetric"},
		{"no keys", keys(`{"keys":[]}`), "clients[0].jwks_file", "has no key"},
		{"not JSON", keys(`hello`), "clients[0].jwks_file", "cannot be used"},
		{"keys with a tail", keys(`{"keys":[{"kty":"EC"}]} x`), "clients[0].jwks_file", "cannot be used"},
		{"client id with a space", with(t, "client_id: web", "client_id: my web"), "clients[0].client_id", "is not an id"},
		{"algorithm that no key has", with(t, secretLine, secretLine+"\n    id_token_signed_response_alg: EdDSA"), "clients[0].id_token_signed_response_alg", "signs with"},
		{"public client without PKCE", with(t, secretLine, "token_endpoint_auth_method: none\n    require_pkce: false"), "clients[0].require_pkce", "is false"},
		{"PKCE as a word", with(t, secretLine, secretLine+"\n    require_pkce: 'false'"), "clients[0].require_pkce", "expected true or false"},
		{"dangerous logout URI", with(t, secretLine, secretLine+"\n    post_logout_redirect_uris: ['javascript:x']"), "clients[0].post_logout_redirect_uris[0]", "dangerous"},
		{"scope of a resource that is not the client's", with(t, `    resources: ["https://api.example.com"]`+"\n", ""), "clients[0].scope", "none of the client's resources"},
		{"public client that introspects", with(t, "grant_types: [client_credentials]\n    "+secretLine, "redirect_uris: ['a.b:/c']\n    token_endpoint_auth_method: none"), "resources[0].introspection_clients[0]", "public client"},
		{"resource twice", with(t, "resources:\n", "resources:\n  - {id: 'https://api.example.com'}\n"), "resources[1].id", "is also resources[0]"},
		{"built-in resource", with(t, "resources:\n", "resources:\n  - {id: 'urn:signalbox:admin'}\n"), "resources[0].id", "built in"},
		{"the issuer as a resource", with(t, "resources:\n", "resources:\n  - {id: 'http://127.0.0.1:8443'}\n"), "resources[0].id", "issuer itself"},
		{"resource with OpenID scope", with(t, "resources:\n", "resources:\n  - {id: 'urn:x:y', scopes: [openid]}\n"), "resources[0].scopes[0]", "OpenID Connect"},
		{"client of a policy", with(t, "client_id: web", "client_id: 'policy:web'"), "clients[0].client_id", "begins with policy:"},
		{"client that is a resource", with(t, "client_id: web", "client_id: 'https://api.example.com'"), "resources[0].id", "is the id of a client"},
		{"resource that runs", with(t, "resources:\n", "resources:\n  - {id: 'JavaScript:x'}\n"), "resources[0].id", "dangerous"},
		{"scope with two spaces", with(t, "openid orders:read", "openid  orders:read"), "clients[0].scope", "cannot be used"},
		{"scope with a space", with(t, "resources:\n", "resources:\n  - {id: 'urn:x:y', scopes: ['a b']}\n"), "resources[0].scopes[0]", "is not a scope"},
		{"long resource tokens", with(t, "resources:\n", "resources:\n  - {id: 'urn:x:y', access_ttl: 2h}\n"), "resources[0].access_ttl", "out of range"},
		{"a birthday that is no day", with(t, "username: ada", "username: ada, claims: {birthdate: '1815-02-30'}"), "users[0].claims.birthdate", "not a date"},
		{"a claim that nobody knows", with(t, "username: ada", "username: ada, claims: {shoe_size: '7'}"), "users[0].claims.shoe_size", "unknown key"},
		{"user twice, in capitals", good + "  - {username: ADA, password_hash: \"" + testHash + "\"}\n", "users[1].username", "capital letters"},
		{"user twice", good + "  - {username: ada, password_hash: \"" + testHash + "\"}\n", "users[1].username", "is also users[0]"},
		{"subject twice", strings.Replace(with(t, "users:\n", "users:\n  - {username: bob, sub: u-1, password_hash: \""+testHash+"\"}\n"), "username: ada", "username: ada, sub: u-1", 1), "users[1].sub", "is also users[0]"},
		{"subject that is a client", with(t, "username: ada", "username: ada, sub: web"), "users[0].sub", "is the id of a client"},
		{"user without password", with(t, `, password_hash: "`+testHash+`"`, ""), "users[0].password_hash", "is missing"},
		{"password hash and file", with(t, "username: ada", "username: ada, password_file: "+file("p", "correct horse")), "users[0].password_file", "is beside"},
		{"short password", with(t, `password_hash: "`+testHash+`"`, "password_file: "+file("pw", "short")), "users[0].password_file", "fewer than 8"},
		{"bcrypt hash", with(t, testHash, "$2a$10$abc"), "users[0].password_hash", "argon2id"},
		{"cheap hash", with(t, "m=65536", "m=16"), "users[0].password_hash", "cost"},
		{"hash with more memory than the service gives", with(t, "m=65536", "m=65537"), "users[0].password_hash", "cost"},
		{"hash that eats all memory", with(t, "m=65536", "m=9999999"), "users[0].password_hash", "cost"},
		{"bad e-mail", with(t, "username: ada", "username: ada, email: ada"), "users[0].email", "e-mail"},
		{"verified nothing", with(t, "username: ada", "username: ada, email_verified: true"), "users[0].email_verified", "no email"},
		{"same listeners", with(t, "listen: {", "listen: {admin: '127.0.0.1:8443', "), "listen.admin", "same address"},
		{"listener without port", with(t, `public: "127.0.0.1:8443"`, "public: localhost"), "listen.public", "host:port"},
		{"memory database", good + "storage: {url: 'sqlite::memory:'}\n", "storage.url", "lose it"},
		{"no algorithm", good + "keys: {algorithms: []}\n", "keys.algorithms", "is empty"},
		{"rotation every minute", good + "keys: {rotate_every: 1m}\n", "keys.rotate_every", "out of range"},
		{"idle shorter than access", good + "tokens: {refresh_idle_ttl: 1m}\n", "tokens.refresh_idle_ttl", "shorter than access_ttl"},
		{"negative lifetime", good + "tokens: {access_ttl: -5m}\n", "tokens.access_ttl", "out of range"},
		{"a key in the URL that traces go to", good + "telemetry: {otlp_endpoint: 'https://otel.example.com/?api_key=k'}\n", "telemetry.otlp_endpoint", "without a password and a query"},
		{"traces to nowhere", good + "telemetry: {otlp_endpoint: 'otel:4318'}\n", "telemetry.otlp_endpoint", "URL"},
		{"line break in a name", with(t, "username: ada", `username: ada, name: "a\nb"`), "users[0].name", "control character"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parse(t, row.doc)
			var es Errors
			if !errors.As(err, &es) {
				t.Fatalf("accepted: %v", err)
			}
			if len(es) != 1 || es[0].Key != row.key || !strings.Contains(es[0].Problem, row.want) || es[0].Line < 1 {
				t.Errorf("want %s: %s, got:\n%v", row.key, row.want, err)
			}
		})
	}
}

func TestAdminClient(t *testing.T) {
	scope := authority.AdminScopes.String()
	c := mustParse(t, with(t, "client_id: api", "client_id: api\n    resources: ['"+authority.AdminResource+"']\n    scope: "+scope))
	if c.Clients[1].Scope != scope {
		t.Errorf("%+v", c.Clients[1])
	}
}

func TestPublicClient(t *testing.T) {
	c := mustParse(t, with(t, secretLine, "token_endpoint_auth_method: none"))
	if c.Clients[0].SecretHash != nil || !c.Clients[0].Secret.IsZero() {
		t.Errorf("%+v", c.Clients[0])
	}
}

func TestMasterKey(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "key", testKey)
	for _, row := range []struct {
		name string
		env  []string
		want string
	}{
		{"from the environment", []string{masterIn}, ""},
		{"from a file that the environment names", []string{"SIGNALBOX_SECRETS_MASTER_KEY_FILE=" + path}, ""},
		{"from nowhere", nil, "secrets.master_key_file: is missing"},
		{"from both", []string{masterIn, "SIGNALBOX_SECRETS_MASTER_KEY_FILE=" + path}, "is set as well"},
		{"too short", []string{"SIGNALBOX_SECRETS_MASTER_KEY=short"}, "fewer than 32"},
		{"from a file that is not there", []string{"SIGNALBOX_SECRETS_MASTER_KEY_FILE=" + filepath.Join(dir, "no")}, "does not exist"},
	} {
		c, err := Parse("x.yaml", []byte(good), row.env)
		switch {
		case row.want == "" && (err != nil || c.Secrets.MasterKey.Reveal() != testKey):
			t.Errorf("%s: %v", row.name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "short\n")):
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestWeakerSettingsAreTold(t *testing.T) {
	for setting, want := range map[string]string{
		"require_pkce: false":            "clients[0].require_pkce",
		"allow_multiple_audiences: true": "clients[0].allow_multiple_audiences",
	} {
		c, err := parse(t, with(t, secretLine, secretLine+"\n    "+setting))
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], want) {
			t.Errorf("%s: %q, %v", setting, c.Warnings, err)
		}
	}
	if c, err := parse(t, with(t, secretLine, secretLine+"\n    require_pkce: true\n    allow_multiple_audiences: false")); err != nil || len(c.Warnings) != 0 {
		t.Errorf("%q, %v", c.Warnings, err)
	}
}
