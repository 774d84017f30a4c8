package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/scopegate/scopegate/store"
)

// tokenColumns are those that readToken reads.
const tokenColumns = `nonce, coalesce(id, ''), team, credential, state, cause, adopted, name, scopes, allowed_ips, expires_at, expires,
	created, changed, created_by, version, attempts, due, failure`

// tokenQuery answers each request for one token, whether it is there or not.
const tokenQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = ? AND id = ?`

// Token returns the row of the token that upstream knows by an id.
func (s *Store) Token(ctx context.Context, id string) (t store.Token, err error) {
	err = s.read("reading a token", func() error {
		t, err = readToken(s.token.QueryRowContext(ctx, s.gateway, id))
		return err
	})
	return t, err
}

// TokenByNonce returns the row with a nonce.
func (s *Store) TokenByNonce(ctx context.Context, nonce string) (t store.Token, err error) {
	err = s.read("reading a token", func() error {
		t, err = readToken(s.readers.QueryRowContext(ctx, nonceQuery, s.gateway, nonce))
		return err
	})
	return t, err
}

const nonceQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = ? AND nonce = ?`

// FindTokens returns the rows that have one of the ids or one of the nonces,
// each once, in the order of their nonces.
func (s *Store) FindTokens(ctx context.Context, ids, nonces []string) (found []store.Token, err error) {
	err = s.read("finding tokens", func() error {
		if n := len(ids) + len(nonces); n > store.MostTokens {
			return fmt.Errorf("%d of them at once are more than %d", n, store.MostTokens)
		}
		byID, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		byNonce, err := json.Marshal(nonces)
		if err != nil {
			return err
		}
		found, err = collectTokens(s.readers.QueryContext(ctx, findQuery, s.gateway, string(byID), string(byNonce)))
		return err
	})
	return found, err
}

// findQuery finds the nonces of the ids first: of two conditions on one row
// SQLite uses no index.
const findQuery = `SELECT ` + tokenColumns + ` FROM scopegate_tokens WHERE gateway = ?1 AND nonce IN (
		SELECT value FROM json_each(?3)
		UNION SELECT nonce FROM scopegate_tokens INDEXED BY scopegate_tokens_id
			WHERE gateway = ?1 AND id IN (SELECT value FROM json_each(?2)))
	ORDER BY nonce`

// Tokens returns a page of the rows that the filter chooses, in the order of
// their nonces, and the After of the page behind it, if there is one.
func (s *Store) Tokens(ctx context.Context, f store.TokenFilter) (page []store.Token, next string, err error) {
	size := f.Limit
	if size <= 0 {
		size = defaultPage
	}
	query, args := tokenPageQuery(s.gateway, f, size+1)
	err = s.read("listing tokens", func() error {
		page, err = collectTokens(s.readers.QueryContext(ctx, query, args...))
		return err
	})
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
	and := func(condition string, values ...any) {
		where.WriteString(" AND ")
		where.WriteString(condition)
		args = append(args, values...)
	}
	var index string // see placesQuery
	if f.Team != "" {
		and("team = ?", f.Team)
		index = ` INDEXED BY scopegate_tokens_team_page`
	}
	if f.Credential != "" {
		and("credential = ?", f.Credential)
		index = ` INDEXED BY scopegate_tokens_credential_page`
	}
	if len(f.States) > 0 {
		and("state IN (?"+strings.Repeat(", ?", len(f.States)-1)+")", anys(f.States)...)
	}
	if f.After != "" {
		and("nonce > ?", f.After)
	}
	query = `SELECT ` + tokenColumns + ` FROM scopegate_tokens` + index + `
		WHERE gateway = ?` + where.String() + ` ORDER BY nonce LIMIT ?`
	return query, append(args, limit)
}

// TeamTokenIDs returns the ids of all live tokens of a team, by which its list
// of tokens is filtered.
func (s *Store) TeamTokenIDs(ctx context.Context, team string) (ids []string, err error) {
	err = s.read("reading a team's tokens", func() error {
		ids, err = collectStrings(s.readers.QueryContext(ctx, teamIDsQuery, s.gateway, team))
		return err
	})
	return ids, err
}

// That no live row is gone goes without saying, but not for SQLite, which
// would leave the index alone.
const teamIDsQuery = `SELECT id FROM scopegate_tokens INDEXED BY scopegate_tokens_team
	WHERE gateway = ? AND team = ? AND state = 'live' AND state <> 'gone' AND id IS NOT NULL ORDER BY id`

// readToken reads the one row of an answer.
func readToken(row interface{ Scan(to ...any) error }) (t store.Token, err error) {
	err = row.Scan(&t.Nonce, &t.ID, &t.Team, &t.Credential, &t.State, &t.Cause, &t.Adopted, &t.Name,
		list{&t.Scopes}, list{&t.AllowedIPs}, &t.ExpiresAt, timestamp{&t.Expires},
		timestamp{&t.Created}, timestamp{&t.Changed}, &t.CreatedBy, &t.Version, &t.Attempts, timestamp{&t.Due}, &t.Failure)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Token{}, store.ErrNotFound
	}
	return t, err
}

func collectTokens(rows *sql.Rows, err error) (found []store.Token, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		t, err := readToken(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, rows.Err()
}

func collectStrings(rows *sql.Rows, err error) (found []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, rows.Err()
}

// anys are strings as arguments of a statement.
func anys(list []string) []any {
	args := make([]any, len(list))
	for i, s := range list {
		args[i] = s
	}
	return args
}
