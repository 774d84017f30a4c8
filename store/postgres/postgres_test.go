package postgres_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/postgres"
	"github.com/scopegate/scopegate/store/storetest"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

var _ storetest.Store = (*postgres.Store)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dsn, gateway string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, gateway, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// with returns a connection string that has more parameters.
func with(t *testing.T, dsn, params string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = strings.Trim(u.RawQuery+"&"+params, "&")
	return u.String()
}

// suite opens stores as storetest.Run asks for them, with parameters of their
// own in the connection string.
func suite(params string) storetest.Opener {
	databases := map[string]string{}
	return func(t *testing.T, gateway string) storetest.Store {
		if databases[t.Name()] == "" {
			databases[t.Name()] = pgtest.Database(t)
		}
		return open(t, with(t, databases[t.Name()], params), gateway)
	}
}

func TestSuite(t *testing.T) { storetest.Run(t, suite("")) }

// A pooler may know no prepared statements, and a database may have other
// defaults than this one was written on.
func TestSuiteWithOtherDefaults(t *testing.T) {
	storetest.Run(t, suite("default_query_exec_mode=exec&default_transaction_isolation=serializable&timezone=Asia/Kathmandu"))
}

// credential has two generations, so that half of it can be missing.
func credential(id string) store.Credential {
	return store.Credential{
		ID: id, Team: "billing", Name: "key-" + id, State: "active",
		Generations: []store.Generation{{Number: 2, Hash: sha256.Sum256([]byte(id))}, {Number: 1, Hash: sha256.Sum256([]byte(id + "old"))}},
	}
}

func insert(t *testing.T, s *postgres.Store, id string) {
	t.Helper()
	if _, err := s.Insert(t.Context(), credential(id), 0); err != nil {
		t.Fatal(err)
	}
}

// connect reaches the database past the store.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func shell(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn := connect(t, dsn)
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func ask[T any](t *testing.T, dsn, query string) (answer T) {
	t.Helper()
	if err := connect(t, dsn).QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// explain returns how the database would run a statement.
func explain(t *testing.T, dsn, query string, args []any) string {
	t.Helper()
	rows, err := connect(t, dsn).Query(t.Context(), `EXPLAIN `+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

// waiting returns once a store waits for a lock.
func waiting(t *testing.T, dsn string) {
	t.Helper()
	conn := connect(t, dsn)
	eventually(t, "a wait for a lock", func() (waits bool) {
		err := conn.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'scopegate' AND wait_event_type = 'Lock'`).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
}

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestSynchronousCommit(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, want := range []string{"on", "off", "remote_apply"} {
		s := open(t, with(t, dsn, "synchronous_commit="+want), "default")
		if got, err := s.SynchronousCommit(t.Context()); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

// A replica that was killed never leaves. Nobody must wait for it for ever, or
// see it in the list.
func TestSilentReplicasAreForgotten(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	for _, id := range []string{"silent", "quiet", "alive"} {
		if err := s.Beat(t.Context(), store.Replica{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, dsn, `UPDATE scopegate_replicas SET beat = beat - interval '24 hours' WHERE id = 'silent'`,
		`UPDATE scopegate_replicas SET beat = beat - interval '23 hours' WHERE id = 'quiet'`)
	list, _, err := s.Replicas(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.Beat(t.Context(), store.Replica{ID: "alive"}); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](t, dsn, `SELECT count(*) FROM scopegate_replicas`); n != 2 {
		t.Errorf("%d rows", n)
	}
	shell(t, dsn, `UPDATE scopegate_replicas SET beat = beat - interval '25 hours'`)
	if err := s.Beat(t.Context(), store.Replica{ID: "alive"}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.Replicas(t.Context()); err != nil || len(list) != 1 || list[0].ID != "alive" {
		t.Errorf("after a long sleep: %v, %v", list, err)
	}
}

func TestOldCountsAreForgotten(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	spend := func(team, period string) bool {
		ok, err := s.Spend(t.Context(), team, period, 1)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	spend("support", "2026-11-18")
	for _, day := range []string{"2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"} {
		spend("billing", day)
	}
	if n := ask[int](t, dsn, `SELECT count(*) FROM scopegate_counts`); n != 3 {
		t.Errorf("%d rows", n)
	}
	if spend("billing", "2026-11-20") {
		t.Error("a call that was late at midnight was given what was spent already")
	}
}

// Answers are kept for a day. Were they kept for good, a busy team's would be
// most of the database.
func TestOldAnswersAreForgotten(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	promise := func(n int, until time.Time) {
		t.Helper()
		row := store.Token{Nonce: fmt.Sprint(n), Team: "billing", State: "intent"}
		answer := &store.Answer{Key: [32]byte{byte(n)}, Nonce: row.Nonce, Until: until}
		if _, err := s.InsertToken(t.Context(), row, store.TokenBounds{}, answer); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 25 {
		promise(n, time.Now().Add(time.Hour))
	}
	shell(t, dsn, `UPDATE scopegate_answers SET until = now() - interval '1 hour' WHERE CAST(nonce AS INTEGER) > 0`)
	for n, want := range []int{16, 7, 4} { // ten at once, until those are left that were not over
		promise(100+n, time.Now().Add(time.Hour))
		if got := ask[int](t, dsn, `SELECT count(*) FROM scopegate_answers`); got != want {
			t.Errorf("%d answers are kept, want %d", got, want)
		}
	}
}

func TestRestoredIsNoted(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default")
	insert(t, s, "id")
	if ask[bool](t, dsn, `SELECT restored IS NOT NULL FROM scopegate_gateways`) {
		t.Error("restored, before it was")
	}
	if n, err := s.Restored(t.Context(), "restored"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if !ask[bool](t, dsn, `SELECT restored IS NOT NULL FROM scopegate_gateways`) {
		t.Error("not noted")
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	s := open(t, pgtest.Database(t), "default")
	begun, stored := make(chan struct{}), make(chan error)
	blocker := make(chan struct{})
	go func() {
		stored <- s.Change(t.Context(), func(pgx.Tx) error {
			close(begun)
			<-blocker
			return nil
		})
	}()
	<-begun
	var closing sync.WaitGroup
	for range 2 {
		closing.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range s.Hints() { // until Close has ended them
		continue
	}
	close(blocker)
	if err := <-stored; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	closing.Wait()
	if _, err := s.Insert(t.Context(), credential("late"), 0); err == nil {
		t.Error("a closed store stores")
	}
}
