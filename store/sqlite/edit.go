package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/scopegate/scopegate/store"
)

// usesAtOnce bounds a transaction that writes last uses, so that a revocation
// never waits for long behind them.
const usesAtOnce = 1000

// Insert makes a row. Unless limit is 0, the team may have no more than that
// many that are in force, or will be.
func (s *Store) Insert(ctx context.Context, c store.Credential, limit int) (made store.Credential, err error) {
	err = s.change(ctx, "storing a credential", func(tx *sql.Tx, now time.Time) error {
		c.Created, c.Changed = now, now
		if c.Revision, err = s.advance(ctx, tx, 1); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, &c); err != nil {
			return err
		}
		if limit > 0 {
			if err := s.admit(ctx, tx, &c, limit); err != nil {
				return err
			}
		}
		if err := s.keep(ctx, tx, c.ID, c.Generations, now); err != nil {
			return err
		}
		made, err = single(tx.QueryContext(ctx, lookupQuery, s.gateway, c.ID))
		return err
	})
	if err != nil {
		return store.Credential{}, err
	}
	return made, nil
}

func (s *Store) insert(ctx context.Context, tx *sql.Tx, c *store.Credential) error {
	scopes, err := encoded(c.Scopes)
	if err != nil {
		return err
	}
	networks, err := encoded(c.AllowedIPs)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO scopegate_credentials (gateway, id, team, name, state, note, static,
			scopes, allowed_ips, not_before, expires, created, created_by, changed, revision)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.gateway, c.ID, c.Team, c.Name, c.State, c.Note, c.Static,
		scopes, networks, micros(c.NotBefore), micros(c.Expires), micros(c.Created), c.CreatedBy, micros(c.Changed), c.Revision)
	if taken(err) {
		return store.ErrExists
	}
	return err
}

// admit refuses a credential for which its team has no place. It counts no
// further than it must, for a team may have very many.
func (s *Store) admit(ctx context.Context, tx *sql.Tx, c *store.Credential, limit int) error {
	var others int
	err := tx.QueryRowContext(ctx, placesQuery, s.gateway, c.Team, micros(c.Created), c.ID, limit).Scan(&others)
	if err == nil && others >= limit {
		return store.ErrFull
	}
	return err
}

// SQLite keeps no statistics by itself. Without them it takes a gateway for
// as small as a team, and would look for the team's rows among all.
const placesQuery = `SELECT count(*) FROM (SELECT 1 FROM scopegate_credentials INDEXED BY scopegate_credentials_places
	WHERE gateway = ? AND team = ? AND state <> 'revoked' AND static = 0 AND coalesce(expires, 9223372036854775807) > ? AND id <> ?
	LIMIT ?)`

// Update changes a row, unless somebody else did since it was read. What never
// changes in a row stays as it is, whatever c says.
func (s *Store) Update(ctx context.Context, c store.Credential) (made store.Credential, err error) {
	err = s.change(ctx, "changing a credential", func(tx *sql.Tx, now time.Time) error {
		if err := s.update(ctx, tx, &c, now); err != nil {
			return err
		}
		if err := s.keep(ctx, tx, c.ID, c.Generations, now); err != nil {
			return err
		}
		made, err = single(tx.QueryContext(ctx, lookupQuery, s.gateway, c.ID))
		return err
	})
	if err != nil {
		return store.Credential{}, err
	}
	return made, nil
}

func (s *Store) update(ctx context.Context, tx *sql.Tx, c *store.Credential, now time.Time) error {
	scopes, err := encoded(c.Scopes)
	if err != nil {
		return err
	}
	networks, err := encoded(c.AllowedIPs)
	if err != nil {
		return err
	}
	revision, err := s.advance(ctx, tx, 1)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `UPDATE scopegate_credentials
		SET name = ?, state = ?, note = ?, scopes = ?, allowed_ips = ?, not_before = ?, expires = ?, changed = ?, revision = ?
		WHERE gateway = ? AND id = ? AND revision = ?`,
		c.Name, c.State, c.Note, scopes, networks, micros(c.NotBefore), micros(c.Expires), micros(now), revision,
		s.gateway, c.ID, c.Revision)
	if taken(err) {
		return store.ErrExists
	}
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	if _, err := single(tx.QueryContext(ctx, lookupQuery, s.gateway, c.ID)); err != nil {
		return err
	}
	return store.ErrChanged
}

