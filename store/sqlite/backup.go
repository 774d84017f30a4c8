package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes all gateways' rows to a new file, as they are at one instant,
// while the store is in use. The file has its name only once it is whole and
// on the disk.
func (s *Store) Backup(ctx context.Context, path string) error {
	return s.read("backing up the store", func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.life, cancel)()
		return s.backup(ctx, path)
	})
}

func (s *Store) backup(ctx context.Context, path string) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: %w", path, fs.ErrExist), err)
	}
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // for its owner alone
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, part.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(part.Name()))
		}
	}()
	if err := s.copyTo(ctx, part.Name()); err != nil {
		return err
	}
	if err := vacate(ctx, part.Name()); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// copyTo has a connection of its own, for the readers' may not write even to
// another file.
func (s *Store) copyTo(ctx context.Context, path string) (err error) {
	db, err := connect(s.path, 1, migrating)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// vacate takes out of a copy who serves from the original and holds its leases:
// nobody does so from the copy.
func vacate(ctx context.Context, path string) (err error) {
	db, err := connect(path, 1, migrating)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `DELETE FROM scopegate_replicas; DELETE FROM scopegate_leases`)
	return err
}
