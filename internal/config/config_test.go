package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	testKey  = "0123456789abcdef0123456789abcdef"
	testHash = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG"
	masterIn = "SIGNALBOX_SECRETS_MASTER_KEY=" + testKey
)

// good is the smallest whole configuration; rows change one thing in it.
const good = `issuer: http://127.0.0.1:8443
listen: {public: "127.0.0.1:8443"}
resources:
  - {id: "https://api.example.com", scopes: [orders:read], introspection_clients: [api]}
clients:
  - client_id: web
    redirect_uris: ["https://app.example.com/callback"]
    grant_types: [authorization_code, refresh_token]
    client_secret_hash: "sha256:` + exampleHash + `"
    scope: openid orders:read
    resources: ["https://api.example.com"]
  - client_id: api
    grant_types: [client_credentials]
    client_secret_hash: "sha256:` + exampleHash + `"
users:
  - {username: ada, password_hash: "` + testHash + `"}
`

func parse(t *testing.T, doc string, env ...string) (*Config, error) {
	t.Helper()
	return Parse("signalbox.yaml", []byte(doc), append([]string{masterIn}, env...))
}

func mustParse(t *testing.T, doc string, env ...string) *Config {
	t.Helper()
	c, err := parse(t, doc, env...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// with replaces one text of the good document.
func with(t *testing.T, old, new string) string {
	t.Helper()
	if strings.Count(good, old) == 0 {
		t.Fatalf("the good document has no %q", old)
	}
	return strings.Replace(good, old, new, 1)
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func certificate(t *testing.T, dir, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

func TestDefaultsAreThoseOfTheProductPage(t *testing.T) {
	c := mustParse(t, good)
	want := Tokens{AccessTTL: 5 * time.Minute, IDTTL: 5 * time.Minute, RefreshTTL: 720 * time.Hour,
		RefreshIdleTTL: 24 * time.Hour, RefreshGrace: 10 * time.Second, CodeTTL: time.Minute}
	if c.Tokens != want {
		t.Errorf("tokens: %+v", c.Tokens)
	}
	if c.Listen.Admin != "127.0.0.1:9090" || Default().Listen.Public != ":8443" {
		t.Errorf("listen: %+v", c.Listen)
	}
	if !reflect.DeepEqual(c.Keys, SigningKeys{[]string{"ES256", "RS256"}, 720 * time.Hour}) {
		t.Errorf("keys: %+v", c.Keys)
	}
	if c.Journal.Dir != "/var/lib/signalbox/journal" || c.TLS.Mode != TLSOff || c.Log != (Log{"json", "info"}) {
		t.Errorf("%+v", c)
	}
	web, api := c.Clients[0], c.Clients[1]
	if web.TokenEndpointAuthMethod != "client_secret_basic" || web.IDTokenSignedResponseAlg != "ES256" || len(web.SecretHash) != 32 {
		t.Errorf("client: %+v", web)
	}
	if web.Scope != "openid orders:read" || !reflect.DeepEqual(api.GrantTypes, []string{"client_credentials"}) {
		t.Errorf("clients: %+v %+v", web, api)
	}
	if r := c.Resources[0]; time.Duration(r.AccessTTL) != 5*time.Minute || r.TokenFormat != "jwt" {
		t.Errorf("resource: %+v", r)
	}
	if u := c.Users[0]; u.Sub != "" || u.PasswordHash.Reveal() != testHash {
		t.Errorf("user: %+v", u)
	}
	if c.Secrets.MasterKey.Reveal() != testKey || len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestJournalStandsBesideTheSQLiteFile(t *testing.T) {
	if c := mustParse(t, good+"storage: {url: 'sqlite:/data/x/s.db?mode=rw'}\n"); c.Journal.Dir != "/data/x/journal" {
		t.Error(c.Journal.Dir)
	}
	if c := mustParse(t, good+"storage: {url: postgres://u@h/d}\n"); c.Journal.Dir != "/var/lib/signalbox/journal" {
		t.Error(c.Journal.Dir)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	c := mustParse(t, good+"storage: {url: 'postgres://u:hunter2@h/d?sslpassword=hunter3'}\n")
	if !strings.Contains(c.Storage.URL.Reveal(), "hunter2") {
		t.Fatal("Reveal lost the password")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c.Secrets.MasterKey, &c.Secrets, c.Secrets, c.Storage, c.Users} {
			out := fmt.Sprintf(verb, v)
			for _, bad := range []string{testKey, "hunter", "argon2", fmt.Sprintf("%x", testKey), "49 50 51"} {
				if strings.Contains(out, bad) {
					t.Errorf("%s of %T prints %s", verb, v, bad)
				}
			}
		}
	}
	out, err := json.Marshal(c)
	if err != nil || bytes.Contains(out, []byte(testKey)) || bytes.Contains(out, []byte("hunter")) || bytes.Contains(out, []byte("argon2")) {
		t.Errorf("JSON: %s %v", out, err)
	}
	if c.Secrets.MasterKey.LogValue().String() != redacted {
		t.Error("LogValue prints")
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	dir := t.TempDir()
	url := write(t, dir, "url", "postgres://u:pw@h/d\n")
	c := mustParse(t, good+"tokens: {access_ttl: 99x}\nkeys: {algorithms: [XX]}\n",
		"SIGNALBOX_TOKENS_ACCESS_TTL=1m", "SIGNALBOX_KEYS_ALGORITHMS=RS256, ES256", "SIGNALBOX_STORAGE_URL_FILE="+url,
		"SIGNALBOX_TLS_TRUSTED_PROXIES=10.0.0.0/8,192.0.2.1", "SIGNALBOX_TLS_OFF=true", "SIGNALBOX_LOG_FORMAT=text",
		"SIGNALBOX_ADMIN_URL=x", "SIGNALBOX_TEST_POSTGRES=x", "SIGNALBOX_CLIENT_SECRET_FILE=x", "SIGNALBOX_CONTEXT=x", "PATH=/bin")
	if c.Tokens.AccessTTL != time.Minute || time.Duration(c.Resources[0].AccessTTL) != time.Minute {
		t.Error("access_ttl", c.Tokens.AccessTTL)
	}
	if !reflect.DeepEqual(c.Keys.Algorithms, []string{"RS256", "ES256"}) || c.Clients[0].IDTokenSignedResponseAlg != "RS256" {
		t.Error("algorithms", c.Keys.Algorithms)
	}
	if c.Storage.URL.Reveal() != "postgres://u:pw@h/d" || c.Log.Format != "text" || len(c.TLS.TrustedProxies) != 2 {
		t.Errorf("%+v", c)
	}
	if len(c.Files) != 1 || c.Files[0].Path != url {
		t.Errorf("files to watch: %q", c.Files)
	}
}

func TestEveryVariableIsUniqueAndTakesItsDefault(t *testing.T) {
	seen := map[string]string{}
	walk(table, "", func(path string, f field) {
		name := f.env(path)
		if name == "" {
			return
		}
		if seen[name] != "" {
			t.Errorf("%s is both %s and %s", name, seen[name], path)
		}
		seen[name] = path
		if f.def != "" {
			if _, err := parse(t, good, name+"="+strings.Trim(f.def, `[]"`)); err != nil && !strings.HasPrefix(path, "tls.acme") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if len(seen) < 25 {
		t.Errorf("only %d variables", len(seen))
	}
}

func TestLoadReadsSecretFilesAndWarns(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "master.key", testKey+"\n")
	secret := write(t, dir, "web.secret", "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\r\n")
	write(t, dir, "ada.password", "correct horse\n")
	write(t, dir, "keys.json", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	path := write(t, dir, "signalbox.yaml", `issuer: http://localhost:8443
listen: {public: "127.0.0.1:8443"}
secrets: {master_key_file: master.key}
clients:
  - {client_id: web, redirect_uris: ["com.example.app:/cb"], client_secret_file: web.secret}
  - {client_id: job, grant_types: [client_credentials], token_endpoint_auth_method: private_key_jwt, jwks_file: keys.json}
  - client_id: inline
    grant_types: [client_credentials]
    token_endpoint_auth_method: private_key_jwt
    jwks: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo, kid: 0123, key_ops: [verify]}]}
users: [{username: ada, password_file: ada.password}]
`)
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Clients[0].Secret.Reveal() != "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww" || len(c.Clients[0].SecretHash) != 32 {
		t.Errorf("%+v", c.Clients[0])
	}
	if c.Users[0].Password.Reveal() != "correct horse" || c.Secrets.MasterKey.Reveal() != testKey {
		t.Error("password or master key is wrong")
	}
	if want := `{"keys":[{"crv":"Ed25519","key_ops":["verify"],"kid":"0123","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`; string(c.Clients[2].JWKS) != want {
		t.Errorf("jwks: %s", c.Clients[2].JWKS)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "chmod 600") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if len(c.Files) != 5 || c.Files[0].Path != path {
		t.Errorf("files to watch: %q", c.Files)
	}
	if _, err := Load(filepath.Join(dir, "nothing.yaml"), nil); err == nil || strings.Count(err.Error(), "nothing.yaml") != 1 {
		t.Errorf("missing file: %v", err)
	}
}

func TestSampleIsValid(t *testing.T) {
	for issuer, public := range map[string]string{
		"https://sts.example.com": ":8443", "https://sts.example.com:9443": ":9443", "http://127.0.0.1:8080": "127.0.0.1:8080", "http://[::1]:8080": "[::1]:8080",
	} {
		dir := t.TempDir()
		certificate(t, dir, "sts.example.com")
		write(t, dir, "master.key", testKey)
		write(t, dir, "run/web", testKey)
		write(t, dir, "run/ada", "correct horse")
		write(t, dir, "hub.jwks.json", testKeys)
		c, err := Load(write(t, dir, "signalbox.yaml", string(Sample(Start{Issuer: issuer}))), nil)
		if err != nil {
			t.Fatalf("%s:\n%v", issuer, err)
		}
		if c.Issuer != issuer || len(c.Warnings) > 0 || c.Listen.Public != public {
			t.Errorf("%s on %s: %q", c.Issuer, c.Listen.Public, c.Warnings)
		}
		// The commented members of lists are good examples too.
		doc := string(Sample(Start{Issuer: issuer}))
		for _, list := range []string{"resources", "clients", "users", "clusters", "trusted_issuers", "policies"} {
			block := regexp.MustCompile(`(?m)^# ` + list + `:\n(?:#  .*\n)+`).FindString(doc)
			if block == "" {
				t.Fatalf("no example of %s", list)
			}
			doc = strings.Replace(doc, block, regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(block, ""), 1)
		}
		doc = strings.ReplaceAll(doc, "/run/secrets/", "run/")
		c, err = Load(write(t, dir, "all.yaml", doc), nil)
		if err != nil {
			t.Fatalf("%s with its examples:\n%v", issuer, err)
		}
		if len(c.Clients) != 1 || len(c.Users) != 1 || len(c.Resources) != 1 || len(c.Clusters) != 1 || len(c.TrustedIssuers) != 1 || len(c.Policies) != 1 {
			t.Errorf("%+v", c)
		}
	}
}

func TestSampleWithAnOperator(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "master.key", testKey)
	write(t, dir, "ops.secret", testKey)
	doc := string(Sample(Start{Issuer: "http://127.0.0.1:8443", DataDir: "data", OperatorSecret: "ops.secret"}))
	c, err := Load(write(t, dir, "signalbox.yaml", doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Clients) != 2 || c.Clients[0].ClientID != Operator || c.Clients[1].TokenEndpointAuthMethod != "none" || c.Storage.URL.Path() != filepath.Join(dir, "data", "signalbox.db") || c.Journal.Dir != filepath.Join(dir, "data", "journal") {
		t.Errorf("%+v", c)
	}
	// Without its # the example is the next client.
	example := regexp.MustCompile(`(?m)^#   - client_id: .*\n(?:#     .*\n)+`).FindString(doc)
	write(t, dir, "run/web", testKey)
	doc = strings.Replace(doc, example, regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(example, ""), 1)
	if _, err := Load(write(t, dir, "two.yaml", strings.ReplaceAll(doc, "/run/secrets/", "run/")), nil); err == nil || !strings.Contains(err.Error(), "https://api.example.com") {
		t.Errorf("the example is not read as a client, whose resource is missing: %v", err)
	}
	if Default().Storage.URL.String() != "sqlite:/var/lib/signalbox/signalbox.db" {
		t.Error("a sample has changed the defaults")
	}
}

func TestTLS(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	certificate(t, dir, "sts.example.com")
	certificate(t, other, "sts.example.com")
	prod := strings.Replace(good, "http://127.0.0.1:8443", "https://sts.example.com", 1)
	files := func(cert, key string) string {
		return fmt.Sprintf("tls: {cert_file: %s/tls.crt, key_file: %s/tls.key}\n", cert, key)
	}
	for _, row := range []struct {
		name, tls, want string
		mode            TLSMode
	}{
		{"a matching pair", files(dir, dir), "", TLSFiles},
		{"a key of another certificate", files(dir, other), "is no pair", ""},
		{"only a certificate", "tls: {cert_file: x}\n", "tls.key_file: is missing", ""},
		{"nothing", "", "where the certificate comes from", ""},
		{"off with a proxy", "tls: {off: true, trusted_proxies: [10.0.0.0/8]}\n", "", TLSOff},
		{"off without a proxy", "tls: {off: true}\n", "needs trusted_proxies", ""},
		{"off for everybody", "tls: {off: true, trusted_proxies: [0.0.0.0/0]}\n", "whole Internet", ""},
		{"a sloppy network", "tls: {off: true, trusted_proxies: [10.1.2.3/8]}\n", "write 10.0.0.0/8", ""},
		{"acme", "tls: {acme: {accept_tos: true}}\n", "", TLSACME},
		{"acme without terms", "tls: {acme: {email: a@b.c}}\n", "accept_tos", ""},
		{"two at once", "tls: {off: true, cert_file: x, key_file: y}\n", "more than one", ""},
		{"proxies without off", files(dir, dir)[:len(files(dir, dir))-2] + ", trusted_proxies: [10.0.0.0/8]}\n", "only with `off: true`", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := parse(t, prod+row.tls)
			if row.want == "" {
				if err != nil || c.TLS.Mode != row.mode {
					t.Fatalf("%v %+v", err, c)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("want %q, got %v", row.want, err)
			}
			if es := (Errors)(nil); errors.As(err, &es) && len(es) != 1 {
				t.Errorf("one mistake gave %d errors:\n%v", len(es), err)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	for _, key := range Keys() {
		text, err := Explain(key)
		if err != nil || !strings.HasPrefix(text, key+"\n") {
			t.Errorf("%s: %v %q", key, err, text)
		}
	}
	for _, row := range []struct{ key, want string }{
		{"clients[0].redirect_uris", "RFC 8252|private-use"},
		{"clients[].scope", "separated by spaces"},
		{"SIGNALBOX_TOKENS_ACCESS_TTL", "tokens.access_ttl\n"},
		{"storage.url", "SIGNALBOX_STORAGE_URL_FILE"},
		{"keys.algorithms", "ES256, RS256, EdDSA"},
		{"policies[0].from.cluster", `from: \{cluster: hub\}`},
		{"policies.when", "CEL"},
	} {
		text, err := Explain(row.key)
		if err != nil || !regexp.MustCompile(row.want).MatchString(text) {
			t.Errorf("%s: %v\n%s", row.key, err, text)
		}
	}
	for _, row := range []struct{ key, want string }{
		{"tokens.acces_ttl", "did you mean tokens.access_ttl?"},
		{"acces_ttl", "did you mean tokens.access_ttl or resources.access_ttl?"},
		{"refresh_grace", "did you mean tokens.refresh_grace?"},
		{"isuer", "did you mean issuer?"},
	} {
		if _, err := Explain(row.key); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.key, err)
		}
	}
}

func TestRefuseNamesThePlace(t *testing.T) {
	c := mustParse(t, good)
	got := c.Refuse("clients[0].scope", "is not to be had", "ask for less").Error()
	for _, want := range []string{"signalbox.yaml:", "clients[0].scope: is not to be had", "^", "ask for less"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}
