package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/scopegate/scopegate/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// versionTable is where goose keeps which migrations were run.
	versionTable = "scopegate_migrations"

	// migrationLock is the advisory lock under which they are run. It is not
	// goose's own, which other programs of the same database may hold.
	migrationLock = 0x73636f7065676174
)

// migrate brings the schema up to this version's. It looks before it touches
// anything, since a later database is to be left as it is, and looks again
// behind the lock, since a replica of a later version may have been quicker.
func migrate(ctx context.Context, cfg *pgx.ConnConfig) (err error) {
	target, err := latest()
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	current, err := inspect(ctx, db, target)
	if err != nil || current >= target {
		return err
	}
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating from version %d to %d: %w", current, target, err)
	}
	_, err = inspect(ctx, db, target)
	return err
}

// inspect returns the version of the schema, 0 if there is none, or why the
// database is not to be used.
func inspect(ctx context.Context, db *sql.DB, known int64) (version int64, err error) {
	var exists bool
	err = db.QueryRowContext(ctx, `SELECT to_regclass('`+versionTable+`') IS NOT NULL`).Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable).Scan(&version)
	if err != nil || version <= known {
		return version, err
	}
	var least int64
	err = db.QueryRowContext(ctx, `SELECT value::bigint FROM scopegate_meta WHERE key = 'min_reader'`).Scan(&least)
	if err != nil {
		return 0, fmt.Errorf("reading which versions may use the schema: %w", err)
	}
	if least <= known {
		return version, nil
	}
	return 0, fmt.Errorf("%w: its schema is version %d and this program knows up to %d; "+
		"run the later program again, or restore a backup from before the upgrade", store.ErrTooNew, version, known)
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock),
		lock.WithLockTimeout(1, uint64(openTimeout.Seconds())), lock.WithUnlockTimeout(1, 3))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker),
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

// latest returns the version of the last migration, from the names of the
// files.
func latest() (int64, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1])
}
