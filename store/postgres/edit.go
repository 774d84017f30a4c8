package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

const (
	// usesAtOnce bounds a statement that writes last uses, so that a
	// revocation never waits for long behind it.
	usesAtOnce = 1000

	// restoreTimeout bounds the one call that changes every row.
	restoreTimeout = 10 * time.Minute
)

// Insert makes a row. Unless limit is 0, the team may have no more than that
// many that are in force, or will be.
func (s *Store) Insert(ctx context.Context, c store.Credential, limit int) (made store.Credential, err error) {
	err = s.change(ctx, "storing a credential", func(ctx context.Context, tx *step) error {
		if err := s.insert(ctx, tx, &c); err != nil {
			return err
		}
		if limit > 0 {
			if err := s.admit(ctx, tx, &c, limit); err != nil {
				return err
			}
		}
		made, err = s.keep(ctx, tx, &c)
		return err
	})
	if err != nil {
		return store.Credential{}, err
	}
	return made, nil
}

func (s *Store) insert(ctx context.Context, tx *step, c *store.Credential) error {
	_, err := tx.Exec(ctx, `INSERT INTO scopegate_credentials (gateway, id, team, name, state, note, static,
			scopes, allowed_ips, not_before, expires, created, created_by, changed, revision)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $14)`,
		s.gateway, c.ID, c.Team, c.Name, c.State, c.Note, c.Static,
		c.Scopes, c.AllowedIPs, stored(c.NotBefore), stored(c.Expires), tx.now, c.CreatedBy, tx.revision)
	if taken(err) {
		return store.ErrExists
	}
	return err
}

// admit refuses a credential for which its team has no place. It counts no
// further than it must, for a team may have very many.
func (s *Store) admit(ctx context.Context, tx *step, c *store.Credential, limit int) error {
	var others int
	err := tx.QueryRow(ctx, placesQuery, s.gateway, c.Team, tx.now, c.ID, limit).Scan(&others)
	if err == nil && others >= limit {
		return store.ErrFull
	}
	return err
}

const placesQuery = `SELECT count(*) FROM (SELECT 1 FROM scopegate_credentials
	WHERE gateway = $1 AND team = $2 AND state <> 'revoked' AND NOT static AND (expires IS NULL OR expires > $3) AND id <> $4
	LIMIT $5) AS others`

// Update changes a row, unless somebody else did since it was read. What never
// changes in a row stays as it is, whatever c says.
func (s *Store) Update(ctx context.Context, c store.Credential) (made store.Credential, err error) {
	err = s.change(ctx, "changing a credential", func(ctx context.Context, tx *step) error {
		if err := s.update(ctx, tx, &c); err != nil {
			return err
		}
		made, err = s.keep(ctx, tx, &c)
		return err
	})
	if err != nil {
		return store.Credential{}, err
	}
	return made, nil
}

func (s *Store) update(ctx context.Context, tx *step, c *store.Credential) error {
	tag, err := tx.Exec(ctx, `UPDATE scopegate_credentials
		SET name = $4, state = $5, note = $6, scopes = $7, allowed_ips = $8, not_before = $9, expires = $10,
			changed = $11, revision = $12
		WHERE gateway = $1 AND id = $2 AND revision = $3`,
		s.gateway, c.ID, c.Revision, c.Name, c.State, c.Note, c.Scopes, c.AllowedIPs, stored(c.NotBefore), stored(c.Expires),
		tx.now, tx.revision)
	if taken(err) {
		return store.ErrExists
	}
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	if _, err := single(tx.Query(ctx, lookupQuery, s.gateway, c.ID)); err != nil {
		return err
	}
	return store.ErrChanged
}

