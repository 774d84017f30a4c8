package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The statements of which a test asks how they are run.
const (
	LookupQuery  = lookupQuery
	ChangesQuery = changesQuery
	PlacesQuery  = placesQuery
	UsedQuery    = usedQuery
)

// PageQuery is the statement of a page.
var PageQuery = pageQuery

// Change runs what a test likes in a change's transaction.
func (s *Store) Change(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.change(ctx, "testing", func(_ context.Context, tx *step) error { return do(tx) })
}
