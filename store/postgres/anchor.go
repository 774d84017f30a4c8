package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

// Anchor keeps a signature of an audit log: of each log the one that reaches
// furthest of each day.
func (s *Store) Anchor(ctx context.Context, a store.Anchor) error {
	_, err := s.write(ctx, "keeping an anchor", `INSERT INTO scopegate_anchors AS a (gateway, log, day, seq, note) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (gateway, log, day) DO UPDATE SET seq = excluded.seq, note = excluded.note WHERE a.seq < excluded.seq`,
		s.gateway, a.Log, a.Day, a.Seq, a.Note)
	return err
}

// Anchors returns the signatures of a log, of all logs for "", the oldest of
// each first.
func (s *Store) Anchors(ctx context.Context, log string) (found []store.Anchor, err error) {
	err = s.read(ctx, "listing anchors", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `SELECT log, day, seq, note FROM scopegate_anchors
			WHERE gateway = $1 AND ($2 = '' OR log = $2) ORDER BY log, seq`, s.gateway, log)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[store.Anchor])
		return err
	})
	return found, err
}
