package postgres

import (
	"context"
	"time"
)

// Acquire takes a lease that is free, has run out or is the holder's already.
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	return s.write(ctx, "taking a lease", `INSERT INTO scopegate_leases AS l (gateway, name, holder, until)
		VALUES ($1, $2, $3, clock_timestamp() + $4::interval)
		ON CONFLICT (gateway, name) DO UPDATE SET holder = excluded.holder, until = clock_timestamp() + $4::interval
		WHERE l.holder = excluded.holder OR l.until <= clock_timestamp()`, s.gateway, name, holder, ttl)
}

// Release gives a lease back, if it is still the holder's.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	_, err := s.write(ctx, "giving a lease back",
		`DELETE FROM scopegate_leases WHERE gateway = $1 AND name = $2 AND holder = $3`, s.gateway, name, holder)
	return err
}
