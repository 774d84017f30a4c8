package postgres_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/postgres"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// silent fails if an error holds a connection string or its password, however
// it is printed.
func silent(t *testing.T, dsn string, err error) {
	t.Helper()
	u, parseErr := url.Parse(dsn)
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	password, _ := u.User.Password()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := e.Error(); strings.Contains(text, password) || strings.Contains(text, dsn) {
			t.Errorf("an error holds the connection string: %s", text)
		}
	}
	if failed := (*pgconn.ConnectError)(nil); errors.As(err, &failed) {
		t.Error("an error carries the configuration, for whoever prints all of it")
	}
}

// everyCall is one of each kind.
func everyCall(s *postgres.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Credential": func(ctx context.Context) error { _, err := s.Credential(ctx, "id"); return err },
		"Changes":    func(ctx context.Context) error { _, err := s.Changes(ctx, 0, 0); return err },
		"Insert":     func(ctx context.Context) error { _, err := s.Insert(ctx, credential("new"), 0); return err },
		"Beat":       func(ctx context.Context) error { return s.Beat(ctx, store.Replica{ID: "a"}) },
		"Spend":      func(ctx context.Context) error { _, err := s.Spend(ctx, "billing", "2026-11-20", 5); return err },
	}
}

func TestOutage(t *testing.T) {
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Close() })
	dsn := cluster.DSN("postgres")
	s := open(t, dsn, "default")
	insert(t, s, "id")
	for range 2 {
		if err := cluster.Stop(); err != nil {
			t.Fatal(err)
		}
		for name, call := range everyCall(s) {
			start := time.Now()
			err := call(t.Context())
			if err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("%s took %v", name, took)
			}
			silent(t, dsn, err)
		}
		_, err := postgres.Open(t.Context(), dsn, "default")
		if err == nil {
			t.Fatal("opened without a database")
		}
		silent(t, dsn, err)

		drain(s)
		if err := cluster.Start(); err != nil {
			t.Fatal(err)
		}
		// Each works at once, though the connections of the pool are dead.
		if _, err := s.Credential(t.Context(), "id"); err != nil {
			t.Error(err)
		}
		hinted(t, s, "when the database is back")
	}
	for name, call := range everyCall(s) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	drain(s)
	insert(t, s, "after")
	hinted(t, s, "of a change")
}

// Where a database has several addresses, or a name that for a while leads to
// the old one, the store must not stay with a server that can only be read.
func TestStandbyIsPassedBy(t *testing.T) {
	old, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Close() })
	primary, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { primary.Close() })
	both, err := url.Parse(old.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(primary.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := both.User.Password()
	shell(t, primary.DSN("postgres"), `ALTER USER postgres PASSWORD '`+password+`'`)
	open(t, old.DSN("postgres"), "default") // which migrates it
	if err := errors.Join(old.Stop(), old.Demote(), old.Start()); err != nil {
		t.Fatal(err)
	}
	both.Host += "," + other.Host
	s := open(t, both.String(), "default")
	insert(t, s, "id")

	_, err = postgres.Open(t.Context(), old.DSN("postgres"), "default")
	if err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("opened a standby: %v", err)
	}
	silent(t, old.DSN("postgres"), err)
}

// When a database fails over, each connection of the pool is found dead by
// whoever takes it next. A request is not to be refused for that.
func TestReadsOutliveTheirConnections(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, with(t, dsn, "pool_max_conns=8&pool_min_conns=8"), "default", postgres.WithoutNotify())
	insert(t, s, "id")
	other := connect(t, dsn)
	for range 5 {
		var killed int
		eventually(t, "a pool of connections", func() bool {
			err := other.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'scopegate'`).Scan(&killed)
			if err != nil {
				t.Fatal(err)
			}
			readAtOnce(t, s)
			return killed > 4
		})
		_, err := other.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'scopegate'`)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Credential(t.Context(), "id"); err != nil {
			t.Errorf("after %d connections ended: %v", killed, err)
		}
	}
}

// readAtOnce makes a store use as many connections as it may.
func readAtOnce(t *testing.T, s *postgres.Store) {
	t.Helper()
	var reads sync.WaitGroup
	for range 32 {
		reads.Go(func() {
			if _, err := s.Credential(t.Context(), "id"); err != nil {
				t.Error(err)
			}
		})
	}
	reads.Wait()
}

// A database that takes connections and says nothing must not hold anybody.
func TestOpenGivesUpOnASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dsn := "postgres://ops:topsecret@" + l.Addr().String() + "/scopegate?sslmode=disable"
	start := time.Now()
	_, err = postgres.Open(t.Context(), dsn, "default")
	if took := time.Since(start); err == nil || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	silent(t, dsn, err)
}

