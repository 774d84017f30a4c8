// Package sqlitefill makes SQLite stores of very many credentials or tokens for
// benches, in one transaction: no gateway has to, and one by one it would take
// an hour. It knows the tables as store/sqlite has them, and no rule.
package sqlitefill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/scopegate/scopegate/store/sqlite"
)

// Fill adds n active credentials to a new store of the gateway default, each
// with the team, the id and the hash that next returns.
func Fill(ctx context.Context, path string, n int, next func(i int) (team, id string, hash [32]byte)) error {
	return fill(ctx, path, func(tx *sql.Tx) error {
		credential, err := tx.PrepareContext(ctx, `INSERT INTO scopegate_credentials
			(gateway, id, team, name, state, note, static, created, created_by, changed, revision)
			VALUES ('default', ?, ?, ?, 'active', '', 0, 1, 'fill', 1, ?)`)
		if err != nil {
			return err
		}
		defer credential.Close()
		generation, err := tx.PrepareContext(ctx, `INSERT INTO scopegate_generations
			(gateway, id, number, hash, created, ends_on_use) VALUES ('default', ?, 1, ?, 1, 0)`)
		if err != nil {
			return err
		}
		defer generation.Close()
		for i := range n {
			team, id, hash := next(i)
			if _, err := credential.ExecContext(ctx, id, team, fmt.Sprintf("c%d", i), i+1); err != nil {
				return err
			}
			if _, err := generation.ExecContext(ctx, id, hash[:]); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO scopegate_gateways (gateway, revision) VALUES ('default', ?)
			ON CONFLICT (gateway) DO UPDATE SET revision = excluded.revision`, n)
		return err
	})
}

// fill makes the tables, if there are none, and runs a transaction on them.
func fill(ctx context.Context, path string, rows func(tx *sql.Tx) error) (err error) {
	st, err := sqlite.Open(ctx, path, "default")
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)&_pragma=cache_size(-524288)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it was committed, or there is another error
	if err := rows(tx); err != nil {
		return err
	}
	return tx.Commit()
}
