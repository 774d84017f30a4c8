package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/scopegate/scopegate/store"
)

// defaultPage is how many rows a page of credentials has if nothing is said.
const defaultPage = 100

// columns are those that collect reads.
const columns = `c.id, c.team, c.name, c.state, c.note, c.static, c.scopes, c.allowed_ips, c.not_before, c.expires,
	c.created, c.created_by, c.changed, c.revision, c.used, c.used_address, c.used_operation,
	g.number, g.hash, g.created, g.ends, g.ends_on_use`

// A credential and its generations are read by one statement: two would see
// two snapshots, and with them a credential that never was.
const lookupQuery = `SELECT ` + columns + `
	FROM scopegate_credentials c LEFT JOIN scopegate_generations g ON g.gateway = c.gateway AND g.id = c.id
	WHERE c.gateway = ? AND c.id = ? ORDER BY g.number DESC`

// Credential returns the row with an id.
func (s *Store) Credential(ctx context.Context, id string) (c store.Credential, err error) {
	err = s.read("reading a credential", func() error {
		c, err = single(s.lookup.QueryContext(ctx, s.gateway, id))
		return err
	})
	return c, err
}

// Credentials returns a page of the rows that the filter chooses, in the order
// of their ids, and the After of the page behind it, if there is one.
func (s *Store) Credentials(ctx context.Context, f store.Filter) (page []store.Credential, next string, err error) {
	size := f.Limit
	if size <= 0 {
		size = defaultPage
	}
	query, args := pageQuery(s.gateway, f, size+1)
	err = s.read("listing credentials", func() error {
		page, err = collect(s.readers.QueryContext(ctx, query, args...))
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(page) > size {
		page = page[:size]
		next = page[size-1].ID
	}
	return page, next, nil
}

// pageQuery has a condition for each field that is set and none for the
// others: a statement that fits all filters would fit no index.
func pageQuery(gateway string, f store.Filter, limit int) (query string, args []any) {
	where, args := strings.Builder{}, []any{gateway}
	and := func(condition string, values ...any) {
		where.WriteString(" AND ")
		where.WriteString(condition)
		args = append(args, values...)
	}
	from := `scopegate_credentials`
	if f.Team != "" {
		and("team = ?", f.Team)
		from += ` INDEXED BY scopegate_credentials_team` // see placesQuery
	}
	if len(f.States) > 0 {
		states := make([]any, len(f.States))
		for i, state := range f.States {
			states[i] = state
		}
		and("state IN (?"+strings.Repeat(", ?", len(states)-1)+")", states...)
	}
	if !f.ExpiresBefore.IsZero() {
		and("expires < ?", f.ExpiresBefore.UnixMicro())
	}
	if !f.CreatedBefore.IsZero() {
		and("created < ?", f.CreatedBefore.UnixMicro())
	}
	if !f.UsedBefore.IsZero() {
		and("coalesce(used, created) < ?", f.UsedBefore.UnixMicro())
	}
	if f.After != "" {
		and("id > ?", f.After)
	}
	query = `SELECT ` + columns + `
		FROM (SELECT * FROM ` + from + ` WHERE gateway = ?` + where.String() + ` ORDER BY id LIMIT ?) c
		LEFT JOIN scopegate_generations g ON g.gateway = c.gateway AND g.id = c.id
		ORDER BY c.id, g.number DESC`
	return query, append(args, limit)
}

// single returns the one credential of an answer.
func single(rows *sql.Rows, err error) (store.Credential, error) {
	found, err := collect(rows, err)
	if err != nil {
		return store.Credential{}, err
	}
	if len(found) == 0 {
		return store.Credential{}, store.ErrNotFound
	}
	return found[0], nil
}

// collect reads rows that have one generation each, those of one credential
// behind each other.
func collect(rows *sql.Rows, err error) (found []store.Credential, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c store.Credential
		var g generation
		err := rows.Scan(&c.ID, &c.Team, &c.Name, &c.State, &c.Note, &c.Static,
			list{&c.Scopes}, list{&c.AllowedIPs}, timestamp{&c.NotBefore}, timestamp{&c.Expires},
			timestamp{&c.Created}, &c.CreatedBy, timestamp{&c.Changed}, &c.Revision,
			timestamp{&c.Used.At}, &c.Used.Address, &c.Used.Operation,
			&g.number, &g.hash, timestamp{&g.created}, timestamp{&g.ends}, &g.endsOnUse)
		if err != nil {
			return nil, err
		}
		if n := len(found); n == 0 || found[n-1].ID != c.ID {
			found = append(found, c)
		}
		if !g.number.Valid {
			continue
		}
		key, err := g.read()
		if err != nil {
			return nil, err
		}
		last := &found[len(found)-1]
		last.Generations = append(last.Generations, key)
	}
	return found, rows.Err()
}

// generation is one side of a join, NULL for a credential without any.
type generation struct {
	number        sql.NullInt64
	hash          sql.RawBytes
	created, ends time.Time
	endsOnUse     sql.NullBool
}

func (g *generation) read() (store.Generation, error) {
	key := store.Generation{Number: int(g.number.Int64), Created: g.created, Ends: g.ends, EndsOnUse: g.endsOnUse.Bool}
	if copy(key.Hash[:], g.hash) != len(key.Hash) {
		return store.Generation{}, fmt.Errorf("%w: a hash of %d bytes", store.ErrCorrupt, len(g.hash))
	}
	return key, nil
}
