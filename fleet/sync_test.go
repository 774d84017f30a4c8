package fleet_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

func TestChangesAreSeen(t *testing.T) {
	tests := []struct {
		name   string
		hint   bool
		within time.Duration
	}{
		{"at once with a hint", true, 20 * time.Millisecond},
		{"within a second without", false, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				db.ahead = -3 * time.Second // the lag is by one clock, whichever is right
				r := join(t, db, "a")
				for i := range 5 {
					time.Sleep(700 * time.Millisecond)
					id := fmt.Sprint(i)
					at := time.Now()
					revision := db.change(id)
					if tt.hint {
						db.notify()
					}
					time.Sleep(tt.within)
					synctest.Wait()
					if got := told(r, &r.applied); !slices.Contains(got, id) {
						t.Fatalf("not seen within %s: %q", tt.within, got)
					}
					if row, _ := db.replica("a"); row.Revision != revision || r.Revision() != revision {
						t.Errorf("told the fleet of %d, stands at %d, want %d", row.Revision, r.Revision(), revision)
					}
					if lag := last(r, &r.lags); lag < 0 || lag > min(tt.within, time.Since(at)) {
						t.Errorf("lag %s of a change seen within %s", lag, tt.within)
					}
				}
				if got := told(r, &r.applied); len(got) != 5 || len(told(r, &r.lags)) != 5 {
					t.Errorf("applied %q with %d lags", got, len(told(r, &r.lags)))
				}
			})
		})
	}
}

// The time that a read takes counts into the lag, and the change is no less
// late for it.
func TestLagIncludesTheReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		db.change("one")
		r.tell(func() { r.onApply = func() { time.Sleep(300 * time.Millisecond) } })
		catchUp(t, r)
		if diff := cmp.Diff([]time.Duration{300 * time.Millisecond}, told(r, &r.lags)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Whoever waits for this replica takes its word that the changes are applied,
// so it says so after the last page and not before.
func TestPagesAreAllAppliedBeforeTheyCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		var want []string
		for i := range 2500 {
			id := fmt.Sprint(i)
			db.change(id)
			want = append(want, id)
		}
		early := func() {
			if row, _ := db.replica("a"); row.Revision != 0 {
				t.Errorf("told the fleet of %d with a page still to come", row.Revision)
			}
			if n := len(told(r, &r.applied)); r.Revision() != int64(n) {
				t.Errorf("stands at %d with %d applied", r.Revision(), n)
			}
		}
		r.tell(func() { r.onApply = early })
		catchUp(t, r)
		if diff := cmp.Diff(want, told(r, &r.applied)); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		if row, _ := db.replica("a"); row.Revision != 2500 {
			t.Errorf("told the fleet of %d", row.Revision)
		}
		if diff := cmp.Diff([]int64{math.MaxInt64, 0, 0, 1000, 2000}, r.since); diff != "" {
			t.Errorf("asked behind (-want +got):\n%s", diff)
		}
	})
}

// A page that could not be read is read again, and those before it are not.
func TestPagesGoOnAfterAFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		for i := range 2500 {
			db.change(fmt.Sprint(i))
		}
		n := 0
		r.when("changes", func(context.Context) error {
			if n++; n == 3 {
				return errAway
			}
			return nil
		})
		if err := r.Sync(t.Context()); err == nil {
			t.Error("a sync that lacks its last page was good")
		}
		if row, _ := db.replica("a"); row.Revision != 0 {
			t.Errorf("told the fleet of %d", row.Revision)
		}
		time.Sleep(time.Second + time.Millisecond)
		if got := told(r, &r.applied); len(got) != 2500 || r.Revision() != 2500 {
			t.Errorf("applied %d, stands at %d", len(got), r.Revision())
		}
	})
}

// endless is a store whose list has more to come, and never brings it.
type endless struct {
	*link
	list  []store.Change
	begun *atomic.Bool
}

func (e endless) Changes(ctx context.Context, since int64, limit int) (store.Changes, error) {
	c, err := e.link.Changes(ctx, since, limit)
	if e.begun.Load() {
		c.List, c.More = e.list, true
	}
	return c, err
}

func TestSyncRejectsAListThatDoesNotGoOn(t *testing.T) {
	for name, list := range map[string][]store.Change{
		"empty": nil, "what was read before": {{ID: "x", Revision: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				db.change("x")
				r := &replica{link: db.connect()}
				var begun atomic.Bool
				m := fleet.Join(endless{r.link, list, &begun}, fleet.Options{
					ID: "a", Apply: r.apply, Reset: r.reset, Warn: r.warn, Events: r,
				})
				defer m.Close()
				if err := m.First(t.Context()); err != nil {
					t.Fatal(err)
				}
				begun.Store(true)
				if err := m.Sync(t.Context()); err == nil {
					t.Error("no error")
				}
			})
		})
	}
}

