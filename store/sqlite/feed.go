package sqlite

import (
	"context"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	// defaultChanges is how many changes are read at once if nothing is said.
	defaultChanges = 1000

	// watchEvery is how soon another process's commit is seen.
	watchEvery = 100 * time.Millisecond
)

// changesQuery is one statement, so that the store's revision and the list are
// of one snapshot: a revision behind which the list has not yet looked would
// make its reader miss a change for good.
const changesQuery = `SELECT g.revision, c.id, c.revision, c.changed
	FROM (SELECT coalesce((SELECT revision FROM scopegate_gateways WHERE gateway = ?1), 0) AS revision) g
	LEFT JOIN (SELECT id, revision, changed FROM scopegate_credentials
		WHERE gateway = ?1 AND revision > ?2 ORDER BY revision LIMIT ?3) c
	ORDER BY c.revision`

// Changes returns what happened behind a revision.
func (s *Store) Changes(ctx context.Context, since int64, limit int) (c store.Changes, err error) {
	if limit <= 0 {
		limit = defaultChanges
	}
	err = s.read("reading what changed", func() error {
		c, err = s.changes(ctx, since, limit)
		return err
	})
	if err != nil {
		return store.Changes{}, err
	}
	return c, nil
}

func (s *Store) changes(ctx context.Context, since int64, limit int) (c store.Changes, err error) {
	c.Now = clock()
	rows, err := s.readers.QueryContext(ctx, changesQuery, s.gateway, since, limit+1)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for rows.Next() {
		var id *string
		var revision *int64
		var at time.Time
		if err := rows.Scan(&c.Revision, &id, &revision, timestamp{&at}); err != nil {
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

// Hints tells that something may have changed, by this process or another.
// Several hints at once are one. The channel is closed by Close.
func (s *Store) Hints() <-chan struct{} { return s.hints }

func (s *Store) hint() {
	select {
	case s.hints <- struct{}{}:
	default:
	}
}

// watch gives a hint for each commit of other processes. SQLite has no means
// to be told of one, but knows cheaply whether there was any.
func (s *Store) watch(seen int64) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
		}
		version, err := s.dataVersion(s.life)
		if err != nil {
			continue // whoever polls the store finds out for himself
		}
		if version != seen {
			seen = version
			s.hint()
		}
	}
}

// dataVersion returns a number that changes with each commit of another
// connection. It is comparable only to those of the same connection, of which
// the watcher has one.
func (s *Store) dataVersion(ctx context.Context) (version int64, err error) {
	err = s.watcher.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&version)
	return version, err
}
