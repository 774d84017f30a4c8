// Package sqlite keeps a store's rows in a file of one machine. It decides how
// they lie on the disk and when they are safe there; it never decides what may
// become of a credential or a token.
//
// Several processes of the machine may have the file open at once, as they do
// while one takes over from another. The machine's clock is the store's.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/scopegate/scopegate/store"
)

// maxReaders is how many reads may run at once. Each has a connection with a
// page cache of its own.
const maxReaders = 4

// patience is how long a call waits for other processes that write.
const patience = 5 * time.Second

var errClosed = errors.New("the store is closed")

// Store is the store of one gateway. It is safe for concurrent use.
type Store struct {
	gateway string
	path    string

	writer  *sql.DB // one connection: SQLite has one writer at a time anyway
	readers *sql.DB
	watcher *sql.DB // one connection, see watch

	// Of the readers, for what a request waits for.
	lookup *sql.Stmt // lookupQuery
	token  *sql.Stmt // tokenQuery

	hints  chan struct{}
	life   context.Context // ends with the Store, and with it what Close does not wait for
	end    context.CancelFunc
	ending sync.WaitGroup

	calls  sync.RWMutex // held for reading by each call, so that Close waits for it
	closed bool
}

// Open opens the file for one gateway, and makes it if there is none. The file
// and its folder are made for their owner alone.
func Open(ctx context.Context, path, gateway string) (*Store, error) {
	s, err := open(ctx, path, gateway)
	if err != nil {
		return nil, fmt.Errorf("opening the store %q: %w", path, understood(err))
	}
	return s, nil
}

func open(ctx context.Context, path, gateway string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := prepare(path); err != nil {
		return nil, err
	}
	if err := migrate(ctx, path); err != nil {
		return nil, err
	}
	s := &Store{gateway: gateway, path: path, hints: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.disconnect())
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context) (err error) {
	if s.writer, err = connect(s.path, 1, writing); err != nil {
		return err
	}
	if s.readers, err = connect(s.path, maxReaders, reading); err != nil {
		return err
	}
	if s.watcher, err = connect(s.path, 1, reading); err != nil {
		return err
	}
	if s.lookup, err = s.readers.PrepareContext(ctx, lookupQuery); err != nil {
		return err
	}
	if s.token, err = s.readers.PrepareContext(ctx, tokenQuery); err != nil {
		return err
	}
	seen, err := s.dataVersion(ctx)
	if err != nil {
		return err
	}
	s.ending.Go(func() { s.watch(seen) })
	return nil
}

// Close waits for the calls that are under way, except for a Backup, which it
// stops.
func (s *Store) Close() error {
	s.end()
	s.calls.Lock()
	defer s.calls.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.ending.Wait()
	close(s.hints)
	if err := s.disconnect(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

func (s *Store) disconnect() error {
	s.end()
	var errs []error
	for _, stmt := range []*sql.Stmt{s.lookup, s.token} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	for _, db := range []*sql.DB{s.watcher, s.readers, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// read runs a call that changes nothing. Each statement in it sees one
// snapshot.
func (s *Store) read(doing string, call func() error) error {
	s.calls.RLock()
	defer s.calls.RUnlock()
	if s.closed {
		return fmt.Errorf("%s: %w", doing, errClosed)
	}
	if err := call(); err != nil {
		return fmt.Errorf("%s: %w", doing, understood(err))
	}
	return nil
}

// write runs a call in a transaction that nobody else writes in the meantime,
// and that is on the disk when it ends without an error. The time is read
// under the lock, so that later revisions have later times.
func (s *Store) write(ctx context.Context, doing string, call func(tx *sql.Tx, now time.Time) error) error {
	return s.read(doing, func() error { return s.transact(ctx, call) })
}

// change is write for what followers of the feed must hear of.
func (s *Store) change(ctx context.Context, doing string, call func(tx *sql.Tx, now time.Time) error) error {
	return s.read(doing, func() error {
		err := s.transact(ctx, call)
		if err == nil {
			s.hint()
		}
		return err
	})
}

func (s *Store) transact(ctx context.Context, call func(tx *sql.Tx, now time.Time) error) (err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = ctx.Err() // of which a transaction may only say that it is over
		}
	}()
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	if err := call(tx, clock()); err != nil {
		return err
	}
	return tx.Commit()
}

// begin takes the lock for writing. SQLite by itself asks for it less and less
// often, in the end ten times a second. Beside a process that writes without a
// pause, as a bulk change does, it would hardly ever find it free and give up
// while the other goes on. So it is made to give up at once, and to begin anew.
func (s *Store) begin(ctx context.Context) (*sql.Tx, error) {
	for deadline := time.Now().Add(patience); ; {
		tx, err := s.writer.BeginTx(ctx, nil)
		if !busy(err) || time.Now().After(deadline) {
			return tx, err
		}
	}
}

// understood tells a damaged database from one that could not be asked.
func understood(err error) error {
	switch code(err) & 0xff {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	default:
		return err
	}
}

// busy tells whether another process was in the way.
func busy(err error) bool { return code(err)&0xff == lib.SQLITE_BUSY }

// taken tells whether a row was refused because there is one like it.
func taken(err error) bool {
	c := code(err)
	return c == lib.SQLITE_CONSTRAINT_PRIMARYKEY || c == lib.SQLITE_CONSTRAINT_UNIQUE
}

// code returns SQLite's extended code of a failure, 0 if it is not SQLite's.
func code(err error) int {
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return 0
	}
	return failure.Code()
}
