package sqlite

import (
	"context"
	"database/sql"
	"time"
)

// Acquire takes a lease that is free, has run out or is the holder's already.
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = s.write(ctx, "taking a lease", func(tx *sql.Tx, now time.Time) error {
		held, err = affects(tx.ExecContext(ctx, `INSERT INTO scopegate_leases (gateway, name, holder, until) VALUES (?, ?, ?, ?)
			ON CONFLICT (gateway, name) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE holder = excluded.holder OR until <= ?`,
			s.gateway, name, holder, micros(now.Add(ttl)), micros(now)))
		return err
	})
	return held && err == nil, err
}

// Release gives a lease back, if it is still the holder's.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.write(ctx, "giving a lease back", func(tx *sql.Tx, _ time.Time) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM scopegate_leases WHERE gateway = ? AND name = ? AND holder = ?`, s.gateway, name, holder)
		return err
	})
}

// affects tells whether a statement changed a row.
func affects(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
