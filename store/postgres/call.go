package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/scopegate/scopegate/store"
)

const (
	// callTimeout bounds a call whose context does not.
	callTimeout = 2 * time.Second

	// attempts is how often a call is tried in all.
	attempts = 3
)

// PostgreSQL's codes of errors, as far as they make a difference here.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	serverShutdown       = "57P0" // and one more digit
	dataCorrupted        = "XX001"
	indexCorrupted       = "XX002"
)

// begin says what holds for a transaction, in one round trip. The isolation is
// the one that the statements rely on, whatever the database's default is: the
// one behind a lock sees what was committed before the lock was got. The bounds
// free the locks of a gateway that vanished; they are the transaction's alone,
// so that they work through a pooler.
const begin = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
	SET LOCAL statement_timeout = '5s';
	SET LOCAL idle_in_transaction_session_timeout = '5s'`

// read runs a call that changes nothing.
func (s *Store) read(ctx context.Context, doing string, do func(context.Context) error) error {
	return s.call(ctx, doing, func(err error) bool { return undone(err) || lost(err) }, do)
}

// write runs a statement in a transaction of its own, and tells whether it
// changed a row. If the connection breaks at the wrong moment, nobody knows
// whether it was done.
func (s *Store) write(ctx context.Context, doing, statement string, args ...any) (affected bool, err error) {
	err = s.edit(ctx, doing, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, statement, args...)
		affected = tag.RowsAffected() > 0
		return err
	})
	return affected && err == nil, err
}

// edit is write for what takes more than one statement.
func (s *Store) edit(ctx context.Context, doing string, do func(ctx context.Context, tx pgx.Tx) error) error {
	return s.call(ctx, doing, undone, func(ctx context.Context) error {
		return s.transact(ctx, func(tx pgx.Tx) error { return do(ctx, tx) })
	})
}

// step is one transaction's place in the history of its gateway.
type step struct {
	pgx.Tx
	revision int64
	now      time.Time
}

// change runs a transaction that followers of the feed are to hear of. It takes
// its revision first, and with it the lock on the gateway's row, which it holds
// until it ends: so revisions commit in their order, later ones have later
// times, and what is counted stays so.
func (s *Store) change(ctx context.Context, doing string, do func(ctx context.Context, tx *step) error) error {
	return s.queue(ctx, s.lane, doing, func(ctx context.Context, tx pgx.Tx) error {
		st := &step{Tx: tx}
		if err := tx.QueryRow(ctx, advanceQuery, s.gateway, channel).Scan(&st.revision, moment{&st.now}, nil); err != nil {
			return err
		}
		return do(ctx, st)
	})
}

// queue runs a transaction that waits in the database for others of its kind.
// Those of this process wait here instead, where they hold no connection: that
// one waits too long says nothing of the connections that there are.
func (s *Store) queue(ctx context.Context, lane chan struct{}, doing string, do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := bound(ctx, callTimeout)
	defer cancel()
	select {
	case lane <- struct{}{}:
		defer func() { <-lane }()
	case <-ctx.Done():
		return fmt.Errorf("%s: waiting for its turn: %w", doing, ctx.Err())
	}
	return s.edit(ctx, doing, do)
}

func (s *Store) transact(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: begin}, do)
}

// advanceQuery takes the next revision. The hint is sent when the transaction
// commits, and not at all if it does not.
const advanceQuery = `INSERT INTO scopegate_gateways AS g (gateway, revision) VALUES ($1, 1)
	ON CONFLICT (gateway) DO UPDATE SET revision = g.revision + 1
	RETURNING revision, clock_timestamp(), pg_notify($2, $1)::text`

// call bounds a call in time, and tries it again where again allows it.
func (s *Store) call(ctx context.Context, doing string, again func(error) bool, do func(context.Context) error) error {
	ctx, cancel := bound(ctx, callTimeout)
	defer cancel()
	var err error
	for range attempts {
		if err = do(ctx); err == nil {
			return nil
		}
		if lost(err) {
			s.pool.Reset() // what ended one connection has mostly ended all
		}
		if ctx.Err() != nil || !again(err) {
			break
		}
	}
	return fmt.Errorf("%s: %w", doing, understood(err))
}

// bound gives a context a deadline, unless it has one.
func bound(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// undone tells that nothing was done and that it is worth another try: the
// database chose it as the victim of a deadlock or a conflict, or it was never
// asked.
func undone(err error) bool {
	switch code(err) {
	case deadlockDetected, serializationFailure:
		return true
	default:
		return pgconn.SafeToRetry(err)
	}
}

// lost tells that the connection broke, or that there was none to be had.
// Whether what was asked was done is unknown.
func lost(err error) bool {
	var network net.Error
	return strings.HasPrefix(code(err), serverShutdown) || errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}

// understood tells a damaged database from one that could not be asked, and
// drops from a failed connection what it was made with: its error holds the
// whole configuration, with the password.
func understood(err error) error {
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fmt.Errorf("connecting: %w", failed.Unwrap())
	}
	switch code(err) {
	case dataCorrupted, indexCorrupted:
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	default:
		return err
	}
}

// taken tells whether a row was refused because there is one like it.
func taken(err error) bool { return code(err) == uniqueViolation }

// code returns the database's code of an error, or nothing.
func code(err error) string {
	failure, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	return failure.Code
}
