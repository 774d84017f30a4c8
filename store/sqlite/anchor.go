package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/scopegate/scopegate/store"
)

// Anchor keeps a signature of an audit log: of each log the one that reaches
// furthest of each day.
func (s *Store) Anchor(ctx context.Context, a store.Anchor) error {
	return s.write(ctx, "keeping an anchor", func(tx *sql.Tx, _ time.Time) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO scopegate_anchors (gateway, log, day, seq, note) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (gateway, log, day) DO UPDATE SET seq = excluded.seq, note = excluded.note WHERE seq < excluded.seq`,
			s.gateway, a.Log, a.Day, a.Seq, a.Note)
		return err
	})
}

// Anchors returns the signatures of a log, of all logs for "", the oldest of
// each first.
func (s *Store) Anchors(ctx context.Context, log string) (found []store.Anchor, err error) {
	err = s.read("listing anchors", func() error {
		found, err = s.anchors(ctx, log)
		return err
	})
	return found, err
}

func (s *Store) anchors(ctx context.Context, log string) (found []store.Anchor, err error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT log, day, seq, note FROM scopegate_anchors
		WHERE gateway = ?1 AND (?2 = '' OR log = ?2) ORDER BY log, seq`, s.gateway, log)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a store.Anchor
		if err := rows.Scan(&a.Log, &a.Day, &a.Seq, &a.Note); err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, rows.Err()
}
