package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/scopegate/scopegate/store"
)

// tokenColumns are those that readToken reads.
const tokenColumns = `nonce, coalesce(id, ''), team, credential, state, cause, adopted, name, scopes, allowed_ips, expires_at, expires,
	created, changed, created_by, version, attempts, due, failure`

// tokenQuery answers each request for one token, whether it is there or not.
const tokenQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = $1 AND id = $2`

// Token returns the row of the token that upstream knows by an id.
func (s *Store) Token(ctx context.Context, id string) (store.Token, error) {
	return s.oneToken(ctx, tokenQuery, id)
}

// TokenByNonce returns the row with a nonce.
func (s *Store) TokenByNonce(ctx context.Context, nonce string) (store.Token, error) {
	return s.oneToken(ctx, nonceQuery, nonce)
}

const nonceQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = $1 AND nonce = $2`

func (s *Store) oneToken(ctx context.Context, query, key string) (t store.Token, err error) {
	err = s.read(ctx, "reading a token", func(ctx context.Context) error {
		t, err = readToken(s.pool.QueryRow(ctx, query, s.gateway, key))
		return err
	})
	return t, err
}

// FindTokens returns the rows that have one of the ids or one of the nonces,
// each once, in the order of their nonces.
func (s *Store) FindTokens(ctx context.Context, ids, nonces []string) ([]store.Token, error) {
	if n := len(ids) + len(nonces); n > store.MostTokens {
		return nil, fmt.Errorf("finding tokens: %d of them at once are more than %d", n, store.MostTokens)
	}
	return s.someTokens(ctx, "finding tokens", findQuery, s.gateway, ids, nonces)
}

const findQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens
	WHERE gateway = $1 AND (id = ANY($2) OR nonce = ANY($3)) ORDER BY nonce`

// Tokens returns a page of the rows that the filter chooses, in the order of
// their nonces, and the After of the page behind it, if there is one.
func (s *Store) Tokens(ctx context.Context, f store.TokenFilter) (page []store.Token, next string, err error) {
	size := f.Limit
	if size <= 0 {
		size = defaultPage
	}
	query, args := tokenPageQuery(s.gateway, f, size+1)
	page, err = s.someTokens(ctx, "listing tokens", query, args...)
	if err != nil {
		return nil, "", err
	}
	if len(page) > size {
		page = page[:size]
		next = page[size-1].Nonce
	}
	return page, next, nil
}

// tokenPageQuery has no condition for a field that is not set; see pageQuery.
func tokenPageQuery(gateway string, f store.TokenFilter, limit int) (query string, args []any) {
	where, args := strings.Builder{}, []any{gateway}
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&where, " AND "+condition, len(args))
	}
	if f.Team != "" {
		and("team = $%d", f.Team)
	}
	if f.Credential != "" {
		and("credential = $%d", f.Credential)
	}
	if len(f.States) > 0 {
		and("state = ANY($%d)", f.States)
	}
	if f.After != "" {
		and("nonce > $%d", f.After)
	}
	args = append(args, limit)
	return fmt.Sprintf(`SELECT `+tokenColumns+` FROM scopegate_tokens WHERE gateway = $1%s ORDER BY nonce LIMIT $%d`,
		where.String(), len(args)), args
}

// TeamTokenIDs returns the ids of all live tokens of a team, by which its list
// of tokens is filtered.
func (s *Store) TeamTokenIDs(ctx context.Context, team string) (ids []string, err error) {
	err = s.read(ctx, "reading a team's tokens", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, teamIDsQuery, s.gateway, team)
		if err != nil {
			return err
		}
		ids, err = pgx.AppendRows(ids[:0], rows, pgx.RowTo[string])
		return err
	})
	return ids, err
}

const teamIDsQuery = `SELECT id FROM scopegate_tokens
	WHERE gateway = $1 AND team = $2 AND state = 'live' AND id IS NOT NULL ORDER BY id`

// someTokens reads all rows of an answer.
func (s *Store) someTokens(ctx context.Context, doing, query string, args ...any) (found []store.Token, err error) {
	err = s.read(ctx, doing, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		found, err = pgx.AppendRows(found[:0], rows, func(row pgx.CollectableRow) (store.Token, error) { return readToken(row) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// readToken reads one row of an answer, or tells that there is none.
func readToken(row pgx.Row) (t store.Token, err error) {
	err = row.Scan(&t.Nonce, &t.ID, &t.Team, &t.Credential, &t.State, &t.Cause, &t.Adopted, &t.Name,
		&t.Scopes, &t.AllowedIPs, &t.ExpiresAt, moment{&t.Expires},
		moment{&t.Created}, moment{&t.Changed}, &t.CreatedBy, &t.Version, &t.Attempts, moment{&t.Due}, &t.Failure)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Token{}, store.ErrNotFound
	}
	return t, err
}
