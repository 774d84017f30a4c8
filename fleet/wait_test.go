package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

// shape is who is where in a report.
type shape struct{ Seen, Waiting, RanOut []string }

func shapeOf(r fleet.Report) shape {
	ids := func(list []store.Replica) (ids []string) {
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		return ids
	}
	return shape{ids(r.Seen), ids(r.Waiting), ids(r.RanOut)}
}

// wait waits and returns the report with what was told on the way.
func wait(t *testing.T, m *replica, revision int64) (fleet.Report, []shape) {
	t.Helper()
	var moves []shape
	r, err := m.Wait(t.Context(), revision, func(r fleet.Report) { moves = append(moves, shapeOf(r)) })
	if err != nil {
		t.Fatal(err)
	}
	if !r.Done() || r.Revision != revision {
		t.Errorf("returned with %+v", r)
	}
	return r, moves
}

func TestWaitReturnsWhenAllHaveSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		time.Sleep(300 * time.Millisecond)
		revision := db.change("one") // without a hint: b sees it with its poll
		start := time.Now()
		r, moves := wait(t, a, revision)
		if took := time.Since(start); took > time.Second+250*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if !slices.Contains(told(b, &b.applied), "one") {
			t.Error("b has not seen it")
		}
		want := []shape{{Seen: []string{"a"}, Waiting: []string{"b"}}, {Seen: []string{"a", "b"}}}
		if diff := cmp.Diff(want, moves); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[1], shapeOf(r)); diff != "" {
			t.Errorf("returned (-want +got):\n%s", diff)
		}
		if _, err := a.Wait(t.Context(), revision, nil); err != nil {
			t.Errorf("without progress: %v", err)
		}
	})
}

func TestWaitOutlastsASilentReplica(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		time.Sleep(10*time.Second + 500*time.Millisecond)
		b.cut()
		row, _ := db.replica("b")
		revision := db.change("one")
		r, moves := wait(t, a, revision)
		silent := time.Since(row.Beat)
		if silent < row.Silence || silent > row.Silence+2*time.Second {
			t.Errorf("gave up on it after %s, with a silence of %s", silent, row.Silence)
		}
		if b.Fresh(time.Now()) {
			t.Error("b ran out and serves on")
		}
		want := []shape{{Seen: []string{"a"}, Waiting: []string{"b"}}, {Seen: []string{"a"}, RanOut: []string{"b"}}}
		if diff := cmp.Diff(want, moves); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if r.Left != 0 {
			t.Errorf("%s left at the end", r.Left)
		}
	})
}

func TestWaitSaysHowLongItCanTake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		c := joining(t, db, "c", 40*time.Second, nil) // it runs out before b
		known(t, c)
		b.cut()
		c.cut()
		time.Sleep(20 * time.Second)
		start := time.Now()
		var left time.Duration
		_, err := a.Wait(t.Context(), db.change("one"), func(r fleet.Report) {
			if left == 0 {
				left = r.Left
			}
		})
		if took := time.Since(start); err != nil || took > left+500*time.Millisecond || took < left-time.Second {
			t.Errorf("took %s of %s: %v", took, left, err)
		}
	})
}

func TestWaitForgetsWhoLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		b.when("changes", hangs)
		revision := db.change("one")
		time.AfterFunc(2*time.Second, func() { _ = b.Close() })
		start := time.Now()
		r, _ := wait(t, a, revision)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
		if diff := cmp.Diff(shape{Seen: []string{"a"}}, shapeOf(r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A replica that joins while somebody waits has read the change, or is waited
// for as the others are.
func TestWaitCountsWhoJoins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		b.cut()
		revision := db.change("one")
		time.AfterFunc(3*time.Second, func() { join(t, db, "c") })
		r, _ := wait(t, a, revision)
		if diff := cmp.Diff(shape{Seen: []string{"a", "c"}, RanOut: []string{"b"}}, shapeOf(r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWaitRejects(t *testing.T) {
	tests := []struct {
		name     string
		revision int64 // beyond the store's
		during   func(db *database, a *replica, cancel func())
		want     error
		within   time.Duration
	}{
		{"a revision that is not there", 1, nil, fleet.ErrAhead, 0},
		{"its caller left", 0, func(_ *database, _ *replica, cancel func()) { cancel() }, context.Canceled, 4 * time.Second},
		{"this replica left", 0, func(_ *database, a *replica, _ func()) { go func() { _ = a.Close() }() }, fleet.ErrClosed, 4 * time.Second},
		{"the store is away for good", 0, func(_ *database, a *replica, _ func()) { a.cut() }, errAway, 66 * time.Second},
		{"the store was put back", 0, func(db *database, _ *replica, _ func()) { db.restore(newDatabase()) }, fleet.ErrAhead, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				a := join(t, db, "a")
				silent := joining(t, db, "b", time.Hour, nil)
				if err := silent.First(t.Context()); err != nil {
					t.Fatal(err)
				}
				silent.cut()
				revision := db.change("one") + tt.revision
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.during != nil {
					time.AfterFunc(3100*time.Millisecond, func() { tt.during(db, a, cancel) }) // between two polls
				}
				start := time.Now()
				r, err := a.Wait(ctx, revision, nil)
				if !errors.Is(err, tt.want) || time.Since(start) > tt.within {
					t.Errorf("got %v after %s, want %v", err, time.Since(start), tt.want)
				}
				if r.Revision != revision {
					t.Errorf("says revision %d", r.Revision)
				}
			})
		})
	}
}

// A connection breaks most often when there is something to wait for.
func TestWaitOutlastsAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a, b := join(t, db, "a"), join(t, db, "b")
		b.when("changes", fails)
		revision := db.change("one")
		time.AfterFunc(2*time.Second, a.cut)
		time.AfterFunc(12*time.Second, func() { a.mend(); b.mend() })
		r, _ := wait(t, a, revision)
		if diff := cmp.Diff(shape{Seen: []string{"a", "b"}}, shapeOf(r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// The promise: when Wait has returned, no replica acts on a row older than the
// revision, whatever fails and whenever. Each replica here remembers what it
// loads until it is told to forget, as a gateway does.
func TestWaitKeepsItsPromise(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				db := newDatabase()
				fleet := make([]*server, 2+r.IntN(3))
				for i := range fleet {
					fleet[i] = serve(t, db, fmt.Sprint(i), time.Duration(5+r.IntN(20))*time.Second)
				}
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				defer wg.Wait()
				defer cancel()
				for _, s := range fleet[1:] { // the one that waits is not cut off
					wg.Go(func() { s.suffer(ctx, seed) })
				}
				var revision int64
				for range 12 {
					// Also later: one that was silent meanwhile may come back.
					for range r.IntN(80) {
						time.Sleep(50 * time.Millisecond)
						synctest.Wait()
						for _, s := range fleet {
							if got := s.acts("key"); s.Fresh(time.Now()) && got != 0 && got < revision {
								t.Fatalf("replica %s acts on revision %d when all had seen %d", s.id, got, revision)
							}
						}
					}
					for _, s := range fleet {
						s.load("key")
					}
					revision = db.change("key")
					if r.IntN(2) == 0 {
						db.notify()
					}
					if _, err := fleet[0].Wait(t.Context(), revision, nil); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// server is a replica with a memory.
type server struct {
	*replica
	id string

	mem    sync.Mutex
	memory map[string]int64 // the revision of what is remembered
}

func serve(t *testing.T, db *database, id string, grace time.Duration) *server {
	t.Helper()
	s := &server{id: id, memory: map[string]int64{}}
	forget := func(do func()) {
		s.mem.Lock()
		defer s.mem.Unlock()
		do()
	}
	s.replica = &replica{link: db.connect()}
	s.Member = fleet.Join(s.link, fleet.Options{
		ID: id, Grace: grace, Events: s, Warn: s.warn,
		Apply: func(list []store.Change) {
			forget(func() {
				for _, c := range list {
					delete(s.memory, c.ID)
				}
			})
		},
		Reset: func() { forget(func() { clear(s.memory) }) },
	})
	t.Cleanup(func() { _ = s.Close() })
	if err := s.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// load remembers a row, as the first request with a key does.
func (s *server) load(id string) {
	s.link.mu.Lock()
	away := s.on["changes"] != nil
	s.link.mu.Unlock()
	if away {
		return
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	if _, ok := s.memory[id]; ok {
		return
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	s.memory[id] = s.db.revision
}

func (s *server) acts(id string) int64 {
	s.mem.Lock()
	defer s.mem.Unlock()
	return s.memory[id]
}

// suffer breaks the connection time and again, each time in another way.
func (s *server) suffer(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(s.id[0])))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(r.IntN(9000)) * time.Millisecond):
		}
		switch r.IntN(7) {
		case 0:
			s.cut()
			time.Sleep(time.Duration(r.IntN(40)) * time.Second)
		case 1:
			s.when("changes", hangs)
		case 2:
			s.when("beat", fails)
		case 3:
			s.when("changes", takes(time.Duration(r.IntN(1900))*time.Millisecond))
		case 4:
			s.mend()
			s.when("replicas", takes(time.Duration(r.IntN(1900))*time.Millisecond))
		case 5:
			s.mend()
			s.when([]string{"beat", "answer"}[r.IntN(2)], takes(time.Duration(r.IntN(1900))*time.Millisecond))
		default:
			s.mend()
		}
	}
	s.mend()
}
