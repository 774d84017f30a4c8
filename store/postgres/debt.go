package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

// movesAtOnce bounds a statement that moves tokens, so that none runs into its
// time limit, and nobody waits for long behind it.
const movesAtOnce = 1000

// DueTokens returns rows in these states of which something is due, those
// first that have waited for the longest.
func (s *Store) DueTokens(ctx context.Context, states []string, limit int) ([]store.Token, error) {
	if limit <= 0 {
		limit = defaultPage
	}
	return s.someTokens(ctx, "reading what is due", dueQuery, s.gateway, states, limit)
}

// dueQuery asks for each state by itself, for its part of the index is in
// order. The time is that of the statement, which stays what it is: the clock's
// is asked for each row anew, so that the index cannot be told where to stop,
// and all that is due some day was looked through.
const dueQuery = `SELECT ` + tokenColumns + `
	FROM (SELECT DISTINCT wanted FROM unnest($2::text[]) AS wanted WHERE wanted <> 'gone') AS states
	CROSS JOIN LATERAL (SELECT * FROM scopegate_tokens
		WHERE gateway = $1 AND state = wanted AND due <= statement_timestamp() ORDER BY due, nonce LIMIT $3) AS tokens
	ORDER BY due, nonce LIMIT $3`

// MoveTokens brings a team's tokens, or a credential's, or those of both, from
// one state to another, and returns how many there were. If it fails, some may
// have been moved; the next call goes on with the others.
func (s *Store) MoveTokens(ctx context.Context, f store.TokenFilter, from, to, cause string) (moved int, err error) {
	if err := f.CheckMove(from, to); err != nil {
		return 0, fmt.Errorf("moving tokens: %w", err)
	}
	query, args := moveQuery(s.gateway, f, from, to, cause)
	for {
		var n int
		err := s.edit(ctx, "moving tokens", func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, query, args...)
			n = int(tag.RowsAffected())
			return err
		})
		if err != nil || n == 0 {
			return moved, err
		}
		moved += n
	}
}

// moveQuery chooses by an index in which a row that was moved is no longer
// found, so that no transaction looks again at what an earlier one did.
func moveQuery(gateway string, f store.TokenFilter, from, to, cause string) (query string, args []any) {
	where, args := ``, []any{gateway, from, to, cause, movesAtOnce}
	and := func(column, value string) {
		args = append(args, value)
		where += fmt.Sprintf(" AND %s = $%d", column, len(args))
	}
	if f.Team != "" {
		and("team", f.Team)
	}
	if f.Credential != "" {
		and("credential", f.Credential)
	}
	return `UPDATE scopegate_tokens AS t SET state = $3, cause = $4, due = clock.now, attempts = 0, failure = '',
			changed = clock.now, version = version + 1
		FROM (SELECT clock_timestamp() AS now) AS clock
		WHERE t.gateway = $1 AND t.nonce = ANY(ARRAY(SELECT nonce FROM scopegate_tokens
			WHERE gateway = $1 AND state = $2 AND state <> 'gone'` + where + ` LIMIT $5 FOR NO KEY UPDATE))`, args
}

// StrandedTokens returns live tokens whose credential was revoked or has
// expired.
func (s *Store) StrandedTokens(ctx context.Context, limit int) ([]store.Token, error) {
	if limit <= 0 {
		limit = defaultPage
	}
	return s.someTokens(ctx, "reading tokens without a credential", strandedQuery, s.gateway, limit)
}

// strandedQuery goes from one credential that has live tokens to the next, and
// looks at the tokens only of those that have ended: there may be very many
// tokens, and very many credentials that never made any.
const strandedQuery = `WITH RECURSIVE minters (credential) AS (
		(SELECT credential FROM scopegate_tokens
			WHERE gateway = $1 AND state = 'live' ORDER BY credential LIMIT 1)
		UNION ALL SELECT (SELECT t.credential FROM scopegate_tokens t
			WHERE t.gateway = $1 AND t.state = 'live' AND t.credential > m.credential ORDER BY t.credential LIMIT 1)
			FROM minters m WHERE m.credential IS NOT NULL),
	ended (minter) AS (SELECT c.id FROM minters m
		CROSS JOIN LATERAL (SELECT c.id, c.state, c.expires FROM scopegate_credentials c
			WHERE c.gateway = $1 AND c.id = m.credential OFFSET 0) AS c
		WHERE c.state = 'revoked' OR c.expires <= clock_timestamp())
	SELECT ` + tokenColumns + ` FROM ended
	CROSS JOIN LATERAL (SELECT * FROM scopegate_tokens WHERE gateway = $1 AND state = 'live' AND credential = minter LIMIT $2) AS tokens
	LIMIT $2`

// TokenCounts counts the tokens that are not gone, by team and state, and says
// of one state how old they are.
func (s *Store) TokenCounts(ctx context.Context, aged string) (counts []store.TokenCount, err error) {
	err = s.read(ctx, "counting tokens", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, tokenCountsQuery, s.gateway, aged)
		if err != nil {
			return err
		}
		counts, err = pgx.AppendRows(counts[:0], rows, readTokenCount)
		return err
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

func readTokenCount(row pgx.CollectableRow) (c store.TokenCount, err error) {
	err = row.Scan(&c.Team, &c.State, &c.N, moment{&c.Oldest})
	return c, err
}

const tokenCountsQuery = `SELECT team, state, count(*), min(changed) FILTER (WHERE state = $2) FROM scopegate_tokens
	WHERE gateway = $1 AND state <> 'gone' GROUP BY team, state ORDER BY team, state`