func TestOpenKeepsConnectionStringsToItself(t *testing.T) {
	tests := []struct{ name, dsn, want string }{
		{"empty", "", "empty"},
		{"no port", "postgres://ops:topsecret@192.0.2.1:port/x", "percent-encoded"},
		{"a slash in the password", "postgres://ops:top/secret@192.0.2.1/x", "percent-encoded"},
		{"no URL", "topsecret", "percent-encoded"},
		{"words", "host=192.0.2.1 password=topsecret port=x", "percent-encoded"},
		{"open quotes", "host=192.0.2.1 password='topsecret", "percent-encoded"},
		{"pool size", "postgres://ops:topsecret@192.0.2.1/x?pool_max_conns=many", "percent-encoded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), tt.dsn, "default")
			if err == nil {
				t.Fatal("opened")
			}
			if text := err.Error(); !strings.Contains(text, tt.want) || strings.Contains(text, "secret@") || strings.Contains(text, "topsecret") {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestWrongPasswordIsKeptBack(t *testing.T) {
	u, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("nobody-known", "topsecret")
	_, err = postgres.Open(t.Context(), u.String(), "default")
	if err == nil || !strings.Contains(err.Error(), "nobody-known") { // the database says who
		t.Fatalf("%v", err)
	}
	silent(t, u.String(), err)
}

// Whoever waits for a lock is answered in time, and takes no connection from
// those who only read.
func TestChangesThatWaitLeaveReadersAlone(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	insert(t, s, "id")
	blocker := connect(t, dsn)
	if _, err := blocker.Exec(t.Context(), `BEGIN; SELECT 1 FROM scopegate_gateways FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const writers = 20
	errs := make(chan error, writers)
	start := time.Now()
	for i := range writers {
		go func() {
			_, err := s.Insert(t.Context(), credential(string(rune('a'+i))), 0)
			errs <- err
		}()
	}
	waiting(t, dsn)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := s.Credential(ctx, "id"); err != nil {
			t.Error(err)
		}
		cancel()
	}
	for range writers {
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if _, err := blocker.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	insert(t, s, "next")
}

// Whoever waits behind a long change of the same process and gives up takes no
// connections from those who only read: they are as good as they were.
func TestGivingUpATurnKeepsConnections(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, with(t, dsn, "pool_max_conns=4&pool_min_conns=4"), "default", postgres.WithoutNotify())
	insert(t, s, "id")
	readAtOnce(t, s)
	other := connect(t, dsn)
	connections := func() (pids []int32) {
		t.Helper()
		rows, err := other.Query(t.Context(), `SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'scopegate' ORDER BY pid`)
		if err != nil {
			t.Fatal(err)
		}
		if pids, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	eventually(t, "a pool of connections", func() bool { return len(connections()) == 4 })
	before := connections()
	err := s.Change(t.Context(), func(pgx.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Insert(ctx, credential("late"), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind a change: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	readAtOnce(t, s)
	if after := connections(); !slices.Equal(after, before) {
		t.Errorf("connections %v became %v", before, after)
	}
}

// Two that wait for each other are no reason to lose what one of them had to
// write.
func TestDeadlockIsTriedAgain(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	insert(t, s, "a")
	insert(t, s, "b")
	other := connect(t, dsn)
	const lock = `SELECT 1 FROM scopegate_credentials WHERE id = '%s' FOR UPDATE`
	// It leaves it to the store to find out, which makes the store the victim.
	_, err := other.Exec(t.Context(), `SET deadlock_timeout = '1min'; BEGIN; `+strings.ReplaceAll(lock, "%s", "b"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	used := make(chan error)
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	go func() { used <- s.Used(ctx, map[string]store.Use{"a": {At: at}, "b": {At: at}}) }()
	waiting(t, dsn)
	if _, err := other.Exec(ctx, strings.ReplaceAll(lock, "%s", "a")+`; COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-used; err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if c, err := s.Credential(ctx, id); !c.Used.At.Equal(at) {
			t.Errorf("%s was last used at %v, %v", id, c.Used.At, err)
		}
	}
}

// A gateway that vanishes in the middle of a change must not keep the fleet
// from changing anything until its connection is found to be dead.
func TestChangesAreBoundedInTheDatabase(t *testing.T) {
	s := open(t, with(t, pgtest.Database(t), "default_transaction_isolation=serializable"), "default")
	want := map[string]string{
		"idle_in_transaction_session_timeout": "5s", "statement_timeout": "5s", "transaction_isolation": "read committed",
	}
	err := s.Change(t.Context(), func(tx pgx.Tx) error {
		for name, value := range want {
			var got string
			if err := tx.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); got != value || err != nil {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
