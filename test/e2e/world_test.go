package e2e

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/test/postgres"
)

// world is a house of the test's own on one of the engines, with a second connection to
// its database: what the service says about itself proves nothing.
type world struct {
	*server
	engine  string
	storage string // the configuration's storage and journal
	more    string // what the test added to the configuration
	db      *sql.DB
}

// onEachEngine runs a test on a fresh world of every engine. more is added to the
// configuration.
func onEachEngine(t *testing.T, more string, test func(t *testing.T, w *world)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newSQLite(t, more)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, newPostgres(t, more)) })
}

func newSQLite(t *testing.T, more string) *world {
	t.Helper()
	w := &world{engine: "SQLite", storage: onSQLite, more: more}
	w.server = startServe(t, serveHead+onSQLite+more+houseBody, houseFiles())
	w.open(t, "sqlite", "file:"+filepath.Join(w.dir, "signalbox.db")+"?_pragma=busy_timeout(5000)")
	return w
}

func newPostgres(t *testing.T, more string) *world {
	t.Helper()
	return startPostgres(t, postgres.New(t), more)
}

// startPostgres starts the first node on a database.
func startPostgres(t *testing.T, database *url.URL, more string) *world {
	t.Helper()
	w := &world{engine: "PostgreSQL", storage: onPostgres(database), more: more}
	w.server = startServe(t, serveHead+w.storage+more+houseBody, houseFiles())
	w.open(t, "pgx", database.String())
	return w
}

func onPostgres(database *url.URL) string {
	return "storage: {url: \"" + database.String() + "\"}\njournal: {dir: \"{{.Dir}}/journal\"}\n"
}

// node starts another node of the same issuer on the same PostgreSQL.
func (w *world) node(t *testing.T) *server {
	t.Helper()
	s := runServe(t, t.TempDir(), w.Issuer, serveHead+w.storage+w.more+houseBody, houseFiles())
	t.Cleanup(func() { s.stop() })
	return s
}

func (w *world) open(t *testing.T, driver, source string) {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.db = db
}

// exec changes the database without the service, as time or an intruder would.
// Both engines take $1.
func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := w.db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (w *world) number(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := w.db.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// rows counts the rows of every table that there is.
func (w *world) rows(t *testing.T) map[string]int {
	t.Helper()
	list := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if w.engine == "PostgreSQL" {
		list = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
	}
	found, err := w.db.Query(list)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for found.Next() {
		var name string
		if err := found.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := found.Err(); err != nil || len(tables) < 5 {
		t.Fatalf("tables %v: %v", tables, err)
	}
	counts := map[string]int{}
	for _, name := range tables {
		counts[name] = w.number(t, `SELECT count(*) FROM "`+name+`"`)
	}
	return counts
}

// shiftRefresh moves the last rotation of all grants into the past.
func (w *world) shiftRefresh(t *testing.T, seconds int) {
	t.Helper()
	w.exec(t, fmt.Sprintf("UPDATE grants SET refresh_rotated_at = refresh_rotated_at - %d WHERE refresh_generation > 0", seconds*1_000_000))
}

// kill ends the service without any warning.
func (s *server) kill() { s.proc.stop(os.Kill) }

func (s *server) restart(t *testing.T) {
	t.Helper()
	s.stop()
	s.serve(t)
}

// administer asks the admin API with a token of the client admin. A nil body sends none.
func (s *server) administer(t *testing.T, method, path string, body any) reply {
	t.Helper()
	return s.administerAs(t, s.adminToken(t), method, path, body)
}

func (s *server) adminToken(t *testing.T) string {
	t.Helper()
	r := s.post(t, "/token", params("grant_type", "client_credentials"), basic(admin))
	if r.Status != http.StatusOK {
		t.Fatalf("no token for the admin API: %s", r)
	}
	return r.str("access_token")
}

func (s *server) administerAs(t *testing.T, token, method, path string, body any) reply {
	t.Helper()
	var raw []byte
	if body != nil {
		raw = rawOf(t, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.AdminURL+"/admin/v1"+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return send(t, req, bearer(token))
}

// manage is administer that must succeed.
func (s *server) manage(t *testing.T, method, path string, body any) reply {
	t.Helper()
	r := s.administer(t, method, path, body)
	if r.Status < 200 || r.Status > 299 {
		t.Fatalf("%s %s: %s", method, path, r)
	}
	return r
}

// active asks introspection as the resource server.
func (s *server) active(t *testing.T, token string) bool {
	t.Helper()
	r := s.post(t, "/introspect", params("token", token), basic(apiServer))
	if r.Status != http.StatusOK {
		t.Errorf("introspection: %s", r)
	}
	return r.JSON["active"] == true
}

func (s *server) refresh(t *testing.T, c client, token string) reply {
	t.Helper()
	v, auth := as(c, params("grant_type", "refresh_token", "refresh_token", token))
	return s.post(t, "/token", v, auth)
}

// journalOf reads the journal that a node keeps.
func journalOf(t *testing.T, s *server, q query.Query) []query.Record {
	t.Helper()
	var records []query.Record
	err := query.Search(t.Context(), filepath.Join(s.dir, "journal"), q, func(r query.Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		t.Fatalf("reading the journal: %v", err)
	}
	return records
}

// verifyJournal verifies the chain with the library; the command has its own test.
func verifyJournal(t *testing.T, s *server) {
	t.Helper()
	report, err := verify.Dir(filepath.Join(s.dir, "journal"), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems() {
		t.Errorf("the journal does not verify: %s", p)
	}
	if len(report.Nodes) == 0 {
		t.Error("the journal holds no node")
	}
}

// journalHash is how the journal names a token.
func journalHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// journalSize is the bytes of all its records; its files grow by the piece.
func journalSize(t *testing.T, s *server) (total int) {
	t.Helper()
	for _, r := range journalOf(t, s, query.Query{}) {
		total += len(r.Raw) + 1
	}
	return total
}
