package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

// A store of a million credentials must not make a gateway slow to start, so
// the first sync asks for the revision and reads no row.
func TestFirstReadsTheRevisionAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		for range 3 {
			db.change("old")
		}
		db.ahead = 2 * time.Second
		start := db.now()
		r := joining(t, db, "a", 30*time.Second, nil)
		if r.Fresh(time.Now()) || r.Reachable() || r.Live() != 1 {
			t.Errorf("before the first sync: fresh %v, reachable %v, %d live", r.Fresh(time.Now()), r.Reachable(), r.Live())
		}
		if err := r.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !r.Fresh(time.Now()) || !r.Reachable() || r.Revision() != 3 {
			t.Errorf("after it: fresh %v, reachable %v, revision %d", r.Fresh(time.Now()), r.Reachable(), r.Revision())
		}
		if got := told(r, &r.applied); len(got) > 0 {
			t.Errorf("read %q", got)
		}
		if got := r.times(&r.resets); got != 1 {
			t.Errorf("forgot what was loaded before it %d times, want once", got)
		}
		want := store.Replica{
			ID: "a", Host: "a.example.com", Version: "v1.2.3", Started: start, Revision: 3, Silence: 35 * time.Second, Beat: start,
		}
		got, _ := db.replica("a")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what it told the fleet (-want +got):\n%s", diff)
		}
	})
}

func TestFirstRejectsAStoreThatIsAway(t *testing.T) {
	for _, call := range []string{"changes", "replicas", "beat"} {
		t.Run(call, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				r := joining(t, db, "a", 0, func(r *replica) { r.when(call, fails) })
				if err := r.First(t.Context()); !errors.Is(err, errAway) {
					t.Errorf("got %v", err)
				}
				if r.Fresh(time.Now()) || r.Reachable() {
					t.Error("serves without having read the store")
				}
				r.when(call, nil)
				time.Sleep(2 * time.Second)
				if !r.Fresh(time.Now()) || !r.Reachable() {
					t.Error("does not go on by itself when the store is back")
				}
			})
		})
	}
}

// The grace counts from when the last good sync began: what it read may have
// been old from then on.
func TestFreshEndsWithTheGrace(t *testing.T) {
	const grace = 20 * time.Second
	for _, call := range []string{"changes", "replicas", "beat"} {
		t.Run(call, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := joining(t, newDatabase(), "a", grace, nil)
				r.when("changes", takes(400*time.Millisecond))
				if err := r.First(t.Context()); err != nil {
					t.Fatal(err)
				}
				begun := time.Now().Add(-400 * time.Millisecond) // the second of its two reads
				r.when(call, fails)
				// Between two beats a sync needs none, and is good without.
				if call != "changes" {
					time.Sleep(time.Until(begun.Add(5*time.Second + 700*time.Millisecond)))
					begun = last(r, &r.synced)
				}
				for _, at := range []struct {
					elapsed time.Duration
					want    bool
				}{{grace - time.Nanosecond, true}, {grace, true}, {grace + time.Nanosecond, false}, {time.Hour, false}} {
					if got := r.Fresh(begun.Add(at.elapsed)); got != at.want {
						t.Errorf("%s after the last good sync began: fresh %v", at.elapsed, got)
					}
				}
				time.Sleep(time.Second + time.Millisecond)
				if r.Reachable() {
					t.Error("reachable, though the last sync failed")
				}
			})
		})
	}
}

