package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

const versionTable = "schema_version"

// dialect is what a migration needs to know of an engine.
type dialect struct {
	goose  goose.Dialect
	folder string
	exists string // asks whether the version table is there
}

var (
	sqliteDialect = dialect{goose.DialectSQLite3, "migrations/sqlite",
		"SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '" + versionTable + "'"}
	postgresDialect = dialect{goose.DialectPostgres, "migrations/postgres",
		"SELECT count(*) FROM pg_class WHERE oid = to_regclass('" + versionTable + "')"}
)

// migrate brings the tables to the version of this program. It asks the
// version table first: with nothing to do, goose would cost more than the rest
// of the start.
func migrate(ctx context.Context, db *sql.DB, d dialect) error {
	folder, err := fs.Sub(migrations, d.folder)
	if err != nil {
		return err
	}
	known := knownVersion(d)
	// Two processes may start at once on one SQLite file (PostgreSQL's callers
	// hold a lock). Whoever loses finds the table made, or the file locked, and
	// looks again.
	for try := 1; ; try++ {
		version, err := currentVersion(ctx, db, d)
		if err != nil {
			return err
		}
		switch {
		case version == known:
			return nil
		case version > known:
			return fmt.Errorf("the database has version %d and this program knows version %d: start a newer signalbox", version, known)
		}
		provider, err := goose.NewProvider(d.goose, db, folder, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		if _, err = provider.Up(ctx); err != nil && try == 3 {
			return fmt.Errorf("bring the database from version %d to %d: %w", version, known, err)
		}
	}
}

func currentVersion(ctx context.Context, db *sql.DB, d dialect) (version int64, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, d.exists).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable+" WHERE is_applied").Scan(&version)
	return version, err
}

// knownVersion counts the files: they are numbered from 1 without a gap, which
// a test holds.
func knownVersion(d dialect) int64 {
	files, _ := migrations.ReadDir(d.folder) // embedded: it is there
	return int64(len(files))
}
