package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/postgres"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// hinted waits for a hint, which must come within a second.
func hinted(t *testing.T, s *postgres.Store, when string) {
	t.Helper()
	select {
	case _, open := <-s.Hints():
		if !open {
			t.Fatalf("no hints any more %s", when)
		}
	case <-time.After(time.Second):
		t.Fatalf("no hint %s", when)
	}
}

func drain(s *postgres.Store) {
	select {
	case <-s.Hints():
	default:
	}
}

// listening returns the connection that a store listens by, once it does.
func listening(t *testing.T, dsn string) (pid int) {
	t.Helper()
	eventually(t, "a listener", func() bool {
		pid = ask[int](t, dsn, `SELECT coalesce(max(pid), 0) FROM pg_stat_activity
			WHERE datname = current_database() AND query ILIKE 'listen %'`)
		return pid != 0
	})
	return pid
}

func TestHandlesHearOfEachOther(t *testing.T) {
	dsn := pgtest.Database(t)
	a, b := open(t, dsn, "default"), open(t, dsn, "default")
	elsewhere := open(t, dsn, "staging")
	for _, s := range []*postgres.Store{a, b, elsewhere} {
		hinted(t, s, "on connecting")
	}
	for i := range 20 {
		writer, reader := a, b
		if i%2 == 1 {
			writer, reader = b, a
		}
		id := fmt.Sprintf("id%d", i)
		insert(t, writer, id)
		hinted(t, reader, "of a change")
		hinted(t, writer, "of one's own change")
		if _, err := reader.Credential(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-elsewhere.Hints():
		t.Error("another gateway is told")
	default:
	}
}

// A change that was taken back is none, and tells nobody anything.
func TestFailedChangesAreNotHintedAt(t *testing.T) {
	s := open(t, pgtest.Database(t), "default")
	hinted(t, s, "on connecting")
	insert(t, s, "id")
	hinted(t, s, "of a change")
	if _, err := s.Insert(t.Context(), credential("id"), 0); !errors.Is(err, store.ErrExists) {
		t.Fatal(err)
	}
	insert(t, s, "next") // by whose hint the other would have come
	hinted(t, s, "of a change")
	select {
	case <-s.Hints():
		t.Error("two hints of one change")
	default:
	}
}

// What is told while a listener has no connection is lost, so the new
// connection is a hint by itself. A follower that reads on hints alone must
// see everything.
func TestListenerComesBack(t *testing.T) {
	dsn := pgtest.Database(t)
	s, writer := open(t, dsn, "default"), open(t, dsn, "default", postgres.WithoutNotify())
	kill := func() {
		t.Helper()
		if !ask[bool](t, dsn, fmt.Sprintf(`SELECT pg_terminate_backend(%d)`, listening(t, dsn))) {
			t.Fatal("not killed")
		}
	}
	hinted(t, s, "on connecting")
	kill()
	hinted(t, s, "on connecting again")

	seen, since := 0, int64(0)
	for round := range 5 {
		kill()
		for i := range 5 { // most of them while nobody listens
			insert(t, writer, fmt.Sprintf("id%d-%d", round, i))
		}
		for seen < (round+1)*5 {
			hinted(t, s, fmt.Sprintf("of what is missing; %d were seen in round %d", seen, round))
			c, err := s.Changes(t.Context(), since, 0)
			if err != nil {
				t.Fatal(err)
			}
			seen += len(c.List)
			since = c.Revision
		}
	}
}

// The bench cuts the listener so.
func TestWithoutNotify(t *testing.T) {
	dsn := pgtest.Database(t)
	s := open(t, dsn, "default", postgres.WithoutNotify())
	hearing := open(t, dsn, "default")
	hinted(t, hearing, "on connecting")
	insert(t, s, "id")
	hinted(t, hearing, "of what a store without hints did")
	select {
	case <-s.Hints():
		t.Error("a hint")
	default:
	}
	c, err := s.Changes(t.Context(), 0, 0)
	if err != nil || len(c.List) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if n := ask[int](t, dsn, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %'`); n != 1 {
		t.Errorf("%d listen", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-s.Hints(); open {
		t.Error("the hints go on behind Close")
	}
}
