package sqlite

import (
	"context"
	"database/sql"
	"time"
)

// Spend takes one of what a team may spend in a period. Periods are to sort by
// time. The one before this one is kept, so that a late spending from there is
// still counted; those before it are forgotten.
func (s *Store) Spend(ctx context.Context, team, period string, limit int) (spent bool, err error) {
	if limit <= 0 {
		return false, nil
	}
	err = s.write(ctx, "counting", func(tx *sql.Tx, _ time.Time) error {
		spent, err = s.spend(ctx, tx, team, period, limit)
		return err
	})
	return spent && err == nil, err
}

func (s *Store) spend(ctx context.Context, tx *sql.Tx, team, period string, limit int) (bool, error) {
	_, err := tx.ExecContext(ctx, `DELETE FROM scopegate_counts WHERE gateway = ?1 AND team = ?2 AND period <
		(SELECT max(period) FROM scopegate_counts WHERE gateway = ?1 AND team = ?2 AND period < ?3)`, s.gateway, team, period)
	if err != nil {
		return false, err
	}
	return affects(tx.ExecContext(ctx, `INSERT INTO scopegate_counts (gateway, team, period, spent) VALUES (?, ?, ?, 1)
		ON CONFLICT (gateway, team, period) DO UPDATE SET spent = spent + 1 WHERE spent < ?`, s.gateway, team, period, limit))
}

// Refund gives one back.
func (s *Store) Refund(ctx context.Context, team, period string) error {
	return s.write(ctx, "counting back", func(tx *sql.Tx, _ time.Time) error {
		return s.refund(ctx, tx, team, period)
	})
}

func (s *Store) refund(ctx context.Context, tx *sql.Tx, team, period string) error {
	_, err := tx.ExecContext(ctx, `UPDATE scopegate_counts SET spent = spent - 1
		WHERE gateway = ? AND team = ? AND period = ? AND spent > 0`, s.gateway, team, period)
	return err
}
