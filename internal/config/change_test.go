package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A key that nobody has thought about needs a restart, and its change is seen.
func TestEveryKeyThatNeedsARestartIsCompared(t *testing.T) {
	fixed := NeedRestart()
	for _, key := range []string{"issuer", "tls.acme.email", "tls.acme.directory_url", "tls.trusted_proxies", "secrets.master_key", "journal.dir", "log.format"} {
		if !slices.Contains(fixed, key) {
			t.Errorf("%s can change without a restart", key)
		}
	}
	seen := 0
	keysThatChange(table, func(path string, f field, c change) {
		if c != atRestart {
			return
		}
		if f.isList() || f.unsupported {
			t.Fatalf("%s: nobody compares a list", path)
		}
		old, next := Default(), Default()
		switch v := f.at(next).(type) {
		case *string:
			*v += "other"
		case *bool:
			*v = !*v
		case *time.Duration:
			*v += time.Second
		case *Secret:
			*v = NewSecret("other")
		case *StorageURL:
			*v = StorageURL{raw: "other"}
		case *Witness:
			*v = Witness{raw: "other"}
		case *[]netip.Prefix:
			*v = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		default:
			t.Fatalf("%s has the type %T: add it here", path, v)
		}
		if got := old.Fixed(next); !reflect.DeepEqual(got, []string{path}) {
			t.Errorf("%s has changed, seen: %v", path, got)
		}
		seen++
	})
	if seen < 15 {
		t.Errorf("only %d keys", seen)
	}
	if got := Default().Fixed(Default()); got != nil {
		t.Errorf("nothing has changed, seen: %v", got)
	}
}

func TestADeclarationChangesWithWhatIsDeclared(t *testing.T) {
	const text = `issuer: https://sts.example.com
tls: {cert_file: a.crt, key_file: a.key}
secrets: {master_key_file: master.key}
tokens: {access_ttl: 4m}
resources:
  - id: https://api.example.com
    scopes: [orders:read]
clients:
  - client_id: web
    redirect_uris: ["https://app.example.com/callback"]
    client_secret_file: web.secret
    scope: openid orders:read
    resources: ["https://api.example.com"]
users:
  - username: ada
    password_file: ada.password
`
	files := map[string]string{
		"master.key": strings.Repeat("k", 32), "web.secret": "a secret of the client web", "other.secret": "a secret of the client web\n", "ada.password": "ada loves trains",
	}
	declaration := func(t *testing.T, text string, files map[string]string, env ...string) [32]byte {
		t.Helper()
		dir := t.TempDir()
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Parse(filepath.Join(dir, "signalbox.yaml"), []byte(strings.Replace(text, "tls: {cert_file: a.crt, key_file: a.key}", "tls: {off: true, trusted_proxies: [127.0.0.1/32]}", 1)), env)
		if err != nil {
			t.Fatal(err)
		}
		return c.Declaration()
	}
	with := func(name, content string) map[string]string {
		next := map[string]string{}
		for k, v := range files {
			next[k] = v
		}
		next[name] = content
		return next
	}
	replace := func(old, by string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in the text", old)
		}
		return strings.Replace(text, old, by, 1)
	}
	hub := text + "clusters: [{name: hub, issuer: 'https://kubernetes.default.svc', jwks_file: hub.json}]\n"
	if declaration(t, hub, with("hub.json", testKeys)) == declaration(t, hub, with("hub.json", otherKeys)) {
		t.Error("a cluster's keys have changed, and nobody sees it")
	}
	before := declaration(t, text, files)
	for _, row := range []struct {
		name  string
		text  string
		files map[string]string
		env   []string
		same  bool
	}{
		{"the same file elsewhere", text, files, nil, true},
		{"a comment and another layout", replace("tokens: {access_ttl: 4m}", "# shorter\ntokens:\n  access_ttl: 240s"), files, nil, true},
		{"keys in another order", replace("    scope: openid orders:read\n    resources: [\"https://api.example.com\"]", "    resources: [\"https://api.example.com\"]\n    scope: 'openid orders:read'"), files, nil, true},
		{"what belongs to one node", replace("secrets:", "listen: {public: \":443\"}\nlog: {level: debug}\nsecrets:"), files, nil, true},
		{"the same secret in another file", replace("web.secret", "other.secret"), files, nil, true},
		{"another secret", text, with("web.secret", "another secret of the client"), nil, false},
		{"another password", text, with("ada.password", "ada loves ships"), nil, false},
		{"more scope", replace("scope: openid orders:read", "scope: openid profile orders:read"), files, nil, false},
		{"a client is gone", text[:strings.Index(text, "clients:")] + text[strings.Index(text, "users:"):], files, nil, false},
		{"another lifetime", replace("4m", "3m"), files, nil, false},
		{"another lifetime, from the environment", text, files, []string{"SIGNALBOX_TOKENS_ACCESS_TTL=3m"}, false},
		{"a lifetime that the file did not name, from the environment", text, files, []string{"SIGNALBOX_TOKENS_ID_TTL=3m"}, false},
		{"another algorithm", text + "keys: {algorithms: [ES256, RS256]}\n", files, nil, false},
		{"a revision", text + "revision: back\n", files, nil, false},
		{"a cluster", text + "clusters: [{name: spoke}]\n", files, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := declaration(t, row.text, row.files, row.env...); (got == before) != row.same {
				t.Errorf("the same: %t, want %t", got == before, row.same)
			}
		})
	}
}
