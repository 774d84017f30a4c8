package sqlite_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
	"github.com/scopegate/scopegate/store/storetest"
)

var _ storetest.Store = (*sqlite.Store)(nil)

func open(t *testing.T, path, gateway string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, gateway)
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

func TestSuite(t *testing.T) {
	files := map[string]string{}
	storetest.Run(t, func(t *testing.T, gateway string) storetest.Store {
		if files[t.Name()] == "" {
			files[t.Name()] = filepath.Join(t.TempDir(), "store.db")
		}
		return open(t, files[t.Name()], gateway)
	})
}

// credential has two generations, so that half of it can be missing.
func credential(id string) store.Credential {
	return store.Credential{
		ID: id, Team: "billing", Name: "key-" + id, State: "active",
		Generations: []store.Generation{{Number: 2, Hash: sha256.Sum256([]byte(id))}, {Number: 1, Hash: sha256.Sum256([]byte(id + "old"))}},
	}
}

func insert(t *testing.T, s *sqlite.Store, id string) {
	t.Helper()
	if _, err := s.Insert(t.Context(), credential(id), 0); err != nil {
		t.Fatal(err)
	}
}

// column reads numbers past the store.
func column(t *testing.T, path, query string) (numbers []int64) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return numbers
}

// A replica that was killed never leaves. Nobody must wait for it for ever, or
// see it in the list.
func TestSilentReplicasAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
	for _, id := range []string{"silent", "quiet", "alive"} {
		if err := s.Beat(t.Context(), store.Replica{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, path, `UPDATE scopegate_replicas SET beat = beat - 24*3600*1000000 - 1 WHERE id = 'silent'`,
		`UPDATE scopegate_replicas SET beat = beat - 23*3600*1000000 WHERE id = 'quiet'`)
	list, _, err := s.Replicas(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.Beat(t.Context(), store.Replica{ID: "alive"}); err != nil {
		t.Fatal(err)
	}
	if n := column(t, path, `SELECT count(*) FROM scopegate_replicas`); n[0] != 2 {
		t.Errorf("%d rows", n[0])
	}
}

func TestOldCountsAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
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
	if n := column(t, path, `SELECT count(*) FROM scopegate_counts`); n[0] != 3 {
		t.Errorf("%d rows", n[0])
	}
	if spend("billing", "2026-11-20") {
		t.Error("a call that was late at midnight was given what was spent already")
	}
}

// Answers are kept for a day. Were they kept for good, a busy team's would be
// most of the database.
func TestOldAnswersAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
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
	shell(t, path, `UPDATE scopegate_answers SET until = 1 WHERE CAST(nonce AS INTEGER) > 0`)
	for n, want := range []int{16, 7, 4} { // ten at once, until those are left that were not over
		promise(100+n, time.Now().Add(time.Hour))
		if got := int(column(t, path, `SELECT count(*) FROM scopegate_answers`)[0]); got != want {
			t.Errorf("%d answers are kept, want %d", got, want)
		}
	}
}

// Whatever instant a caller gives up at, he hears that it was he, and what was
// not answered as stored is not.
func TestCallsEndWithTheirContexts(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"), "default")
	stored := 0
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*10)*time.Microsecond)
		_, err := s.Insert(ctx, credential(fmt.Sprint(i)), 5000)
		cancel()
		if err == nil {
			stored++
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d µs: %v", i*10, err)
		}
		_, err = s.Credential(t.Context(), fmt.Sprint(i))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	}
	if n := count(t, s); n != stored {
		t.Errorf("%d rows, and %d were answered as stored", n, stored)
	}
}

// A bulk change by another process must not keep a revocation from its turn,
// and one that hangs must not hold it for ever.
func TestWriteWaitsForItsTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
	db, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Insert(ctx, credential("a"), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := s.Credential(t.Context(), "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a read while another writes: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := s.Insert(t.Context(), credential("b"), 0)
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"), "default")
	var calls sync.WaitGroup
	begun := make(chan struct{}, 8)
	for i := range 8 {
		calls.Go(func() {
			for n := 0; ; n++ {
				_, err := s.Insert(t.Context(), credential(fmt.Sprintf("%d-%d", i, n)), 0)
				if n == 0 {
					begun <- struct{}{}
				}
				if err != nil {
					if !strings.Contains(err.Error(), "the store is closed") {
						t.Errorf("a call that was cut: %v", err)
					}
					return
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
}
