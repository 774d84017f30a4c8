package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
	WHERE c.gateway = $1 AND c.id = $2 ORDER BY g.number DESC`

// Credential returns the row with an id.
func (s *Store) Credential(ctx context.Context, id string) (c store.Credential, err error) {
	err = s.read(ctx, "reading a credential", func(ctx context.Context) error {
		c, err = single(s.pool.Query(ctx, lookupQuery, s.gateway, id))
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
	err = s.read(ctx, "listing credentials", func(ctx context.Context) error {
		page, err = collect(s.pool.Query(ctx, query, args...))
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
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&where, " AND "+condition, len(args))
	}
	if f.Team != "" {
		and("team = $%d", f.Team)
	}
	if len(f.States) > 0 {
		and("state = ANY($%d)", f.States)
	}
	if !f.ExpiresBefore.IsZero() {
		and("expires < $%d", stored(f.ExpiresBefore))
	}
	if !f.CreatedBefore.IsZero() {
		and("created < $%d", stored(f.CreatedBefore))
	}
	if !f.UsedBefore.IsZero() {
		and("coalesce(used, created) < $%d", stored(f.UsedBefore))
	}
	if f.After != "" {
		and("id > $%d", f.After)
	}
	args = append(args, limit)
	return fmt.Sprintf(`SELECT `+columns+`
		FROM (SELECT * FROM scopegate_credentials WHERE gateway = $1%s ORDER BY id LIMIT $%d) c
		LEFT JOIN scopegate_generations g ON g.gateway = c.gateway AND g.id = c.id
		ORDER BY c.id, g.number DESC`, where.String(), len(args)), args
}

// single returns the one credential of an answer.
func single(rows pgx.Rows, err error) (store.Credential, error) {
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
func collect(rows pgx.Rows, err error) (found []store.Credential, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c store.Credential
		var g generation
		err := rows.Scan(&c.ID, &c.Team, &c.Name, &c.State, &c.Note, &c.Static,
			&c.Scopes, &c.AllowedIPs, moment{&c.NotBefore}, moment{&c.Expires},
			moment{&c.Created}, &c.CreatedBy, moment{&c.Changed}, &c.Revision,
			moment{&c.Used.At}, &c.Used.Address, &c.Used.Operation,
			&g.number, &g.hash, moment{&g.created}, moment{&g.ends}, &g.endsOnUse)
		if err != nil {
			return nil, err
		}
		if n := len(found); n == 0 || found[n-1].ID != c.ID {
			found = append(found, c)
		}
		if g.number == nil {
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
	number        *int
	hash          []byte
	created, ends time.Time
	endsOnUse     *bool
}

func (g *generation) read() (store.Generation, error) {
	key := store.Generation{Number: *g.number, Created: g.created, Ends: g.ends, EndsOnUse: *g.endsOnUse}
	if copy(key.Hash[:], g.hash) != len(key.Hash) {
		return store.Generation{}, fmt.Errorf("%w: a hash of %d bytes", store.ErrCorrupt, len(g.hash))
	}
	return key, nil
}
