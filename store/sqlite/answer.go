package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/store"
)

// answersAtOnce is how many answers that have run out a new one takes with it,
// so that they grow fewer and nobody waits for it.
const answersAtOnce = 10

// expect stores that there will be an answer. Its key is taken by an earlier
// request until that one's time is over.
func (s *Store) expect(ctx context.Context, tx *sql.Tx, a store.Answer, now time.Time) error {
	stored, err := affects(tx.ExecContext(ctx, `INSERT INTO scopegate_answers (gateway, key, nonce, generation, body, until)
		VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (gateway, key) DO UPDATE SET nonce = excluded.nonce, generation = excluded.generation, body = excluded.body,
			sealed = NULL, until = excluded.until WHERE until <= ?`,
		s.gateway, a.Key[:], a.Nonce, a.Generation, a.Body[:], micros(a.Until), micros(now)))
	if err != nil {
		return err
	}
	if !stored {
		return store.ErrExists
	}
	_, err = tx.ExecContext(ctx, forgetAnswersQuery, s.gateway, micros(now), answersAtOnce)
	return err
}

const forgetAnswersQuery = `DELETE FROM scopegate_answers WHERE gateway = ?1 AND key IN
	(SELECT key FROM scopegate_answers WHERE gateway = ?1 AND until <= ?2 ORDER BY until LIMIT ?3)`

// Answer returns the answer to a request, unless its time is over.
func (s *Store) Answer(ctx context.Context, key [32]byte) (a store.Answer, err error) {
	err = s.read("reading an answer", func() error {
		a, err = s.answer(ctx, key)
		return err
	})
	if err != nil {
		return store.Answer{}, err
	}
	return a, nil
}

func (s *Store) answer(ctx context.Context, key [32]byte) (store.Answer, error) {
	a := store.Answer{Key: key}
	var body []byte
	err := s.readers.QueryRowContext(ctx, `SELECT nonce, generation, body, sealed, until FROM scopegate_answers
		WHERE gateway = ? AND key = ? AND until > ?`, s.gateway, key[:], micros(clock())).
		Scan(&a.Nonce, &a.Generation, &body, &a.Sealed, timestamp{&a.Until})
	if errors.Is(err, sql.ErrNoRows) {
		return a, store.ErrNotFound
	}
	if err != nil {
		return a, err
	}
	if copy(a.Body[:], body) != len(a.Body) {
		return a, fmt.Errorf("%w: a body's hash of %d bytes", store.ErrCorrupt, len(body))
	}
	return a, nil
}

// Secret returns what is kept under a name, which is the candidate if it is the
// first. So all who ask have the same.
func (s *Store) Secret(ctx context.Context, name string, candidate []byte) (secret []byte, err error) {
	err = s.write(ctx, "reading a secret", func(tx *sql.Tx, _ time.Time) error {
		return tx.QueryRowContext(ctx, `INSERT INTO scopegate_secrets (gateway, name, value) VALUES (?, ?, ?)
			ON CONFLICT (gateway, name) DO UPDATE SET value = value RETURNING value`, s.gateway, name, candidate).Scan(&secret)
	})
	if err != nil {
		return nil, err
	}
	return secret, nil
}
