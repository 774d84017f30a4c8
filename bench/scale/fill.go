package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // fills the file at once, which no gateway has to

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store/sqlite"
)

// fill makes a store of n credentials and returns the keys of some of them.
func fill(ctx context.Context, path string, n, some int) (keys []string, err error) {
	st, err := sqlite.Open(ctx, path, "default")
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // it was committed, or there is another error
	row, err := tx.PrepareContext(ctx, `INSERT INTO scopegate_credentials
		(gateway, id, team, name, state, note, static, created, created_by, changed, revision)
		VALUES ('default', ?, 'billing', ?, 'active', '', 0, 1, 'scale', 1, ?)`)
	if err != nil {
		return nil, err
	}
	defer row.Close()
	generation, err := tx.PrepareContext(ctx, `INSERT INTO scopegate_generations
		(gateway, id, number, hash, created, ends_on_use) VALUES ('default', ?, 1, ?, 1, 0)`)
	if err != nil {
		return nil, err
	}
	defer generation.Close()
	every := max(n/some, 1)
	for i := range n {
		key := credential.Generate()
		hash := key.Hash()
		if _, err := row.ExecContext(ctx, key.ID(), fmt.Sprintf("c%d", i), i+1); err != nil {
			return nil, err
		}
		if _, err := generation.ExecContext(ctx, key.ID(), hash[:]); err != nil {
			return nil, err
		}
		if i%every == 0 && len(keys) < some {
			keys = append(keys, key.Reveal())
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO scopegate_gateways (gateway, revision) VALUES ('default', ?)
		ON CONFLICT (gateway) DO UPDATE SET revision = excluded.revision`, n); err != nil {
		return nil, err
	}
	return keys, tx.Commit()
}
