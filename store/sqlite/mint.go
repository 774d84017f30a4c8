package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/scopegate/scopegate/store"
)

// InsertToken makes the row of a token within its bounds, and with it the row
// of the answer to come, if the request may be repeated. Nothing is kept, and
// nothing spent, of one that is refused.
func (s *Store) InsertToken(ctx context.Context, t store.Token, b store.TokenBounds, a *store.Answer) (made store.Token, err error) {
	err = s.write(ctx, "storing a token", func(tx *sql.Tx, now time.Time) error {
		if err := s.admitToken(ctx, tx, t.Team, b, now); err != nil {
			return err
		}
		if made, err = s.insertToken(ctx, tx, t, now); err != nil {
			return err
		}
		if a == nil {
			return nil
		}
		return s.expect(ctx, tx, *a, now)
	})
	if err != nil {
		return store.Token{}, err
	}
	return made, nil
}

// admitToken refuses a token that is one too many, and counts one that is not.
func (s *Store) admitToken(ctx context.Context, tx *sql.Tx, team string, b store.TokenBounds, now time.Time) error {
	if b.Live > 0 {
		var others int
		err := tx.QueryRowContext(ctx, tokenPlacesQuery, s.gateway, team, micros(now), b.Live).Scan(&others)
		if err != nil {
			return err
		}
		if others >= b.Live {
			return store.ErrFull
		}
	}
	if b.PerDay > 0 {
		spent, err := s.spend(ctx, tx, team, b.Day, b.PerDay)
		if err != nil {
			return err
		}
		if !spent {
			return store.ErrSpent
		}
	}
	return nil
}

// tokenPlacesQuery counts no further than it must.
const tokenPlacesQuery = `SELECT count(*) FROM (SELECT 1 FROM scopegate_tokens INDEXED BY scopegate_tokens_team
	WHERE gateway = ? AND team = ? AND state <> 'gone' AND (expires IS NULL OR expires > ?) LIMIT ?)`

func (s *Store) insertToken(ctx context.Context, tx *sql.Tx, t store.Token, now time.Time) (store.Token, error) {
	scopes, err := encoded(t.Scopes)
	if err != nil {
		return store.Token{}, err
	}
	networks, err := encoded(t.AllowedIPs)
	if err != nil {
		return store.Token{}, err
	}
	made, err := readToken(tx.QueryRowContext(ctx, `INSERT INTO scopegate_tokens (gateway, nonce, id, team, credential, state, cause, adopted,
			name, scopes, allowed_ips, expires_at, expires, created, changed, created_by, version, attempts, due, failure)
		VALUES (?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?) RETURNING `+tokenColumns,
		s.gateway, t.Nonce, t.ID, t.Team, t.Credential, t.State, t.Cause, t.Adopted,
		t.Name, scopes, networks, t.ExpiresAt, micros(t.Expires), micros(now), micros(now), t.CreatedBy,
		t.Attempts, micros(t.Due), t.Failure))
	if taken(err) {
		return store.Token{}, store.ErrExists
	}
	return made, err
}

// UpdateToken changes what may change in a row, unless somebody else did since
// it was read. The answer to the request that made it, if there is one to be
// kept, is known with it or not at all.
func (s *Store) UpdateToken(ctx context.Context, t store.Token, sealed []byte) (made store.Token, err error) {
	err = s.write(ctx, "changing a token", func(tx *sql.Tx, now time.Time) error {
		if made, err = s.updateToken(ctx, tx, t, now); err != nil || sealed == nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE scopegate_answers INDEXED BY scopegate_answers_nonce SET sealed = ? WHERE gateway = ? AND nonce = ?`, sealed, s.gateway, t.Nonce)
		return err
	})
	if err != nil {
		return store.Token{}, err
	}
	return made, nil
}

func (s *Store) updateToken(ctx context.Context, tx *sql.Tx, t store.Token, now time.Time) (store.Token, error) {
	made, err := readToken(tx.QueryRowContext(ctx, `UPDATE scopegate_tokens
		SET id = nullif(?, ''), state = ?, cause = ?, attempts = ?, due = ?, failure = ?,
			changed = CASE WHEN state = ?2 THEN changed ELSE ? END, version = version + 1
		WHERE gateway = ? AND nonce = ? AND version = ? RETURNING `+tokenColumns,
		t.ID, t.State, t.Cause, t.Attempts, micros(t.Due), t.Failure, micros(now), s.gateway, t.Nonce, t.Version))
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
func (s *Store) missed(ctx context.Context, tx *sql.Tx, nonce string) error {
	if _, err := readToken(tx.QueryRowContext(ctx, nonceQuery, s.gateway, nonce)); err != nil {
		return err
	}
	return store.ErrChanged
}

// DropToken takes back a row of which nothing came, and the answer that there
// will not be. With a day, it gives back what the row's team has spent in it.
func (s *Store) DropToken(ctx context.Context, nonce string, version int64, day string) error {
	return s.write(ctx, "dropping a token", func(tx *sql.Tx, _ time.Time) error {
		var team string
		err := tx.QueryRowContext(ctx, `DELETE FROM scopegate_tokens WHERE gateway = ? AND nonce = ? AND version = ? RETURNING team`,
			s.gateway, nonce, version).Scan(&team)
		if errors.Is(err, sql.ErrNoRows) {
			return s.missed(ctx, tx, nonce)
		}
		if err != nil {
			return err
		}
		if day != "" {
			if err := s.refund(ctx, tx, team, day); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM scopegate_answers INDEXED BY scopegate_answers_nonce WHERE gateway = ? AND nonce = ?`, s.gateway, nonce)
		return err
	})
}
