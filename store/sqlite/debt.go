package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/scopegate/scopegate/store"
)

// movesAtOnce bounds a transaction that moves tokens, so that a revocation
// never waits for long behind it: among a million, each row costs as much as
// half a millisecond.
const movesAtOnce = 250

// DueTokens returns rows in these states of which something is due, those
// first that have waited for the longest.
func (s *Store) DueTokens(ctx context.Context, states []string, limit int) (due []store.Token, err error) {
	if limit <= 0 {
		limit = defaultPage
	}
	now := micros(clock())
	err = s.read("reading what is due", func() error {
		// Each state by itself, for its part of the index is in order.
		for _, state := range slices.Compact(slices.Sorted(slices.Values(states))) {
			some, err := collectTokens(s.readers.QueryContext(ctx, dueQuery, s.gateway, state, now, limit))
			if err != nil {
				return err
			}
			due = append(due, some...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(due, func(a, b store.Token) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Nonce, b.Nonce))
	})
	return due[:min(limit, len(due))], nil
}

const dueQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens INDEXED BY scopegate_tokens_due
	WHERE gateway = ? AND state = ? AND state <> 'gone' AND due <= ? ORDER BY due, nonce LIMIT ?`

// MoveTokens brings a team's tokens, or a credential's, or those of both, from
// one state to another, and returns how many there were. If it fails, some may
// have been moved; the next call goes on with the others.
func (s *Store) MoveTokens(ctx context.Context, f store.TokenFilter, from, to, cause string) (moved int, err error) {
	if err := f.CheckMove(from, to); err != nil {
		return 0, fmt.Errorf("moving tokens: %w", err)
	}
	for {
		n, err := s.move(ctx, f, from, to, cause)
		if err != nil || n == 0 {
			return moved, err
		}
		moved += n
	}
}

func (s *Store) move(ctx context.Context, f store.TokenFilter, from, to, cause string) (moved int, err error) {
	query, args := moveQuery(s.gateway, f, from)
	err = s.write(ctx, "moving tokens", func(tx *sql.Tx, now time.Time) error {
		result, err := tx.ExecContext(ctx, query, append([]any{to, cause, micros(now), micros(now)}, args...)...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		moved = int(n)
		return err
	})
	if err != nil {
		return 0, err
	}
	return moved, nil
}

// moveQuery chooses by an index from which a row is gone once it was moved, so
// that no transaction looks again at what an earlier one did.
func moveQuery(gateway string, f store.TokenFilter, from string) (query string, args []any) {
	index, where, args := `scopegate_tokens_team`, ``, []any{gateway, gateway, from}
	if f.Team != "" {
		where += ` AND team = ?`
		args = append(args, f.Team)
	}
	if f.Credential != "" {
		index = `scopegate_tokens_credential`
		where += ` AND credential = ?`
		args = append(args, f.Credential)
	}
	query = `UPDATE scopegate_tokens SET state = ?, cause = ?, due = ?, attempts = 0, failure = '', changed = ?, version = version + 1
		WHERE gateway = ? AND nonce IN (SELECT nonce FROM scopegate_tokens INDEXED BY ` + index + `
			WHERE gateway = ? AND state = ? AND state <> 'gone'` + where + ` LIMIT ?)`
	return query, append(args, movesAtOnce)
}

// StrandedTokens returns live tokens whose credential was revoked or has
// expired.
func (s *Store) StrandedTokens(ctx context.Context, limit int) (stranded []store.Token, err error) {
	if limit <= 0 {
		limit = defaultPage
	}
	err = s.read("reading tokens without a credential", func() error {
		stranded, err = collectTokens(s.readers.QueryContext(ctx, strandedQuery, s.gateway, micros(clock()), limit))
		return err
	})
	return stranded, err
}

// strandedQuery goes from one credential that has live tokens to the next, and
// looks at the tokens only of those that have ended: there may be very many
// tokens, and very many credentials that never made any.
const strandedQuery = `WITH RECURSIVE minters (credential) AS (
		SELECT (SELECT credential FROM scopegate_tokens INDEXED BY scopegate_tokens_credential
			WHERE gateway = ?1 AND state = 'live' AND state <> 'gone' ORDER BY credential LIMIT 1)
		UNION ALL SELECT (SELECT credential FROM scopegate_tokens INDEXED BY scopegate_tokens_credential
			WHERE gateway = ?1 AND state = 'live' AND state <> 'gone' AND credential > m.credential ORDER BY credential LIMIT 1)
			FROM minters m WHERE m.credential IS NOT NULL)
	SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = ?1 AND nonce IN (
		SELECT t.nonce FROM minters m
			CROSS JOIN scopegate_credentials c ON c.gateway = ?1 AND c.id = m.credential AND (c.state = 'revoked' OR c.expires <= ?2)
			CROSS JOIN scopegate_tokens t INDEXED BY scopegate_tokens_credential
				ON t.gateway = ?1 AND t.state = 'live' AND t.state <> 'gone' AND t.credential = m.credential
		LIMIT ?3)
	ORDER BY nonce`

// TokenCounts counts the tokens that are not gone, by team and state, and says
// of one state how old they are.
func (s *Store) TokenCounts(ctx context.Context, aged string) (counts []store.TokenCount, err error) {
	err = s.read("counting tokens", func() error {
		counts, err = s.tokenCounts(ctx, aged)
		return err
	})
	return counts, err
}

func (s *Store) tokenCounts(ctx context.Context, aged string) (counts []store.TokenCount, err error) {
	rows, err := s.readers.QueryContext(ctx, tokenCountsQuery, s.gateway, aged)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c store.TokenCount
		if err := rows.Scan(&c.Team, &c.State, &c.N, timestamp{&c.Oldest}); err != nil {
			return nil, err
		}
		counts = append(counts, c)
	}
	return counts, rows.Err()
}

// tokenCountsQuery counts along an index that has the teams in order, where it
// need not remember what it has seen, but which does not say how old a row is.
// So that is asked of one state alone, in which there are few.
const tokenCountsQuery = `SELECT n.team, n.state, n.rows, o.oldest
	FROM (SELECT team, state, count(*) AS rows FROM scopegate_tokens INDEXED BY scopegate_tokens_team
		WHERE gateway = ?1 AND state <> 'gone' GROUP BY team, state) n
	LEFT JOIN (SELECT team, min(changed) AS oldest FROM scopegate_tokens INDEXED BY scopegate_tokens_credential
		WHERE gateway = ?1 AND state = ?2 AND state <> 'gone' GROUP BY team) o ON n.state = ?2 AND o.team = n.team
	ORDER BY n.team, n.state`
