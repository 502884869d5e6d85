package sqldb_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
	"github.com/signalbox-sts/signalbox/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, engine(func(t testing.TB) string { return sqliteURL(t) }))
}

func TestPostgres(t *testing.T) {
	needPostgres(t)
	storetest.Run(t, engine(postgresURL))
}

// engine opens stores at fresh urls, and remembers which store has which.
func engine(fresh func(t testing.TB) string) storetest.Engine {
	var urls sync.Map
	at := func(t testing.TB, url string) storetest.Store {
		db := open(t, url)
		urls.Store(db, url)
		return db
	}
	return storetest.Engine{
		Open: func(t testing.TB) storetest.Store { return at(t, fresh(t)) },
		Again: func(t testing.TB, s storetest.Store) storetest.Store {
			url, _ := urls.Load(s.(*sqldb.DB))
			return at(t, url.(string))
		},
		FailAfter: func(s storetest.Store, n int) { s.(*sqldb.DB).FailAfter(n) },
	}
}

func open(t testing.TB, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func sqliteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "signalbox.db")
}

const postgresVariable = "SIGNALBOX_TEST_POSTGRES"

// needPostgres skips where there is no server, but never in CI.
func needPostgres(t testing.TB) {
	t.Helper()
	if os.Getenv(postgresVariable) != "" {
		return
	}
	const how = "no PostgreSQL: set " + postgresVariable + " to a superuser url (scripts/postgres.sh run go test …)"
	if os.Getenv("CI") == "true" {
		t.Fatal(how)
	}
	t.Skip(how)
}

