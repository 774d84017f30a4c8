package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

// answersAtOnce is how many answers that have run out a new one takes with it,
// so that they grow fewer and nobody waits for it.
const answersAtOnce = 10

// expect stores that there will be an answer. Its key is taken by an earlier
// request until that one's time is over.
func (s *Store) expect(ctx context.Context, tx pgx.Tx, a store.Answer) error {
	tag, err := tx.Exec(ctx, `INSERT INTO scopegate_answers AS a (gateway, key, nonce, generation, body, until)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (gateway, key) DO UPDATE SET nonce = excluded.nonce, generation = excluded.generation, body = excluded.body,
			sealed = NULL, until = excluded.until WHERE a.until <= clock_timestamp()`,
		s.gateway, a.Key[:], a.Nonce, a.Generation, a.Body[:], stored(a.Until))
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return store.ErrExists
	}
	_, err = tx.Exec(ctx, forgetAnswersQuery, s.gateway, answersAtOnce)
	return err
}

// forgetAnswersQuery leaves to another what it is at already. Of its time see
// dueQuery.
const forgetAnswersQuery = `DELETE FROM scopegate_answers WHERE gateway = $1 AND key = ANY(ARRAY(
	SELECT key FROM scopegate_answers WHERE gateway = $1 AND until <= statement_timestamp() ORDER BY until LIMIT $2
	FOR UPDATE SKIP LOCKED))`

// Answer returns the answer to a request, unless its time is over.
func (s *Store) Answer(ctx context.Context, key [32]byte) (a store.Answer, err error) {
	err = s.read(ctx, "reading an answer", func(ctx context.Context) error {
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
	err := s.pool.QueryRow(ctx, answerQuery, s.gateway, key[:]).
		Scan(&a.Nonce, &a.Generation, &body, &a.Sealed, moment{&a.Until})
	if errors.Is(err, pgx.ErrNoRows) {
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

const answerQuery = `SELECT nonce, generation, body, sealed, until FROM scopegate_answers
	WHERE gateway = $1 AND key = $2 AND until > clock_timestamp()`

// Secret returns what is kept under a name, which is the candidate if it is the
// first. So all who ask have the same.
func (s *Store) Secret(ctx context.Context, name string, candidate []byte) (secret []byte, err error) {
	err = s.edit(ctx, "reading a secret", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO scopegate_secrets AS s (gateway, name, value) VALUES ($1, $2, $3)
			ON CONFLICT (gateway, name) DO UPDATE SET value = s.value RETURNING value`, s.gateway, name, candidate).Scan(&secret)
	})
	if err != nil {
		return nil, err
	}
	return secret, nil
}
