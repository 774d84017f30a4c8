package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

// InsertToken makes the row of a token within its bounds, and with it the row
// of the answer to come, if the request may be repeated. Nothing is kept, and
// nothing spent, of one that is refused.
func (s *Store) InsertToken(ctx context.Context, t store.Token, b store.TokenBounds, a *store.Answer) (made store.Token, err error) {
	err = s.queue(ctx, s.mints, "storing a token", func(ctx context.Context, tx pgx.Tx) error {
		if err := s.admitToken(ctx, tx, t.Team, b); err != nil {
			return err
		}
		if made, err = s.insertToken(ctx, tx, t); err != nil {
			return err
		}
		if a == nil {
			return nil
		}
		return s.expect(ctx, tx, *a)
	})
	if err != nil {
		return store.Token{}, err
	}
	return made, nil
}

// admitToken refuses a token that is one too many, and counts one that is not.
// It takes the team's lock first, behind which it sees what others that had it
// have committed: so what is counted stays so.
func (s *Store) admitToken(ctx context.Context, tx pgx.Tx, team string, b store.TokenBounds) error {
	if _, err := tx.Exec(ctx, teamLock, s.gateway, team); err != nil {
		return err
	}
	if b.Live > 0 {
		var others int
		if err := tx.QueryRow(ctx, tokenPlacesQuery, s.gateway, team, b.Live).Scan(&others); err != nil {
			return err
		}
		if others >= b.Live {
			return store.ErrFull
		}
	}
	if b.PerDay > 0 {
		tag, err := tx.Exec(ctx, spendQuery, s.gateway, team, b.Day, b.PerDay)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return store.ErrSpent
		}
	}
	return nil
}

// teamLock is none on a row, since teams have none: they are the
// configuration's. It ends with the transaction, so that it works through a
// pooler. Teams whose names have one hash wait for each other, and that is all.
const teamLock = `SELECT pg_advisory_xact_lock(hashtextextended('scopegate' || chr(31) || $1 || chr(31) || $2, 0))`

// tokenPlacesQuery counts no further than it must.
const tokenPlacesQuery = `SELECT count(*) FROM (SELECT 1 FROM scopegate_tokens
	WHERE gateway = $1 AND team = $2 AND state <> 'gone' AND (expires IS NULL OR expires > clock_timestamp()) LIMIT $3) AS others`

func (s *Store) insertToken(ctx context.Context, tx pgx.Tx, t store.Token) (store.Token, error) {
	made, err := readToken(tx.QueryRow(ctx, `INSERT INTO scopegate_tokens (gateway, nonce, id, team, credential, state, cause, adopted,
			name, scopes, allowed_ips, expires_at, expires, created, created_by, changed, version, attempts, due, failure)
		SELECT $1, $2, nullif($3, ''), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now, $14, now, 1, $15, $16, $17
			FROM (SELECT clock_timestamp() AS now) AS clock RETURNING `+tokenColumns,
		s.gateway, t.Nonce, t.ID, t.Team, t.Credential, t.State, t.Cause, t.Adopted,
		t.Name, t.Scopes, t.AllowedIPs, t.ExpiresAt, stored(t.Expires), t.CreatedBy, t.Attempts, stored(t.Due), t.Failure))
	if taken(err) {
		return store.Token{}, store.ErrExists
	}
	return made, err
}

// UpdateToken changes what may change in a row, unless somebody else did since
// it was read. The answer to the request that made it, if there is one to be
// kept, is known with it or not at all.
func (s *Store) UpdateToken(ctx context.Context, t store.Token, sealed []byte) (made store.Token, err error) {
	err = s.edit(ctx, "changing a token", func(ctx context.Context, tx pgx.Tx) error {
		if made, err = s.updateToken(ctx, tx, t); err != nil || sealed == nil {
			return err
		}
		_, err := tx.Exec(ctx, sealQuery, s.gateway, t.Nonce, sealed)
		return err
	})
	if err != nil {
		return store.Token{}, err
	}
	return made, nil
}

const sealQuery = `UPDATE scopegate_answers SET sealed = $3 WHERE gateway = $1 AND nonce = $2`

func (s *Store) updateToken(ctx context.Context, tx pgx.Tx, t store.Token) (store.Token, error) {
	made, err := readToken(tx.QueryRow(ctx, `UPDATE scopegate_tokens
		SET id = nullif($4, ''), state = $5, cause = $6, attempts = $7, due = $8, failure = $9,
			changed = CASE WHEN state = $5 THEN changed ELSE clock_timestamp() END, version = version + 1
		WHERE gateway = $1 AND nonce = $2 AND version = $3 RETURNING `+tokenColumns,
		s.gateway, t.Nonce, t.Version, t.ID, t.State, t.Cause, t.Attempts, stored(t.Due), t.Failure))
	switch {
	case taken(err):
		return store.Token{}, store.ErrExists
	case errors.Is(err, store.ErrNotFound):
		return store.Token{}, s.missed(ctx, tx, t.Nonce)
	default:
		return made, err
	}
}

// missed tells why a version of a row was not there to be changed.
func (s *Store) missed(ctx context.Context, tx pgx.Tx, nonce string) error {
	if _, err := readToken(tx.QueryRow(ctx, nonceQuery, s.gateway, nonce)); err != nil {
		return err
	}
	return store.ErrChanged
}

// DropToken takes back a row of which nothing came, and the answer that there
// will not be. With a day, it gives back what the row's team has spent in it.
func (s *Store) DropToken(ctx context.Context, nonce string, version int64, day string) error {
	return s.edit(ctx, "dropping a token", func(ctx context.Context, tx pgx.Tx) error {
		var team string
		err := tx.QueryRow(ctx, `DELETE FROM scopegate_tokens WHERE gateway = $1 AND nonce = $2 AND version = $3 RETURNING team`,
			s.gateway, nonce, version).Scan(&team)
		if errors.Is(err, pgx.ErrNoRows) {
			return s.missed(ctx, tx, nonce)
		}
		if err != nil {
			return err
		}
		// The count comes before the answer, as in InsertToken: in another order
		// the two could wait for each other.
		if day != "" {
			if _, err := tx.Exec(ctx, refundQuery, s.gateway, team, day); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, dropAnswerQuery, s.gateway, nonce)
		return err
	})
}

const dropAnswerQuery = `DELETE FROM scopegate_answers WHERE gateway = $1 AND nonce = $2`
