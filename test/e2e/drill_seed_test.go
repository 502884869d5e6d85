package e2e

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/keys"
)

// seed copies the grant that a sign-in has just made, many times, while the service is stopped.
// Each copy has an id, a person, a session and secrets of its own, and they were made over the
// last 20 hours; everything else, and every column that there will ever be, is that of the real
// one. Of sample copies it returns the refresh token; those are ada's.
func (w *world) seed(t *testing.T, count, sample int) (refreshTokens []string) {
	t.Helper()
	_, claims := claimsOf(t, w.signedIn(t, webTwo, ada).str("access_token"))
	real, err := authority.ParseID(claims["grant_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	defer w.serve(t)

	span := 20 * time.Hour
	made := fmt.Sprintf("(%d + n.i * %d / %d)", time.Now().Add(-span).UnixMilli(), span.Milliseconds(), count) // milliseconds
	sql := map[string]string{"copies": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) ", "n": "n",
		"uuid": "unhex(printf('%%012x7%%03x%s%%015x', " + made + ", n.i & 4095, n.i))", "random": "randomblob(32)", "name": "printf('seeded-%08d', n.i)"}
	if w.engine == "PostgreSQL" {
		sql = map[string]string{"n": "generate_series(1, $2::bigint) AS n(i)",
			"uuid": "(lpad(to_hex(" + made + "), 12, '0') || '7' || lpad(to_hex(n.i & 4095), 3, '0') || '%s' || lpad(to_hex(n.i), 15, '0'))::uuid", "random": "sha256(n.i::text::bytea)", "name": "'seeded-' || lpad(n.i::text, 8, '0')"}
	} else { // nobody reads it meanwhile, and if this fails nothing is kept
		w.db.SetMaxOpenConns(1)
		for _, fast := range []string{"journal_mode = OFF", "synchronous = OFF", "cache_size = -100000"} {
			w.exec(t, "PRAGMA "+fast)
		}
	}
	own := map[string]string{ // an id is a UUIDv7: its time, and here the number of the copy
		"id": fmt.Sprintf(sql["uuid"], "8"), "session_id": fmt.Sprintf(sql["uuid"], "9"), "subject_id": sql["name"],
		"code_hash": sql["random"], "refresh_hash": sql["random"], "auth_time": made + " * 1000", "created_at": made + " * 1000",
	}
	columns := w.columns(t, "grants")
	values := make([]string, len(columns))
	for i, c := range columns {
		if values[i] = own[c]; values[i] == "" {
			values[i] = "g." + c
		}
	}
	w.exec(t, sql["copies"]+"INSERT INTO grants ("+strings.Join(columns, ", ")+") SELECT "+strings.Join(values, ", ")+" FROM grants AS g, "+sql["n"]+" WHERE g.id = $1", w.id(real), count)
	if w.engine == "PostgreSQL" {
		w.exec(t, "ANALYZE grants") // as autovacuum would have long ago
	}

	raw, err := os.ReadFile(filepath.Join(w.dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	master, err := keys.ParseMasterKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	key := authority.NewRefreshKey(master.Derive("refresh token"))
	for i := range sample {
		name := fmt.Sprintf("seeded-%08d", 1+i*(count-1)/(sample-1))
		id := w.idOf(t, name)
		token := key.First(id)
		state := token.State(time.Now(), time.Hour)
		w.exec(t, "UPDATE grants SET subject_id = $1, refresh_generation = 1, refresh_hash = $2 WHERE id = $3", claims["sub"], state.Hash[:], w.id(id))
		refreshTokens = append(refreshTokens, key.Reveal(token))
	}
	return refreshTokens
}

// columns are those of a table.
func (w *world) columns(t *testing.T, table string) []string {
	t.Helper()
	rows, err := w.db.Query("SELECT * FROM " + table + " LIMIT 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// id is an id as the engine takes it.
func (w *world) id(id authority.ID) any {
	if w.engine == "PostgreSQL" {
		return id.String()
	}
	return id.Bytes()
}

// idOf is the id of a copy.
func (w *world) idOf(t *testing.T, name string) authority.ID {
	t.Helper()
	as := "hex(id)"
	if w.engine == "PostgreSQL" {
		as = "replace(id::text, '-', '')"
	}
	var text string
	if err := w.db.QueryRow("SELECT "+as+" FROM grants WHERE subject_id = $1", name).Scan(&text); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.IDFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// countWrites notes every row that is written from now on.
func (w *world) countWrites(t *testing.T) {
	t.Helper()
	w.exec(t, "CREATE TABLE drill_writes (name text)")
	if w.engine == "PostgreSQL" {
		w.exec(t, "CREATE FUNCTION drill_note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO drill_writes VALUES (TG_TABLE_NAME); RETURN NULL; END'")
	}
	for table := range w.rows(t) {
		for _, event := range []string{"INSERT", "UPDATE", "DELETE"} {
			note := "FOR EACH ROW EXECUTE FUNCTION drill_note()"
			if w.engine == "SQLite" {
				note = "BEGIN INSERT INTO drill_writes VALUES ('" + table + "'); END"
			}
			if table != "drill_writes" && !strings.HasPrefix(table, "sqlite_") {
				w.exec(t, "CREATE TRIGGER drill_"+table+"_"+event+" AFTER "+event+" ON "+table+" "+note)
			}
		}
	}
}

// writes says how many rows of each table were written since countWrites.
func (w *world) writes(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	rows, err := w.db.Query("SELECT name, count(*) FROM drill_writes GROUP BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		counts[name] = n
	}
	return counts
}

// megabytes is the size of the database, without a log that it writes ahead.
func (w *world) megabytes(t *testing.T) int {
	t.Helper()
	if w.engine == "PostgreSQL" {
		return w.number(t, "SELECT pg_database_size(current_database())") >> 20
	}
	return w.number(t, "PRAGMA page_count") * w.number(t, "PRAGMA page_size") >> 20
}
