package postgres

import (
	"context"
	"time"

	"github.com/scopegate/scopegate/store"
)

// forgotten is after how long a silent replica is no longer told of.
const forgotten = 24 * time.Hour

// Beat stores that a replica lives, and what it has seen.
func (s *Store) Beat(ctx context.Context, r store.Replica) error {
	_, err := s.write(ctx, "telling of a replica", `WITH gone AS (
			DELETE FROM scopegate_replicas WHERE gateway = $1 AND id <> $2 AND beat < clock_timestamp() - $8::interval)
		INSERT INTO scopegate_replicas (gateway, id, host, version, started, revision, silence, beat)
		VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())
		ON CONFLICT (gateway, id) DO UPDATE SET host = excluded.host, version = excluded.version, started = excluded.started,
			revision = excluded.revision, silence = excluded.silence, beat = clock_timestamp()`,
		s.gateway, r.ID, r.Host, r.Version, r.Started.UTC().Truncate(time.Microsecond), r.Revision, r.Silence, forgotten)
	return err
}

// Replicas returns those that beat within the last day, and the store's time.
func (s *Store) Replicas(ctx context.Context) (found []store.Replica, now time.Time, err error) {
	err = s.read(ctx, "listing replicas", func(ctx context.Context) error {
		found, now, err = s.replicas(ctx)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return found, now, nil
}

func (s *Store) replicas(ctx context.Context) (found []store.Replica, now time.Time, err error) {
	rows, err := s.pool.Query(ctx, `SELECT n.now, r.id, r.host, r.version, r.started, r.revision, r.silence, r.beat
		FROM (SELECT clock_timestamp() AS now) n
		LEFT JOIN scopegate_replicas r ON r.gateway = $1 AND r.beat >= n.now - $2::interval
		ORDER BY r.started, r.id`, s.gateway, forgotten)
	if err != nil {
		return nil, now, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, host, version *string
		var revision *int64
		var silence *time.Duration
		var r store.Replica
		if err := rows.Scan(moment{&now}, &id, &host, &version, moment{&r.Started}, &revision, &silence, moment{&r.Beat}); err != nil {
			return nil, now, err
		}
		if id == nil {
			continue // there is none: the row is there for the time alone
		}
		r.ID, r.Host, r.Version, r.Revision, r.Silence = *id, *host, *version, *revision, *silence
		found = append(found, r)
	}
	return found, now, rows.Err()
}

// Leave forgets a replica that ended in good order, so that nobody waits for
// it.
func (s *Store) Leave(ctx context.Context, id string) error {
	_, err := s.write(ctx, "forgetting a replica", `DELETE FROM scopegate_replicas WHERE gateway = $1 AND id = $2`, s.gateway, id)
	return err
}