// keep stores new generations, and the ends of those that are known. It never
// touches a hash: a key that was handed out stays what it was.
func (s *Store) keep(ctx context.Context, tx *sql.Tx, id string, generations []store.Generation, now time.Time) error {
	for _, g := range generations {
		_, err := tx.ExecContext(ctx, `INSERT INTO scopegate_generations (gateway, id, number, hash, created, ends, ends_on_use)
			VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (gateway, id, number) DO UPDATE SET ends = excluded.ends, ends_on_use = excluded.ends_on_use`,
			s.gateway, id, g.Number, g.Hash[:], micros(now), micros(g.Ends), g.EndsOnUse)
		if err != nil {
			return err
		}
	}
	return nil
}

// advance takes the next n revisions and returns the last of them.
func (s *Store) advance(ctx context.Context, tx *sql.Tx, n int64) (revision int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO scopegate_gateways (gateway, revision) VALUES (?1, ?2)
		ON CONFLICT (gateway) DO UPDATE SET revision = revision + ?2 RETURNING revision`, s.gateway, n).Scan(&revision)
	return revision, err
}

// Used stores last uses by id. One that is earlier than what is stored is
// dropped, so that replicas may report in any order.
func (s *Store) Used(ctx context.Context, uses map[string]store.Use) error {
	ids := slices.Sorted(maps.Keys(uses))
	for some := range slices.Chunk(ids, usesAtOnce) {
		err := s.write(ctx, "storing last uses", func(tx *sql.Tx, _ time.Time) error {
			return s.use(ctx, tx, some, uses)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) use(ctx context.Context, tx *sql.Tx, ids []string, uses map[string]store.Use) error {
	stmt, err := tx.PrepareContext(ctx, `UPDATE scopegate_credentials SET used = ?1, used_address = ?2, used_operation = ?3
		WHERE gateway = ?4 AND id = ?5 AND (used IS NULL OR used < ?1)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, id := range ids {
		u := uses[id]
		if _, err := stmt.ExecContext(ctx, micros(u.At), u.Address, u.Operation, s.gateway, id); err != nil {
			return err
		}
	}
	return nil
}

// Restored suspends what is active, after the database came from a backup: it
// may have forgotten that a credential was suspended or revoked.
func (s *Store) Restored(ctx context.Context, note string) (suspended int, err error) {
	err = s.change(ctx, "suspending what a backup had", func(tx *sql.Tx, now time.Time) error {
		last, err := s.advance(ctx, tx, 0)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `UPDATE scopegate_credentials AS c
			SET state = 'suspended', note = ?, changed = ?, revision = ? + r.n
			FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM scopegate_credentials
				WHERE gateway = ?4 AND state = 'active' AND static = 0) AS r
			WHERE c.gateway = ?4 AND c.id = r.id`, note, micros(now), last, s.gateway)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		suspended = int(n)
		_, err = tx.ExecContext(ctx, `UPDATE scopegate_gateways SET revision = revision + ?, restored = ? WHERE gateway = ?`,
			n, micros(now), s.gateway)
		return err
	})
	if err != nil {
		return 0, err
	}
	return suspended, nil
}

// Restoration returns when Restored was called, or the zero time if it was
// ended since, or never was.
func (s *Store) Restoration(ctx context.Context) (at time.Time, err error) {
	err = s.read("reading when a backup was restored", func() error {
		err := s.readers.QueryRowContext(ctx, `SELECT restored FROM scopegate_gateways WHERE gateway = ?`, s.gateway).Scan(timestamp{&at})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return at, err
}

// EndRestoration says that what a restored backup has forgotten was found again.
func (s *Store) EndRestoration(ctx context.Context) error {
	return s.write(ctx, "ending a restoration", func(tx *sql.Tx, _ time.Time) error {
		_, err := tx.ExecContext(ctx, `UPDATE scopegate_gateways SET restored = NULL WHERE gateway = ?`, s.gateway)
		return err
	})
}
