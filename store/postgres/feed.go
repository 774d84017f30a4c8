package postgres

import (
	"context"
	"time"

	"github.com/scopegate/scopegate/store"
)

// defaultChanges is how many changes are read at once if nothing is said.
const defaultChanges = 1000

// changesQuery is one statement, so that the store's revision and the list are
// of one snapshot: a revision behind which the list has not yet looked would
// make its reader miss a change for good.
const changesQuery = `SELECT g.now, g.revision, c.id, c.revision, c.changed
	FROM (SELECT clock_timestamp() AS now,
		coalesce((SELECT revision FROM scopegate_gateways WHERE gateway = $1), 0) AS revision) g
	LEFT JOIN (SELECT id, revision, changed FROM scopegate_credentials
		WHERE gateway = $1 AND revision > $2 ORDER BY revision LIMIT $3) c ON true
	ORDER BY c.revision`

// Changes returns what happened behind a revision.
func (s *Store) Changes(ctx context.Context, since int64, limit int) (c store.Changes, err error) {
	if limit <= 0 {
		limit = defaultChanges
	}
	err = s.read(ctx, "reading what changed", func(ctx context.Context) error {
		c, err = s.changes(ctx, since, limit)
		return err
	})
	if err != nil {
		return store.Changes{}, err
	}
	return c, nil
}

func (s *Store) changes(ctx context.Context, since int64, limit int) (c store.Changes, err error) {
	rows, err := s.pool.Query(ctx, changesQuery, s.gateway, since, limit+1)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for rows.Next() {
		var id *string
		var revision *int64
		var at time.Time
		if err := rows.Scan(moment{&c.Now}, &c.Revision, &id, &revision, moment{&at}); err != nil {
			return c, err
		}
		if id == nil {
			continue // nothing changed: the row is there for the revision alone
		}
		if c.More = len(c.List) == limit; c.More {
			continue
		}
		c.List = append(c.List, store.Change{ID: *id, Revision: *revision, At: at})
	}
	return c, rows.Err()
}