// postgresURL makes a database of the test's own, and drops it afterwards.
func postgresURL(t testing.TB) string {
	t.Helper()
	needPostgres(t)
	server := os.Getenv(postgresVariable)
	name := fmt.Sprintf("signalbox_%d_%d", os.Getpid(), time.Now().UnixNano())
	admin(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { admin(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func admin(t testing.TB, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}

// everyEngine runs a test of what storetest does not know.
func everyEngine(t *testing.T, run func(t *testing.T, url string)) {
	t.Run("SQLite", func(t *testing.T) { run(t, sqliteURL(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, postgresURL(t)) })
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		open(t, url).Exec(t, "INSERT INTO schema_version (version_id, is_applied) VALUES (999, true)")
		_, err := sqldb.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), "version 999") || !strings.Contains(err.Error(), "start a newer signalbox") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestMigrationsAreNumberedWithoutAGap(t *testing.T) {
	for _, folder := range []string{"migrations/sqlite", "migrations/postgres"} {
		files, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range files {
			if !strings.HasPrefix(file.Name(), fmt.Sprintf("%05d_", i+1)) {
				t.Errorf("%s/%s should be number %d", folder, file.Name(), i+1)
			}
			text, err := os.ReadFile(filepath.Join(folder, file.Name()))
			if err != nil || strings.Contains(string(text), "+goose Down") {
				t.Errorf("%s/%s goes back, or cannot be read (%v): migrations only go forward", folder, file.Name(), err)
			}
		}
	}
}

func TestManyStartAtOnceOnAnEmptyDatabase(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		var done sync.WaitGroup
		for range 6 {
			done.Go(func() {
				db, err := sqldb.Open(context.Background(), url)
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Ping(t.Context()); err != nil {
					t.Error(err)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
	})
}

func TestAnotherNodeIsTold(t *testing.T) {
	url := postgresURL(t)
	one, other := open(t, url), open(t, url)
	changes := other.Changes(t.Context())
	if _, err := one.Revoke(t.Context(), authority.Revocation{Kind: authority.RevokeToken, Key: "first", ExpiresAt: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-changes:
			list, err := other.Revocations(t.Context(), 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 1 {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody told the other node")
		}
	}
}

func TestChangesEndWithTheirContext(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		ctx, cancel := context.WithCancel(t.Context())
		changes := open(t, url).Changes(ctx)
		cancel()
		for range changes { // may hold one last message
		}
	})
}

// docs/security/threats.md C 39: allocations are a measure of work, since they can be counted.
func TestAnUnknownClientCostsWhatAKnownOneDoes(t *testing.T) {
	db := open(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	clients := authority.Clients(db)
	c, err := authority.NewClient(authority.ClientMetadata{
		ClientID: "known", ClientName: "App", TokenEndpointAuthMethod: "client_secret_basic", ClientSecrets: make([]authority.ClientSecret, 1),
		RedirectURIs: []string{"https://app.example.com/"}, GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: "openid read",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	cost := func(id string) float64 {
		return testing.AllocsPerRun(100, func() { _, _ = clients.Get(t.Context(), id) })
	}
	if known, unknown := cost("known"), cost("other"); unknown < known*0.9 || unknown > known*1.5 {
		t.Errorf("a known client costs %v allocations, an unknown one %v", known, unknown)
	}
}

func TestConsentReadsNoMoreThanItNeeds(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		db := open(t, url)
		rows := db.CountRows()
		start := time.Now().Add(-time.Hour)
		grants := make([]authority.Grant, 1003)
		var done sync.WaitGroup
		for i := range grants {
			g := newGrant(0)
			g.ID, g.Scopes = authority.NewID(start.Add(time.Duration(i)*time.Millisecond)), oauth.MustScopes("openid")
			switch i {
			case 0:
				g.Scopes = oauth.MustScopes("oldest")
			case 3:
				g.Scopes = oauth.MustScopes("thousandth")
			case len(grants) - 1:
				g.Scopes = oauth.MustScopes("newest")
			}
			grants[i] = g
			done.Go(func() {
				if err := db.CreateGrant(t.Context(), g); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		for _, r := range []struct {
			scope string
			since time.Time
			want  bool
			rows  int
		}{
			{"newest", time.Time{}, true, 1},
			{"openid", time.Time{}, true, 2},
			{"thousandth", time.Time{}, true, 1000},
			{"oldest", time.Time{}, false, 1000},
			{"none", grants[len(grants)-10].ID.Time(), false, 10}, // the tenth is too old, and so is the rest
		} {
			*rows = 0
			asked := newGrant(0)
			asked.Scopes = oauth.MustScopes(r.scope)
			got, err := db.Consented(t.Context(), asked, r.since, time.Now())
			if err != nil || got != r.want || *rows != r.rows {
				t.Errorf("%s: %v, %v, %d rows read, want %v and %d", r.scope, got, err, *rows, r.want, r.rows)
			}
		}
	})
}

// A caller who hangs up while a grant ends is told what has become of it:
// whoever is told of a failure records nothing, and the next finds nothing to record.
func TestHangUpWhileGrantsEnd(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		db := open(t, url)
		hangUp := func() {}
		db.BeforeCommit(func() { hangUp() })
		at := time.Now()
		for i := range 20 {
			g := newGrant(i)
			g.Evidence = authority.SessionEvidence(g.ID)
			if err := db.CreateGrant(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			hangUp = cancel
			ending := authority.Ending{Reason: "test", At: at, Remember: time.Hour}
			end, want := func() ([]authority.Revocation, error) { return db.EndGrant(ctx, g.ID, ending) }, 1
			switch i % 3 {
			case 1:
				end, want = func() ([]authority.Revocation, error) { return db.EndEvidence(ctx, g.Evidence, at, ending) }, 2
			case 2:
				end, want = func() ([]authority.Revocation, error) { return db.EndSession(ctx, g.ID, ending) }, 2
			}
			if written, err := end(); err != nil || len(written) != want {
				t.Fatalf("%v, %v", written, err)
			}
			hangUp = func() {}
		}
	})
}

// What an attempt has found that was undone is not told.
func TestATransitionThatRunsTwiceIsToldOnce(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		db := open(t, url)
		db.UndoFirst()
		ending := authority.Ending{Reason: "test", At: time.Now(), Remember: time.Hour}
		var grants []authority.Grant
		for i := range 3 {
			g := newGrant(i)
			g.Evidence = authority.SessionEvidence(g.ID)
			if err := db.CreateGrant(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			grants = append(grants, g)
		}
		written, err := db.EndGrant(t.Context(), grants[0].ID, ending)
		if err != nil || len(written) != 1 {
			t.Errorf("%v, %v", written, err)
		}
		written, err = db.EndEvidence(t.Context(), grants[1].Evidence, time.Time{}, ending)
		if err != nil || len(written) != 2 {
			t.Errorf("%v, %v", written, err)
		}
		written, err = db.EndSession(t.Context(), grants[2].ID, ending)
		if err != nil || len(written) != 2 {
			t.Errorf("%v, %v", written, err)
		}
	})
}

func TestUrlsThatCannotBeOpened(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "sqlite:", "sqlite:/tmp/a?mode=memory", "signalbox.db", "postgres://user:hunter2@%zz/db", "postgres://user:hunter2@127.0.0.1:1/db"} {
		db, err := sqldb.Open(t.Context(), url)
		if err == nil {
			_ = db.Close()
			t.Errorf("%q was opened", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error tells the password: %v", url, err)
		}
	}
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "signalbox.db")
	db := open(t, "sqlite:"+path)
	if err := db.CreateGrant(t.Context(), newGrant(1)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
}

// Readers that never pause are what keeps SQLite's log from starting over.
func TestSQLiteLogStaysBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signalbox.db")
	db := open(t, "sqlite:"+path)
	g := newGrant(1)
	if err := db.CreateGrant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	reading, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for reading.Err() == nil {
				if _, err := db.Grant(t.Context(), g.ID); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var largest int64
	for range 10 {
		var writers sync.WaitGroup
		for range 64 {
			writers.Go(func() {
				for i := range 30 {
					if err := db.CreateGrant(t.Context(), newGrant(i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	stop()
	readers.Wait()
	t.Logf("the log grew to %d KiB", largest>>10)
	if largest > 80<<20 {
		t.Errorf("the log grew to %d MiB", largest>>20)
	}
}

func newGrant(seed int) authority.Grant {
	now := time.Now()
	return authority.Grant{
		ID: authority.NewID(now), ClientID: fmt.Sprint("client", seed%10),
		Subject:   authority.Subject{Issuer: "https://sts.example.com", ID: fmt.Sprint("user", seed), Kind: authority.SubjectUser},
		Scopes:    oauth.MustScopes("openid", "offline_access", "orders:read"),
		Resources: []string{"https://api.example.com"}, AMR: []string{"pwd"}, AuthTime: now,
		State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(720 * time.Hour), RedirectDigest: [32]byte{1},
		Refresh: authority.Refresh{Generation: 1, Hash: [32]byte{1, byte(seed)}, RotatedAt: now, IdleExpiresAt: now.Add(24 * time.Hour)},
	}
}

// A refresh whose commit hangs is refused, and may have happened all the same. The
// client comes again: that must be within the grace period, or it looks like a thief.
func TestAHangingCommitIsRefusedWithinTheGracePeriod(t *testing.T) {
	if grace := config.Default().Tokens.RefreshGrace; sqldb.CommitTimeout > grace/2 {
		t.Fatalf("the caller hears after %s, and the grace period is %s", sqldb.CommitTimeout, grace)
	}
}

// docs/how-to/several-nodes.md: a commit is on disk before it is answered, whatever the
// server's default is, and a node keeps a bounded number of connections.
func TestPostgresSettings(t *testing.T) {
	url := postgresURL(t)
	for _, row := range []struct {
		name, query, commit string
		connections         int32
	}{
		{"the server's defaults", "", "on", 12},
		{"commits that do not wait for the disk", "&options=-c%20synchronous_commit%3Doff", "on", 12},
		{"commits that wait for a replica too", "&options=-c%20synchronous_commit%3Dremote_apply", "remote_apply", 12},
		{"another number of connections", "&pool_max_conns=7", "on", 7},
	} {
		t.Run(row.name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), url+row.query)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			// The follower of revocations looks back 30 s: what takes a number may commit no later. And a
			// node that takes over from one that froze waits for that one's locks.
			if idle, _ := db.Setting(t, "idle_in_transaction_session_timeout"); idle != "4s" {
				t.Errorf("a transaction whose node is cut off keeps its locks, and may commit, for %s (0: hours)", idle)
			}
			if err := db.CheckClock(t.Context()); err != nil {
				t.Errorf("the server of this machine has another time: %v", err)
			}
			commit, connections := db.Setting(t, "synchronous_commit")
			if commit != row.commit || connections != row.connections {
				t.Errorf("synchronous_commit %s and %d connections, want %s and %d", commit, connections, row.commit, row.connections)
			}
		})
	}
}
