package limits_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
)

// Whoever can make an operator reload, or waits for it, must gain nothing.
func TestReloadDoesNotRefill(t *testing.T) {
	tests := []struct {
		name          string
		before, after limits.Limit
		used          int
		want          int // admitted right after the reload
	}{
		{"unchanged", perMinute(10, 0), perMinute(10, 0), 10, 0},
		{"half used", perMinute(10, 0), perMinute(10, 0), 5, 5},
		{"higher rate", perMinute(10, 0), perMinute(1000, 0), 10, 0},
		{"higher burst", perMinute(10, 10), perMinute(10, 100), 10, 0},
		{"higher burst, some left", perMinute(10, 10), perMinute(10, 100), 6, 4},
		{"lower burst cuts what is left", perMinute(10, 10), perMinute(10, 3), 2, 3},
		{"places join", perMinute(10, 0), limits.Limit{MaxInFlight: 50, Rate: perMinute(10, 0).Rate}, 10, 0},
		{"a rate joins, and starts full", atOnce(100), perMinute(4, 0), 10, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := limits.NewBook()
				before := book.Plan(lims{team: tt.before})
				if got := admitted(before, "ci", tt.used); got != tt.used {
					t.Fatalf("used %d, want %d", got, tt.used)
				}
				after := book.Plan(lims{team: tt.after})
				before.Close()
				if got := admitted(after, "ci", 50); got != tt.want {
					t.Errorf("admitted %d after the reload, want %d", got, tt.want)
				}
				after.Close()
			})
		})
	}
}

// Time before a reload was earned at the old rate, time after at the new one.
func TestReloadChangesTheRateFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		slow := book.Plan(lims{team: {Rate: &limits.Rate{N: 1, Per: time.Hour, Burst: 1000}}})
		if got := admitted(slow, "ci", 1000); got != 1000 {
			t.Fatalf("used %d", got)
		}
		time.Sleep(2 * time.Hour)
		fast := book.Plan(lims{team: {Rate: &limits.Rate{N: 3600, Per: time.Hour, Burst: 1000}}})
		slow.Close()
		if got := admitted(fast, "ci", 1000); got != 2 {
			t.Errorf("admitted %d, want the 2 that two hours at the old rate earned", got)
		}
		time.Sleep(5 * time.Second)
		if got := admitted(fast, "ci", 1000); got != 5 {
			t.Errorf("admitted %d, want 5 of five seconds at the new rate", got)
		}
		fast.Close()
	})
}

// While both run, the newer configuration's rate holds for both: the bucket
// is one, and two rates by turns would be neither.
func TestNewestPlanRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		before := book.Plan(lims{team: perMinute(60, 100)})
		after := book.Plan(lims{team: perMinute(600, 100)})
		admitted(before, "ci", 100)
		time.Sleep(2 * time.Second)
		if got := admitted(before, "ci", 100); got != 20 {
			t.Errorf("admitted %d of two seconds, want 20", got)
		}
		before.Close()
		after.Close()
	})
}

// A load that fails closes its plan again; what runs on must be held to its
// own limits and not to those of a configuration that never started.
func TestFailedReloadLeavesTheOldLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		running := book.Plan(lims{team: perMinute(60, 10), ci: atOnce(2)})
		failed := book.Plan(lims{team: perMinute(60_000, 10_000), ci: atOnce(1000)})
		failed.Close()

		if got := admitted(running, "cd", 100); got != 10 {
			t.Errorf("admitted %d at once, want 10", got)
		}
		time.Sleep(3 * time.Second)
		if got := admitted(running, "cd", 100); got != 3 {
			t.Errorf("admitted %d of three seconds, want 3", got)
		}
		time.Sleep(10 * time.Second)
		if got := admitted(running, "ci", 100); got != 2 {
			t.Errorf("admitted %d of ci at once, want 2", got)
		}
		running.Close()
	})
}

// The requests of the old configuration are still under way when the new one
// starts: both together must keep to the bound.
func TestReloadCountsRequestsUnderWay(t *testing.T) {
	tests := []struct {
		name          string
		before, after int
		under, want   int
	}{
		{"same bound", 4, 4, 3, 1},
		{"lower bound", 4, 2, 3, 0},
		{"higher bound", 4, 8, 3, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			book := limits.NewBook()
			before := book.Plan(lims{team: atOnce(tt.before)})
			var under []limits.Verdict
			for range tt.under {
				under = append(under, before.Enter("billing", "ci", "", time.Now()))
			}
			after := book.Plan(lims{team: atOnce(tt.after)})
			before.Close()
			if got := admitted(after, "ci", 20); got != tt.want {
				t.Errorf("admitted %d beside those under way, want %d", got, tt.want)
			}
			for _, v := range under {
				v.Leave() // into the same count, though its plan is closed
			}
			if got := admitted(after, "ci", 20); got != min(tt.after, tt.under+tt.want)-tt.want {
				t.Errorf("admitted %d after those have left", got)
			}
			after.Close()
		})
	}
}

// A key that had a rate alone is counted all the same, so that a bound which
// a reload brings holds from its first request on.
func TestReloadThatAddsPlacesCountsRequestsUnderWay(t *testing.T) {
	book := limits.NewBook()
	before := book.Plan(lims{team: perMinute(100, 0)})
	admitted(before, "ci", 3)
	after := book.Plan(lims{team: atOnce(4)})
	before.Close()
	if got := admitted(after, "ci", 10); got != 1 {
		t.Errorf("admitted %d beside 3 under way, want 1", got)
	}
	after.Close()
}

func TestReloadThatDropsALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		before := book.Plan(lims{team: perMinute(1, 0)})
		after := book.Plan(nil)
		if got := admitted(after, "ci", 100); got != 100 {
			t.Errorf("admitted %d, want all", got)
		}
		// The old configuration goes on until its last request is done.
		if got := admitted(before, "ci", 100); got != 1 {
			t.Errorf("the old plan admitted %d, want 1", got)
		}
		before.Close()
		before.Close() // closing twice is harmless

		again := book.Plan(lims{team: perMinute(1, 0)})
		if got := admitted(again, "ci", 100); got != 1 {
			t.Errorf("admitted %d, want 1 of a bucket made anew", got)
		}
		again.Close()
		after.Close()
	})
}

func TestLeaveAfterItsBucketIsGone(t *testing.T) {
	book := limits.NewBook()
	p := book.Plan(lims{team: atOnce(1)})
	v := p.Enter("billing", "ci", "", time.Now())
	p.Close()
	p = book.Plan(lims{team: atOnce(1)})
	v.Leave()
	if got := admitted(p, "ci", 5); got != 1 {
		t.Errorf("admitted %d, want 1: leaving an old bucket must not widen a new one", got)
	}
	p.Close()
}

func TestBooksAreApart(t *testing.T) {
	a, b := newPlan(t, lims{team: atOnce(1)}), newPlan(t, lims{team: atOnce(1)})
	if admitted(a, "ci", 2) != 1 || admitted(b, "ci", 2) != 1 {
		t.Error("two gateways with teams of one name share a bucket")
	}
	var zero limits.Verdict
	zero.Leave()
	if zero.Reason == policy.Allowed {
		t.Errorf("the zero verdict says %s", zero.Reason)
	}
}
