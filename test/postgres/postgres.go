// Package postgres gives tests a PostgreSQL database of their own, on the server
// that scripts/postgres.sh has started.
package postgres

import (
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
)

const variable = "SIGNALBOX_TEST_POSTGRES"

// New makes an empty database that is dropped when the test ends. Where there is no
// server the test is skipped, and with CI=true it fails.
func New(t testing.TB) *url.URL {
	t.Helper()
	address := os.Getenv(variable)
	switch {
	case address != "":
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true, but this machine has no PostgreSQL (%s)", variable)
	default:
		t.Skipf("NOT TESTED: this machine has no PostgreSQL (%s; make test starts one)", variable)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	super, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := super.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := super.Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		super.Close()
	})
	u.Path = "/" + name
	return u
}