func TestStoreThatHangsIsAway(t *testing.T) {
	for _, call := range []string{"changes", "replicas", "beat"} {
		t.Run(call, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				r := join(t, db, "a")
				r.when(call, hangs)
				db.change("one")
				start := time.Now()
				err := r.Sync(t.Context())
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
				if r.Reachable() {
					t.Error("a store that does not answer is reachable")
				}
				r.when(call, nil)
				if err := r.Sync(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A sync that was under way when the call came may have read before the change
// that its caller has just made.
func TestSyncBeginsAfterTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		read, release := make(chan struct{}), make(chan struct{})
		r.when("replicas", func(context.Context) error { // between the reading and the end
			close(read)
			<-release
			r.when("replicas", nil)
			return nil
		})
		db.change("before")
		go func() { _ = r.Sync(t.Context()) }()
		<-read
		db.change("after")
		before := r.count("changes")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := r.Sync(t.Context()); err != nil {
					t.Error(err)
				}
				if got := told(r, &r.applied); !slices.Contains(got, "after") {
					t.Errorf("Sync returned with %q", got)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		// The one that was asked, and perhaps one more for who came late.
		if n := r.count("changes") - before; n > 2 {
			t.Errorf("20 callers had the store asked %d times", n)
		}
	})
}

func TestSyncWaitsNoLongerThanItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := join(t, newDatabase(), "a")
		release := make(chan struct{})
		r.when("changes", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, when := range []string{"as the one whose sync it is", "behind another's"} {
			if err := r.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v", when, err)
			}
		}
		close(release)
	})
}

func TestCloseLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r, other := join(t, db, "a"), join(t, db, "b")
		release := make(chan struct{})
		r.when("changes", func(ctx context.Context) error { <-release; return ctx.Err() })
		waiting := make(chan error)
		go func() { waiting <- r.Sync(t.Context()) }()
		synctest.Wait()
		go close(release)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-waiting; !errors.Is(err, fleet.ErrClosed) && err != nil {
			t.Errorf("who was waiting got %v", err)
		}
		if _, ok := db.replica("a"); ok {
			t.Error("its row is still there, and would be waited for")
		}
		if r.Fresh(time.Now()) || r.Reachable() {
			t.Error("serves though nobody waits for it any more")
		}
		if err := r.Sync(t.Context()); !errors.Is(err, fleet.ErrClosed) {
			t.Errorf("Sync: %v", err)
		}
		if _, err := r.Wait(t.Context(), 0, nil); !errors.Is(err, fleet.ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
		if n := r.times(&r.failures); n != 0 {
			t.Errorf("leaving counted as %d failures of the store", n)
		}
		if err := r.Close(); err != nil || r.count("leave") != 1 {
			t.Errorf("a second Close: %v, left %d times", err, r.count("leave"))
		}
		time.Sleep(6 * time.Second)
		if other.Live() != 1 {
			t.Errorf("the other counts %d live", other.Live())
		}
	})
}

func TestCloseTellsThatItCouldNotLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := join(t, newDatabase(), "a")
		r.when("leave", hangs)
		start := time.Now()
		if err := r.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A store that is closed first closes its hints, which must not be taken for
// one hint after another.
func TestClosedHintsAreNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := join(t, newDatabase(), "a")
		time.Sleep(time.Second)
		before := r.count("changes")
		close(r.hints)
		time.Sleep(10 * time.Second)
		if n := r.count("changes") - before; n < 9 || n > 11 {
			t.Errorf("asked the store %d times in ten seconds", n)
		}
	})
}

// The operator is told when it begins, when it matters and when it is over,
// and not each second.
func TestWarnsOncePerOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := join(t, newDatabase(), "a")
		for range 2 {
			r.cut()
			time.Sleep(90 * time.Second)
			r.mend()
			time.Sleep(2 * time.Second)
		}
		var got []string
		for _, w := range told(r, &r.warnings) {
			got = append(got, strings.Fields(w)[1]+" "+w[strings.LastIndex(w, ":")+2:])
		}
		once := []string{"store connection refused", "grace connection refused", "store <nil>"}
		if diff := cmp.Diff(append(slices.Clone(once), once...), got); diff != "" {
			t.Errorf("warnings (-want +got):\n%s\nin full: %q", diff, told(r, &r.warnings))
		}
		if n := r.times(&r.failures); n < 170 || n > 182 {
			t.Errorf("%d failures in 180 seconds", n)
		}
	})
}

// Fresh is asked twice for each request.
func TestFreshAllocatesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := join(t, newDatabase(), "a")
		if n := testing.AllocsPerRun(1000, func() { r.Fresh(time.Now()) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
