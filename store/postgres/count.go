package postgres

import "context"

// Spend takes one of what a team may spend in a period. Periods are to sort by
// time. The one before this one is kept, so that a late spending from there is
// still counted; those before it are forgotten.
func (s *Store) Spend(ctx context.Context, team, period string, limit int) (bool, error) {
	if limit <= 0 {
		return false, nil
	}
	return s.write(ctx, "counting", spendQuery, s.gateway, team, period, limit)
}

const spendQuery = `WITH gone AS (
		DELETE FROM scopegate_counts WHERE gateway = $1 AND team = $2 AND period <
			(SELECT max(period) FROM scopegate_counts WHERE gateway = $1 AND team = $2 AND period < $3))
	INSERT INTO scopegate_counts AS c (gateway, team, period, spent) VALUES ($1, $2, $3, 1)
	ON CONFLICT (gateway, team, period) DO UPDATE SET spent = c.spent + 1 WHERE c.spent < $4`

// Refund gives one back.
func (s *Store) Refund(ctx context.Context, team, period string) error {
	_, err := s.write(ctx, "counting back", refundQuery, s.gateway, team, period)
	return err
}

const refundQuery = `UPDATE scopegate_counts SET spent = spent - 1
	WHERE gateway = $1 AND team = $2 AND period = $3 AND spent > 0`
