// Package postgres keeps a store's rows in a PostgreSQL database that the
// gateways of a fleet share. It decides how they lie there, in which order
// changes become visible, and how long a call may take; it never decides what
// may become of a credential.
//
// The database's clock is the store's. No error holds the connection string.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout holds for each address of the database, unless the
	// connection string says something else.
	connectTimeout = 2 * time.Second

	// pingTimeout is how long an idle connection may take to show that it
	// still is one. It leaves a call the time to make another.
	pingTimeout = 500 * time.Millisecond

	// openTimeout bounds Open, which may have to wait for a migration.
	openTimeout = time.Minute
)

// keepAlive finds out that the other end is gone where packets vanish, as they
// do after a failover. The system's defaults take two minutes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// Store is the store of one gateway. It is safe for concurrent use.
type Store struct {
	gateway string
	pool    *pgxpool.Pool

	// lane is held by the one call that changes credentials. Those of a
	// gateway wait for each other in the database anyway; waiting there, they
	// would leave no connection to those who read.
	lane chan struct{}

	// mints is held likewise by the one call that inserts a token.
	mints chan struct{}

	deaf      bool // see WithoutNotify
	hints     chan struct{}
	hang      context.CancelFunc // ends the listener
	listening sync.WaitGroup
	closing   sync.Once
}

// Option changes how a store is opened.
type Option func(*Store)

// WithoutNotify opens a store that gives no hints, so that changes are seen by
// polling alone. It is for poolers that cannot LISTEN, such as PgBouncer in
// transaction mode. Neither can such a pooler hold the lock under which the
// schema is migrated, so migrate by opening the store past it once; and one
// that knows no prepared statements wants default_query_exec_mode=exec in the
// connection string.
func WithoutNotify() Option { return func(s *Store) { s.deaf = true } }

// Open opens the database for one gateway, and brings its schema up to this
// version's. The connection string is a URL or words, as libpq and pgxpool
// know them.
func Open(ctx context.Context, dsn, gateway string, opts ...Option) (*Store, error) {
	s, err := open(ctx, dsn, gateway, opts)
	if err != nil {
		return nil, fmt.Errorf("opening the PostgreSQL store: %w", understood(err))
	}
	return s, nil
}

func open(ctx context.Context, dsn, gateway string, opts []Option) (*Store, error) {
	cfg, err := configuration(dsn)
	if err != nil {
		return nil, err
	}
	bounded, cancel := bound(ctx, openTimeout)
	defer cancel()
	if err := migrate(bounded, cfg.ConnConfig); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{gateway: gateway, pool: pool, lane: make(chan struct{}, 1), mints: make(chan struct{}, 1), hints: make(chan struct{}, 1)}
	for _, opt := range opts {
		opt(s)
	}
	life, hang := context.WithCancel(context.WithoutCancel(ctx))
	s.hang = hang
	if !s.deaf {
		s.listening.Go(func() { s.listen(life, cfg.ConnConfig) })
	}
	return s, nil
}

// configuration reads a connection string. What pgx says of a bad one is kept
// back: it quotes the string, and can only guess where in a malformed one the
// password is.
func configuration(dsn string) (*pgxpool.Config, error) {
	if dsn == "" {
		return nil, errors.New("the connection string is empty") // pgx would take what the environment says
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the connection string cannot be read; it is to be like " +
			"postgres://user:password@db.example.com:5432/database, with what is special in a password percent-encoded")
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = pingTimeout
	}
	if params := cfg.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "scopegate"
	}
	if cfg.ConnConfig.ValidateConnect == nil {
		// A name that still leads to the old primary after a failover would give
		// a connection on which nothing can be written, and which stays good.
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	cfg.ConnConfig.DialFunc = dialer.DialContext
	return cfg, nil
}

// Close waits for the calls that are under way, and closes the hints. A second
// Close does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.hang()
		s.listening.Wait()
		close(s.hints)
		s.pool.Close()
	})
	return nil
}

// SynchronousCommit returns what the database says of synchronous_commit.
// Where it is off, a crash of the database can take back the last changes that
// were reported as done, a revocation among them.
func (s *Store) SynchronousCommit(ctx context.Context) (setting string, err error) {
	err = s.read(ctx, "reading synchronous_commit", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT current_setting('synchronous_commit')`).Scan(&setting)
	})
	return setting, err
}
