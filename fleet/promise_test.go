package fleet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

// A replica that the fleet does not wait for, because it is new or was silent
// for too long, may have read just before a change and tell of itself only when
// all have been said to have seen it. It must read again before it serves: the
// key that was revoked is still in its memory.
func TestReplicaThatNobodyWaitsForReadsAgain(t *testing.T) {
	tests := []struct {
		name string
		// unknown makes the fleet wait for b no more. alone is the store from
		// before it joined.
		unknown func(t *testing.T, db, alone *database, b *replica)
	}{
		{"one that joins", func(*testing.T, *database, *database, *replica) {}},
		{"one that had run out", func(t *testing.T, _, _ *database, b *replica) {
			t.Helper()
			known(t, b)
			b.cut()
			time.Sleep(80 * time.Second)
		}},
		{"one that runs out while it tells", func(t *testing.T, _, _ *database, b *replica) {
			t.Helper()
			known(t, b)
			b.cut()
			time.Sleep(64*time.Second + 500*time.Millisecond) // it syncs again when its silence of 65 s is over
		}},
		{"one that the store lost", func(t *testing.T, db, alone *database, b *replica) {
			t.Helper()
			known(t, b)
			db.restore(alone)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				a := join(t, db, "a")
				alone := db.snapshot()
				b := joining(t, db, "b", 0, func(r *replica) { r.cut() })
				tt.unknown(t, db, alone, b)
				b.mend()
				read, release := make(chan struct{}), make(chan struct{})
				b.when("beat", func(context.Context) error { // between the reading and the telling
					b.when("beat", nil)
					close(read)
					<-release
					return nil
				})
				<-read
				revision := db.change("key")
				wait(t, a, revision)
				b.tell(func() {
					b.onSynced = func() { // it may be fresh from here on
						if b.Revision() < revision {
							t.Errorf("in step at revision %d, when all had seen %d", b.Revision(), revision)
						}
					}
				})
				close(release)
				synctest.Wait()
				if !b.Fresh(time.Now()) || b.Revision() < revision {
					t.Errorf("fresh %v at revision %d, when all had seen %d", b.Fresh(time.Now()), b.Revision(), revision)
				}
			})
		})
	}
}

func known(t *testing.T, r *replica) {
	t.Helper()
	r.mend()
	if err := r.First(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// While the store is so slow that a replica is given up before it has read all,
// the replica does not serve by what it read.
func TestReplicaThatIsAlwaysLateIsNotInStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := joining(t, db, "a", time.Millisecond, nil)
		known(t, r)
		n := 0
		threePages := func(context.Context) error {
			for range 2500 {
				n++
				db.change(fmt.Sprint(n))
			}
			return nil
		}
		_ = threePages(t.Context())
		r.when("changes", takes(1900*time.Millisecond))
		r.when("beat", threePages)
		if err := r.Sync(t.Context()); err == nil || r.Reachable() {
			t.Errorf("in step: %v, reachable %v", err, r.Reachable())
		}
		r.mend()
		catchUp(t, r)
		if !r.Fresh(time.Now()) || r.Revision() != int64(n) {
			t.Errorf("fresh %v at %d, when the store is quick again", r.Fresh(time.Now()), r.Revision())
		}
	})
}

// Whatever fails and whenever, a change that is made is told to Apply, or all is
// forgotten behind it: a change that one misses, it misses for good.
func TestFollowerMissesNothing(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				s := serve(t, db, "a", time.Minute)
				ctx, cancel := context.WithCancel(t.Context())
				var suffering, writing sync.WaitGroup
				suffering.Go(func() { s.suffer(ctx, seed) })
				for w := range 4 {
					writing.Go(func() {
						r := rand.New(rand.NewPCG(seed, uint64(w)))
						for range 100 {
							time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
							id := fmt.Sprint(r.IntN(50))
							s.load(id) // which the change makes old
							db.change(id)
							if r.IntN(2) == 0 {
								db.notify()
							}
						}
					})
				}
				writing.Wait()
				cancel()
				suffering.Wait()
				if err := s.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				for id, change := range db.changes {
					if got := s.acts(id); got != 0 && got < change.Revision {
						t.Errorf("acts on revision %d of %s, which changed at %d", got, id, change.Revision)
					}
				}
			})
		})
	}
}

// witness notes when the last read that was answered began.
type witness struct {
	*link
	mu   sync.Mutex
	read time.Time
}

func (w *witness) Changes(ctx context.Context, since int64, limit int) (store.Changes, error) {
	began := time.Now()
	c, err := w.link.Changes(ctx, since, limit)
	if err == nil {
		w.mu.Lock()
		w.read = began
		w.mu.Unlock()
	}
	return c, err
}

// Whoever waits for a replica counts on both: that it serves no longer than its
// grace behind what it read, and no longer than its silence behind its beat.
func TestFreshNeverOutlastsGraceNorSilence(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				grace := time.Duration(1+rnd.IntN(8)) * time.Second
				db := newDatabase()
				s := &server{id: "a", replica: &replica{link: db.connect()}}
				w := &witness{link: s.link}
				s.Member = fleet.Join(w, fleet.Options{
					ID: "a", Grace: grace, Events: s, Warn: s.warn, Apply: s.apply, Reset: s.reset,
				})
				t.Cleanup(func() { _ = s.Close() })
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				defer wg.Wait()
				defer cancel()
				wg.Go(func() { s.suffer(ctx, seed) })
				fresh, stale := 0, 0
				for range 4000 {
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
					if rnd.IntN(400) == 0 { // hardly ever: with each comes a beat
						db.change("one")
					}
					now := time.Now()
					if !s.Fresh(now) {
						stale++
						continue
					}
					fresh++
					w.mu.Lock()
					age := now.Sub(w.read)
					w.mu.Unlock()
					if age > grace {
						t.Fatalf("fresh %s after the last read, with a grace of %s", age, grace)
					}
					row, _ := db.replica("a")
					// If it hears no more from now on, it is fresh until then.
					end := last(s.replica, &s.synced).Add(grace)
					if quiet := end.Sub(row.Beat); quiet > row.Silence {
						t.Fatalf("fresh for a silence of %s, and said to be for %s", quiet, row.Silence)
					}
				}
				if fresh == 0 || stale == 0 {
					t.Errorf("%d times fresh and %d times not: nothing was tried", fresh, stale)
				}
			})
		})
	}
}
