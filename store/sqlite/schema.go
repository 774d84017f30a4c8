package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/scopegate/scopegate/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose keeps which migrations were run.
const versionTable = "scopegate_migrations"

// migrate brings the schema up to this version's. It looks before it touches
// anything, since a damaged or later database is to be left as it is.
//
// Two processes that start at once take turns by a lock on a file beside the
// database, which stays there, empty: a lock on the database itself could not
// be held from one transaction to the next, and would wait for processes that
// only read it.
func migrate(ctx context.Context, path string) (err error) {
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("waiting for another process that migrates it: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()

	target, err := latest()
	if err != nil {
		return err
	}
	current, err := inspect(ctx, path, target)
	if err != nil {
		return err
	}
	db, err := connect(path, 1, migrating)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := useWriteAheadLog(ctx, db); err != nil {
		return err
	}
	if current >= target {
		return nil
	}
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating from version %d to %d: %w", current, target, err)
	}
	return nil
}

// lock locks a file by SQLite's own means, which work on each of its systems
// and end with the process.
func lock(ctx context.Context, path string) (unlock func() error, err error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	db, err := connect(path, 1, migrating)
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return func() error {
		_ = tx.Rollback() // of nothing
		return db.Close()
	}, nil
}

// inspect returns the version of the schema, 0 if there is none, or why the
// database is not to be used.
func inspect(ctx context.Context, path string, known int64) (_ int64, err error) {
	db, err := connect(path, 1, inspecting)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	var tables, ours int
	err = db.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE name = ?) FROM sqlite_schema`, versionTable).Scan(&tables, &ours)
	if err != nil || tables == 0 {
		return 0, err
	}
	if ours == 0 {
		return 0, errors.New("it is the database of another program")
	}
	var version int64
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable).Scan(&version); err != nil {
		return 0, err
	}
	if version <= known {
		return version, nil
	}
	return version, readable(ctx, db, version, known)
}

// readable tells whether a later version of the schema still serves this one.
func readable(ctx context.Context, db *sql.DB, version, known int64) error {
	var least int64
	err := db.QueryRowContext(ctx, `SELECT value FROM scopegate_meta WHERE key = 'min_reader'`).Scan(&least)
	if err != nil {
		return err
	}
	if least <= known {
		return nil
	}
	return fmt.Errorf("%w: its schema is version %d and this program knows up to %d; "+
		"run the later program again, or restore a backup from before the upgrade", store.ErrTooNew, version, known)
}

// useWriteAheadLog lets reads go on while one writes. The file keeps it, but
// one that was restored from a backup has lost it.
func useWriteAheadLog(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("its file system cannot hold a write-ahead log (the journal is in mode %q)", mode)
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files,
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
