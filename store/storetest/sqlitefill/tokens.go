package sqlitefill

import (
	"context"
	"database/sql"
	"time"

	"github.com/scopegate/scopegate/store"
)

// FillTokens adds n tokens to a store of the gateway default, as next
// returns them. Those that are to have no id, no expiry or nothing due say so
// by their zero fields; lists are left out.
func FillTokens(ctx context.Context, path string, n int, next func(i int) store.Token) error {
	return fill(ctx, path, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO scopegate_tokens (gateway, nonce, id, team, credential, state, cause, adopted,
				name, expires_at, expires, created, created_by, changed, version, attempts, due, failure)
			VALUES ('default', ?, nullif(?, ''), ?, ?, ?, '', 0, ?, ?, ?, 1, 'fill', 1, 1, 0, ?, '')`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range n {
			t := next(i)
			_, err := insert.ExecContext(ctx, t.Nonce, t.ID, t.Team, t.Credential, t.State, t.Name, t.ExpiresAt, micros(t.Expires), micros(t.Due))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// micros is how a time is stored; see store/sqlite.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
