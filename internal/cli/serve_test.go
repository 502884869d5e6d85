package cli

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/keys"
)

// testService opens a service on a demo configuration, with nothing listening.
func testService(t *testing.T) (s *service, file string) {
	t.Helper()
	dir := t.TempDir()
	ln, issuer, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ln.public.Close(), ln.admin.Close() })
	file = filepath.Join(dir, "signalbox.yaml")
	if _, err := writeDemo(dir, file, issuer, ln); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err = openService(context.Background(), cfg, &Environment{Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s, file
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
	ada := func(s *service) authority.User { return s.directory.DeclaredUsers()[0] }
	for _, row := range []struct {
		name    string
		change  func(t *testing.T, file string)
		refused string // empty: it is taken
		ends    string // the epoch that must be in the journal
	}{
		{"nothing has changed", func(*testing.T, string) {}, "", ""},
		{"a lifetime", func(t *testing.T, file string) { edit(t, file, "log: {level: warn}", "tokens: {access_ttl: 1m}") }, "", ""},
		{"a client is gone", func(t *testing.T, file string) { edit(t, file, "client_id: demo-spa", "client_id: other-spa") }, "", "client demo-spa"},
		{"a user is disabled", func(t *testing.T, file string) {
			edit(t, file, "email_verified: true", "email_verified: true\n    disabled: true")
		}, "", "user USER"},
		{"a user has a new password", func(t *testing.T, file string) {
			edit(t, filepath.Join(filepath.Dir(file), "ada.password"), demoPassword, "another-password")
		}, "", "user USER"},
		{"the issuer", func(t *testing.T, file string) { edit(t, file, "issuer: http://127.0.0.1", "issuer: http://127.0.0.2") }, "issuer cannot change", ""},
		{"another database", func(t *testing.T, file string) { edit(t, file, "signalbox.db", "other.db") }, "storage cannot change", ""},
		{"a mistake", func(t *testing.T, file string) {
			edit(t, file, "client_name: Demo web app", "client_nam: Demo web app")
		}, "signalbox.yaml:", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, file := testService(t)
			before := s.config.Load()
			row.change(t, file)
			_, err := s.reload(context.Background(), file)
			if row.refused != "" {
				if err == nil || !strings.Contains(err.Error(), row.refused) {
					t.Fatalf("want a refusal with %q, got %v", row.refused, err)
				}
				if s.config.Load() != before {
					t.Fatal("a refused configuration is in force")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(row.ends, "USER", ada(s).ID)
			got := ""
			err = journal.Search(context.Background(), s.config.Load().Journal.Dir, journal.Query{Types: []string{"epoch.set"}}, func(r journal.Record) error {
				got = r.Target // written twice: before the change and after it
				return nil
			})
			if err != nil || got != want {
				t.Fatalf("ended %q, want %q (%v)", got, want, err)
			}
		})
	}
}

func TestAuditVerifyWithTheConfiguration(t *testing.T) {
	s, file := testService(t)
	for range 3 {
		if err := s.record(context.Background(), authority.Event{Type: authority.EventServiceStarted}); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	verify := func() (int, string) {
		var out strings.Builder
		code := Run(context.Background(), &Environment{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }},
			[]string{"audit", "verify", "--config", file})
		return code, out.String()
	}
	if code, out := verify(); code != exitOK || !strings.Contains(out, "signed up to record") || !strings.Contains(out, "anchored up to record") {
		t.Fatalf("%d %s", code, out)
	}
	// Cut off the end: the chain and the signatures that are left are whole.
	segments, err := filepath.Glob(filepath.Join(filepath.Dir(file), "journal", "journal-*.jsonl"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(segments[0], []byte(strings.Join(lines[:len(lines)-3], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := verify(); code != exitFailed || !strings.Contains(out, "truncated") {
		t.Fatalf("%d %s", code, out)
	}
}

func TestAReloadThatMeetsAnOutageIsTriedAgain(t *testing.T) {
	s, file := testService(t)
	before := s.config.Load()
	edit(t, file, "client_id: demo-spa", "client_id: other-spa")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	looked, err := s.reload(context.Background(), file)
	if !errors.Is(err, errTryAgain) || s.config.Load() != before {
		t.Fatalf("%v", err)
	}
	err = journal.Search(context.Background(), before.Journal.Dir, journal.Query{Types: []string{"config.loaded", "epoch.set"}}, func(r journal.Record) error {
		t.Errorf("on record, though nothing has changed: %s %s", r.Type, r.Reason)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// What is written after the file was read is a change, however long the reload took.
	edit(t, file, "client_id: other-spa", "client_id: another-spa")
	if !config.Changed(looked) {
		t.Error("a change after the file was read is not seen")
	}
}

func TestAnIdOfTheDatabaseIsNotTriedAgain(t *testing.T) {
	s, file := testService(t)
	now := time.Now()
	if err := s.db.CreateClient(context.Background(), authority.Client{ID: "u-42", CreatedAt: now, UpdatedAt: now}); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "username: ada\n", "username: ada\n    sub: u-42\n")
	if _, err := s.reload(context.Background(), file); err == nil || errors.Is(err, errTryAgain) || !strings.Contains(err.Error(), `"u-42"`) {
		t.Fatalf("a user with a client's id: %v", err)
	}
}

func TestWhatTokensOfTheFileRestOn(t *testing.T) {
	master := keys.GenerateMasterKey()
	state := func(name, password string, disabled bool) map[string]string {
		t.Helper()
		c := &config.Config{Users: []config.User{{Username: name, Sub: "u-1", Password: config.NewSecret(password), Disabled: disabled}}}
		d, err := declaredOf(c, master)
		if err != nil {
			t.Fatal(err)
		}
		return stateOf(d)
	}
	before := state("ada", "ada loves trains", false)
	if again := state("ada.lovelace", "ada loves trains", false); !maps.Equal(before, again) {
		t.Errorf("the same password: %v, then %v", before, again)
	}
	if other := state("ada.lovelace", "another pass phrase", false); maps.Equal(before, other) {
		t.Error("a new name hides a new password")
	}
	if other := state("ada", "ada loves trains", true); maps.Equal(before, other) {
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
	_, file := testService(t)
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
