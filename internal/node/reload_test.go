package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

const testPassword = "ada-loves-trains"

const testConfig = `issuer: http://127.0.0.1:1
listen: {public: "127.0.0.1:1", admin: "127.0.0.1:2"}
tls: {off: true}
storage: {url: "sqlite:signalbox.db"}
secrets: {master_key_file: master.key}
log: {level: warn}
resources:
  - id: https://api.example.com
    scopes: [orders:read]
clients:
  - client_id: web
    client_name: Web app
    redirect_uris: ["http://127.0.0.1:8085/callback"]
    grant_types: [authorization_code, refresh_token]
    token_endpoint_auth_method: none
    scope: openid offline_access orders:read
    resources: ["https://api.example.com"]
  - client_id: batch
    grant_types: [client_credentials]
    client_secret_file: batch.secret
    scope: orders:read
    resources: ["https://api.example.com"]
users:
  - username: ada
    password_file: ada.password
    email: ada@example.com
    email_verified: true
`

// testFile writes a configuration into a folder of its own.
func testFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"signalbox.yaml": testConfig, "master.key": keys.GenerateMasterKey().Encode(), "ada.password": testPassword, "batch.secret": "the secret of the client batch",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "signalbox.yaml")
}

// open opens a node on a configuration, with nothing listening.
func open(t *testing.T, file string, options ...Options) (*Node, error) {
	t.Helper()
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(t.Context(), cfg, append(options, Options{})[0])
	if err == nil {
		t.Cleanup(n.Close)
	}
	return n, err
}

func openTest(t *testing.T) (n *Node, file string) {
	t.Helper()
	file = testFile(t)
	n, err := open(t, file)
	if err != nil {
		t.Fatal(err)
	}
	return n, file
}

// reload does what Follow does with a changed file.
func reload(n *Node, file string) error {
	next, err := config.Load(file, nil)
	if err != nil {
		return err
	}
	return n.Reload(context.Background(), next)
}

