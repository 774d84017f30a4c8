package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// The statements of which a test asks how they are run.
const (
	LookupQuery  = lookupQuery
	ChangesQuery = changesQuery
	PlacesQuery  = placesQuery
	UsedQuery    = usedQuery

	TokenQuery         = tokenQuery
	NonceQuery         = nonceQuery
	FindQuery          = findQuery
	TeamIDsQuery       = teamIDsQuery
	TokenPlacesQuery   = tokenPlacesQuery
	DueQuery           = dueQuery
	StrandedQuery      = strandedQuery
	TokenCountsQuery   = tokenCountsQuery
	ForgetAnswersQuery = forgetAnswersQuery
	AnswerQuery        = answerQuery
	SealQuery          = sealQuery
	DropAnswerQuery    = dropAnswerQuery
)

// The statements that are put together from what is asked.
var (
	PageQuery      = pageQuery
	TokenPageQuery = tokenPageQuery
	MoveQuery      = moveQuery
)

// MigrateTo brings an empty database up to an earlier version of the schema.
func MigrateTo(ctx context.Context, dsn string, version int64) (err error) {
	cfg, err := configuration(dsn)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// Change runs what a test likes in a change's transaction.
func (s *Store) Change(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.change(ctx, "testing", func(_ context.Context, tx *step) error { return do(tx) })
}
