package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/scopegate/scopegate/store"
)

// forgotten is after how long a silent replica is no longer told of.
const forgotten = 24 * time.Hour

// Beat stores that a replica lives, and what it has seen.
func (s *Store) Beat(ctx context.Context, r store.Replica) error {
	return s.write(ctx, "telling of a replica", func(tx *sql.Tx, now time.Time) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO scopegate_replicas (gateway, id, host, version, started, revision, silence, beat)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (gateway, id) DO UPDATE SET host = excluded.host, version = excluded.version, started = excluded.started,
				revision = excluded.revision, silence = excluded.silence, beat = excluded.beat`,
			s.gateway, r.ID, r.Host, r.Version, r.Started.UnixMicro(), r.Revision, r.Silence.Microseconds(), micros(now))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM scopegate_replicas WHERE gateway = ? AND beat < ?`, s.gateway, micros(now.Add(-forgotten)))
		return err
	})
}

// Replicas returns those that beat within the last day, and the store's time.
func (s *Store) Replicas(ctx context.Context) (found []store.Replica, now time.Time, err error) {
	err = s.read("listing replicas", func() error {
		now = clock()
		found, err = s.replicas(ctx, now.Add(-forgotten))
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return found, now, nil
}

func (s *Store) replicas(ctx context.Context, since time.Time) (found []store.Replica, err error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT id, host, version, started, revision, silence, beat
		FROM scopegate_replicas WHERE gateway = ? AND beat >= ? ORDER BY started, id`, s.gateway, micros(since))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r store.Replica
		var silence int64
		if err := rows.Scan(&r.ID, &r.Host, &r.Version, timestamp{&r.Started}, &r.Revision, &silence, timestamp{&r.Beat}); err != nil {
			return nil, err
		}
		r.Silence = time.Duration(silence) * time.Microsecond
		found = append(found, r)
	}
	return found, rows.Err()
}

// Leave forgets a replica that ended in good order, so that nobody waits for
// it.
func (s *Store) Leave(ctx context.Context, id string) error {
	return s.write(ctx, "forgetting a replica", func(tx *sql.Tx, _ time.Time) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM scopegate_replicas WHERE gateway = ? AND id = ?`, s.gateway, id)
		return err
	})
}