func edit(t *testing.T, file, old, with string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%q is not in %s", old, file)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, with)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	ada := func(n *Node) authority.User { return n.directory.StaticUsers()[0] }
	for _, row := range []struct {
		name    string
		change  func(t *testing.T, file string)
		refused string // empty: it is taken
		ends    string // the epoch that must be in the journal
	}{
		{"nothing has changed", func(*testing.T, string) {}, "", ""},
		{"a lifetime", func(t *testing.T, file string) { edit(t, file, "log: {level: warn}", "tokens: {access_ttl: 1m}") }, "", ""},
		{"a client is gone", func(t *testing.T, file string) { edit(t, file, "client_id: web", "client_id: other") }, "", "client web"},
		{"a user is disabled", func(t *testing.T, file string) {
			edit(t, file, "email_verified: true", "email_verified: true\n    disabled: true")
		}, "", "user USER"},
		{"a user has a new password", func(t *testing.T, file string) {
			edit(t, filepath.Join(filepath.Dir(file), "ada.password"), testPassword, "another-password")
		}, "", "user USER"},
		{"the issuer", func(t *testing.T, file string) { edit(t, file, "issuer: http://127.0.0.1", "issuer: http://127.0.0.2") }, "issuer cannot change", ""},
		{"another database", func(t *testing.T, file string) { edit(t, file, "signalbox.db", "other.db") }, "storage.url cannot change", ""},
		{"several that need a restart", func(t *testing.T, file string) {
			edit(t, file, "tls: {off: true}", "tls: {acme: {accept_tos: true}}\njournal: {dir: elsewhere}")
			edit(t, file, "issuer: http://127.0.0.1:1", "issuer: https://sts.example.com")
		}, "issuer, tls.off, tls.acme.accept_tos, journal.dir cannot change", ""},
		{"a mistake", func(t *testing.T, file string) {
			edit(t, file, "client_name: Web app", "client_nam: Web app")
		}, "signalbox.yaml:", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, file := openTest(t)
			before := n.config()
			row.change(t, file)
			err := reload(n, file)
			if row.refused != "" {
				if err == nil || !strings.Contains(err.Error(), row.refused) {
					t.Fatalf("want a refusal with %q, got %v", row.refused, err)
				}
				if n.config() != before {
					t.Fatal("a refused configuration is in force")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(row.ends, "USER", ada(n).ID)
			got := ""
			err = query.Search(context.Background(), n.config().Journal.Dir, query.Query{Types: []string{"epoch.set"}}, func(r query.Record) error {
				got += r.Target
				return nil
			})
			if err != nil || got != want {
				t.Fatalf("ended %q, want %q (%v)", got, want, err)
			}
		})
	}
}

func TestAReloadThatMeetsAnOutageIsTriedAgain(t *testing.T) {
	n, file := openTest(t)
	before := n.config()
	edit(t, file, "client_id: web", "client_id: other")
	if err := n.db.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = n.Reload(context.Background(), next)
	if !errors.Is(err, errTryAgain) || n.config() != before {
		t.Fatalf("%v", err)
	}
	err = query.Search(context.Background(), before.Journal.Dir, query.Query{Types: []string{"config.loaded", "epoch.set"}}, func(r query.Record) error {
		if !strings.HasPrefix(r.Reason, "at start") {
			t.Errorf("on record, though nothing has changed: %s %s", r.Type, r.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// What is written after the file was read is a change, however long the reload took.
	edit(t, file, "client_id: other", "client_id: another")
	if !config.Changed(next.Files) {
		t.Error("a change after the file was read is not seen")
	}
}

func TestAnIdOfTheDatabaseIsNotTriedAgain(t *testing.T) {
	n, file := openTest(t)
	if err := authority.Clients(n.db).Create(t.Context(), authority.Client{ID: "u-42", AuthMethod: oauth.AuthClientSecretBasic, Secrets: make([]authority.ClientSecret, 1)}); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "username: ada\n", "username: ada\n    sub: u-42\n")
	if err := reload(n, file); err == nil || errors.Is(err, errTryAgain) || !strings.Contains(err.Error(), `"u-42"`) {
		t.Fatalf("a user with a client's id: %v", err)
	}
}

func TestWhatTokensOfTheFileDependOn(t *testing.T) {
	master := keys.GenerateMasterKey()
	digest := func(name, password string, disabled bool) string {
		t.Helper()
		c := &config.Config{Users: []config.User{{UserProfile: authority.UserProfile{Username: name, Sub: "u-1"}, Password: config.NewSecret(password), Disabled: disabled}}}
		d, err := staticOf(c, master)
		if err != nil {
			t.Fatal(err)
		}
		return digestsOf(d)[authority.EpochUser]["u-1"]
	}
	before := digest("ada", "ada loves trains", false)
	if again := digest("ada.lovelace", "ada loves trains", false); before != again {
		t.Errorf("the same password: %v, then %v", before, again)
	}
	if other := digest("ada.lovelace", "another pass phrase", false); before == other {
		t.Error("a new name hides a new password")
	}
	if other := digest("ada", "ada loves trains", true); before == other {
		t.Error("a disabled account is as before")
	}
}

func TestAWrongMasterKeyIsBlamedOnItsSource(t *testing.T) {
	const wrong = "this is a passphrase longer than 32 chars"
	blame := func(file string, env ...string) string {
		cfg, err := config.Load(file, env)
		if err == nil {
			_, err = masterKeyOf(cfg)
		}
		if err == nil || strings.Contains(err.Error(), wrong) {
			t.Fatalf("%v", err)
		}
		return err.Error()
	}
	_, file := openTest(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "master.key"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := blame(file); !strings.Contains(got, "signalbox.yaml:") {
		t.Error(got)
	}
	edit(t, file, "secrets: {master_key_file: master.key}\n", "")
	if got := blame(file, "SIGNALBOX_SECRETS_MASTER_KEY="+wrong); !strings.Contains(got, "SIGNALBOX_SECRETS_MASTER_KEY") {
		t.Error(got)
	}
}

// changesOf is what the journal says of changes, in order.
func changesOf(t *testing.T, n *Node) (list []string) {
	t.Helper()
	types := []string{"client.changed", "user.changed", "resource.changed", "cluster.changed", "trusted_issuer.changed", "policy.changed"}
	err := query.Search(context.Background(), n.config().Journal.Dir, query.Query{Types: types, Limit: 2000}, func(r query.Record) error {
		text := r.Type + " " + r.Target + " " + strings.Split(r.Reason, " ")[0]
		for _, c := range r.Changes {
			text += fmt.Sprintf(" %s:%q>%q", c.Field, c.Old, c.New)
		}
		list = append(list, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// B 9: what a reload changes is on record as what the admin API changes.
func TestAReloadIsOnRecordFieldByField(t *testing.T) {
	n, file := openTest(t)
	ada := n.directory.StaticUsers()[0].ID
	if list := changesOf(t, n); len(list) != 0 {
		t.Errorf("at start there is nothing to compare with: %q", list)
	}
	edit(t, file, "client_id: web", "client_id: other")
	edit(t, file, "email_verified: true", "email_verified: true\n    disabled: true")
	mustReload(t, n, file)
	list := changesOf(t, n)
	text := strings.Join(list, "\n")
	for _, want := range []string{"client.changed web removed ", "client.changed other added ", "user.changed " + ada + ` changed disabled:"">"true"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "resource.changed") || strings.Contains(text, "client.changed batch") || strings.Contains(text, "argon2id") {
		t.Errorf("what has not changed, or a secret:\n%s", text)
	}
	mustReload(t, n, file)
	if again := changesOf(t, n); len(again) != len(list) {
		t.Errorf("a file that has not changed: %q", again[len(list):])
	}
	edit(t, file, "client_id: other", "client_id: web")
	mustReload(t, n, file)
	if more := strings.Join(changesOf(t, n)[len(list):], "\n"); !strings.Contains(more, "client.changed other removed ") || !strings.Contains(more, "client.changed web added ") {
		t.Errorf("back again:\n%s", more)
	}
}

// A reload that fails is tried again and again; what it would change is on record once.
func TestAReloadThatIsTriedAgainIsOnRecordOnce(t *testing.T) {
	n, file := openTest(t)
	n.endings.Store = undeclared{n.endings.Store}
	edit(t, file, "client_id: web", "client_id: other")
	for range 3 {
		if err := reload(n, file); err == nil {
			t.Fatal("the store is unwilling")
		}
	}
	if list := changesOf(t, n); !slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "client.changed web removed") }) || len(list) > 6 {
		t.Errorf("%q", list)
	}
}

type undeclared struct{ revocation.EndingStore }

func (undeclared) Declare(context.Context, authority.Declaration, int64) (authority.Declaration, []authority.Revocation, error) {
	return authority.Declaration{}, nil, errors.New("storage: read only")
}

// What cannot be recorded does not come into force.
func TestAReloadThatCannotBeRecordedChangesNothing(t *testing.T) {
	full := errors.New("disk full")
	var fail error
	file := testFile(t)
	n := mustOpen(t, file, Options{Hooks: Hooks{Record: func(context.Context, authority.Event) error { return fail }}})
	before := n.config()
	edit(t, file, "client_id: web", "client_id: other")
	fail = full
	if err := reload(n, file); !errors.Is(err, full) || !errors.Is(err, errTryAgain) || n.config() != before {
		t.Errorf("%v", err)
	}
	fail = nil
	mustReload(t, n, file)
}

func TestTheRecordsOfOneReloadAreBounded(t *testing.T) {
	n, file := openTest(t)
	var many strings.Builder
	for i := range maxChanged + 10 {
		fmt.Fprintf(&many, "  - {client_id: c%d, grant_types: [], client_secret_hash: \"sha256:5faff43939ffc50770f6caec2f9f2b96575a39c3a9584aa7d6b3d6b4ec8a9354\"}\n", i)
	}
	edit(t, file, "clients:\n", "clients:\n"+many.String())
	mustReload(t, n, file)
	if got := len(changesOf(t, n)); got != maxChanged {
		t.Errorf("%d records", got)
	}
}