// A beat costs the store a write, so it comes when there is something to say.
func TestBeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		time.Sleep(60 * time.Second)
		if n := r.count("beat"); n < 12 || n > 13 {
			t.Errorf("%d beats in a minute without changes, want one in 5 s", n)
		}
		var last time.Time
		for range 200 { // at all times silent for no longer than it says
			time.Sleep(100 * time.Millisecond)
			row, _ := db.replica("a")
			if quiet := time.Since(row.Beat); quiet > 6*time.Second {
				t.Fatalf("silent for %s", quiet)
			}
			last = row.Beat
		}
		time.Sleep(time.Millisecond)
		db.change("one")
		catchUp(t, r)
		if row, _ := db.replica("a"); row.Revision != 1 || !row.Beat.After(last) {
			t.Errorf("a change was seen and the fleet not told: %+v", row)
		}
	})
}

// A script that makes credentials must not have the store do the same work
// again for each replica's beats.
func TestHintsArePaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		before := r.count("beat")
		for i := range 2000 {
			db.change(fmt.Sprint(i))
			db.notify()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if n := r.count("beat") - before; n > 250 {
			t.Errorf("%d beats for 2000 changes in two seconds", n)
		}
		if got := told(r, &r.applied); len(got) != 2000 {
			t.Errorf("applied %d", len(got))
		}
	})
}

func TestSkew(t *testing.T) {
	tests := []struct {
		name   string
		ahead  time.Duration
		skewed bool
	}{
		{"none", 0, false},
		{"ahead, within the bound", 5 * time.Second, false},
		{"ahead", 5*time.Second + time.Millisecond, true},
		{"behind, within the bound", -5 * time.Second, false},
		{"behind", -5*time.Second - time.Millisecond, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				db.ahead = tt.ahead
				r := join(t, db, "a")
				if r.Skewed() != tt.skewed || last(r, &r.skews) != tt.ahead {
					t.Errorf("skewed %v, by %v", r.Skewed(), told(r, &r.skews))
				}
				if got := r.Now().Sub(time.Now().Round(0)); got != tt.ahead {
					t.Errorf("takes the store's clock to be %s ahead", got)
				}
				catchUp(t, r) // which changes nothing
				db.mu.Lock()
				db.ahead = 0
				db.mu.Unlock()
				catchUp(t, r)
				if r.Skewed() {
					t.Error("skewed, though the clock was set")
				}
				if got := told(r, &r.warnings); len(got) > 1 || (len(got) == 1) != tt.skewed {
					t.Errorf("warnings %q", got)
				}
			})
		})
	}
}

// A store that is slow to answer is not one whose clock is wrong.
func TestSlowAnswerIsNoSkew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := joining(t, newDatabase(), "a", 0, func(r *replica) { r.when("changes", takes(1900*time.Millisecond)) })
		if err := r.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := last(r, &r.skews); got != 950*time.Millisecond { // read at the end, and taken for half-way
			t.Errorf("skew %s", got)
		}
	})
}

func TestLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		a := join(t, db, "a")
		if a.Live() != 1 {
			t.Errorf("%d live, alone", a.Live())
		}
		b, c := join(t, db, "b"), join(t, db, "c")
		if b.Live() != 2 || c.Live() != 3 {
			t.Errorf("b counts %d, c %d", b.Live(), c.Live())
		}
		time.Sleep(6 * time.Second)
		if a.Live() != 3 || last(a, &a.lives) != 3 {
			t.Errorf("a counts %d, and told of %v", a.Live(), told(a, &a.lives))
		}
		b.cut() // it goes on serving until its grace is over, and has its share
		time.Sleep(60 * time.Second)
		if a.Live() != 3 {
			t.Errorf("%d live, with one within its grace", a.Live())
		}
		time.Sleep(13 * time.Second)
		if a.Live() != 2 {
			t.Errorf("%d live, with one that ran out", a.Live())
		}
		if b.Fresh(time.Now()) {
			t.Error("one that does not count serves on")
		}
		if b.Live() != 3 {
			t.Errorf("one that is cut off counts %d, and may not take a greater share for it", b.Live())
		}
	})
}