// keep stores new generations, and the ends of those that are known, and
// returns the whole row. It never touches a hash: a key that was handed out
// stays what it was.
func (s *Store) keep(ctx context.Context, tx *step, c *store.Credential) (store.Credential, error) {
	n := len(c.Generations)
	numbers, hashes := make([]int, n), make([][]byte, n)
	ends, onUse := make([]*time.Time, n), make([]bool, n)
	for i, g := range c.Generations {
		numbers[i], hashes[i], ends[i], onUse[i] = g.Number, g.Hash[:], stored(g.Ends), g.EndsOnUse
	}
	_, err := tx.Exec(ctx, `INSERT INTO scopegate_generations (gateway, id, created, number, hash, ends, ends_on_use)
		SELECT $1, $2, $3, * FROM unnest($4::int[], $5::bytea[], $6::timestamptz[], $7::boolean[])
		ON CONFLICT (gateway, id, number) DO UPDATE SET ends = excluded.ends, ends_on_use = excluded.ends_on_use`,
		s.gateway, c.ID, tx.now, numbers, hashes, ends, onUse)
	if err != nil {
		return store.Credential{}, err
	}
	return single(tx.Query(ctx, lookupQuery, s.gateway, c.ID))
}

// Used stores last uses by id. One that is earlier than what is stored is
// dropped, so that replicas may report in any order.
func (s *Store) Used(ctx context.Context, uses map[string]store.Use) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(uses)), usesAtOnce) {
		n := len(ids)
		times, addresses, operations := make([]*time.Time, n), make([]string, n), make([]string, n)
		for i, id := range ids {
			u := uses[id]
			times[i], addresses[i], operations[i] = stored(u.At), u.Address, u.Operation
		}
		if _, err := s.write(ctx, "storing last uses", usedQuery, s.gateway, ids, times, addresses, operations); err != nil {
			return err
		}
	}
	return nil
}

// usedQuery locks the rows in the order of their ids, as other replicas do, so
// that two flushes never wait for each other. What they find is decided behind
// the locks.
const usedQuery = `WITH locked AS (
		SELECT id FROM scopegate_credentials WHERE gateway = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE)
	UPDATE scopegate_credentials c SET used = u.used, used_address = u.address, used_operation = u.operation
	FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[]) AS u (id, used, address, operation)
		JOIN locked ON locked.id = u.id
	WHERE c.gateway = $1 AND c.id = u.id AND (c.used IS NULL OR c.used < u.used)`

// Restored suspends what is active, after the database came from a backup: it
// may have forgotten that a credential was suspended or revoked. It may take
// minutes, in which nothing else is changed.
func (s *Store) Restored(ctx context.Context, note string) (suspended int, err error) {
	ctx, cancel := bound(ctx, restoreTimeout)
	defer cancel()
	err = s.change(ctx, "suspending what a backup had", func(ctx context.Context, tx *step) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', $1, true)`, fmt.Sprint(restoreTimeout.Milliseconds())); err != nil {
			return err
		}
		before := tx.revision - 1
		tag, err := tx.Exec(ctx, `UPDATE scopegate_credentials AS c
			SET state = 'suspended', note = $2, changed = $3, revision = $4 + r.n
			FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM scopegate_credentials
				WHERE gateway = $1 AND state = 'active' AND NOT static) AS r
			WHERE c.gateway = $1 AND c.id = r.id`, s.gateway, note, tx.now, before)
		if err != nil {
			return err
		}
		suspended = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, `UPDATE scopegate_gateways SET revision = $2, restored = $3 WHERE gateway = $1`,
			s.gateway, before+tag.RowsAffected(), tx.now)
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
	err = s.read(ctx, "reading when a backup was restored", func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, `SELECT restored FROM scopegate_gateways WHERE gateway = $1`, s.gateway).Scan(moment{&at})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return at, err
}

// EndRestoration says that what a restored backup has forgotten was found again.
func (s *Store) EndRestoration(ctx context.Context) error {
	_, err := s.write(ctx, "ending a restoration", `UPDATE scopegate_gateways SET restored = NULL WHERE gateway = $1`, s.gateway)
	return err
}
