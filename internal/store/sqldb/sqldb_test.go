package sqldb_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

func openSQLite(t testing.TB, path string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "signalbox.db")
	db := openSQLite(t, path)
	now := time.Now()
	g := authority.Grant{
		ID: authority.NewID(now), ClientID: "web", Subject: authority.Subject{Issuer: "i", ID: "ada", Kind: authority.SubjectUser},
		Scopes: oauth.MustScopes("openid"), State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
	if err := db.CreateGrant(context.Background(), g); err != nil {
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
	start := time.Now()
	again := openSQLite(t, path)
	t.Logf("opening again took %v", time.Since(start))
	got, err := again.Grant(context.Background(), g.ID)
	if err != nil || got.ClientID != "web" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := again.EndGrant(context.Background(), g.ID, "test", now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}
