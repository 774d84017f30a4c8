package limits_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
)

func TestShareDividesTheLimits(t *testing.T) {
	tests := []struct {
		name        string
		lim         limits.Limit
		replicas    int
		burst       int // admitted at once
		in60Seconds int // admitted after that
	}{
		{"alone", perMinute(120, 30), 1, 30, 120},
		{"two", perMinute(120, 30), 2, 15, 60},
		{"a rate that does not divide", perMinute(100, 30), 8, 3, 12},
		{"a burst that does not divide", perMinute(120, 11), 4, 2, 30},
		{"a burst that the rate implies", perMinute(120, 0), 4, 30, 30},
		{"more replicas than requests", perMinute(30, 2), 5, 1, 6},
		{"places", atOnce(7), 2, 3, 0},
		{"more replicas than places", atOnce(2), 5, 1, 0},
		{"no replica counts as one", perMinute(120, 30), 0, 30, 120},
		{"fewer than none too", perMinute(120, 30), -3, 30, 120},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, first := range []string{"share", "plan"} {
				synctest.Test(t, func(t *testing.T) {
					book := limits.NewBook()
					if first == "share" {
						book.Share(tt.replicas)
					}
					p := book.Plan(lims{team: tt.lim})
					defer p.Close()
					book.Share(tt.replicas)
					if got := admitted(p, "ci", 200); got != tt.burst {
						t.Errorf("%s first: admitted %d at once, want %d", first, got, tt.burst)
					}
					later := 0
					for range 600 {
						time.Sleep(100 * time.Millisecond)
						later += admitted(p, "ci", 1)
					}
					// What a token takes to come is no whole number of nanoseconds.
					if later < tt.in60Seconds-1 || later > tt.in60Seconds {
						t.Errorf("%s first: admitted %d in a minute, want %d", first, later, tt.in60Seconds)
					}
				})
			}
		})
	}
}

// Replicas that come and go must not hand out fresh allowances: whoever can
// make one restart would be held to nothing.
func TestShareDoesNotRefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		p := book.Plan(lims{team: perMinute(60, 40)})
		defer p.Close()
		if got := admitted(p, "ci", 40); got != 40 {
			t.Fatalf("used %d, want 40", got)
		}
		for _, n := range []int{4, 1, 2, 3, 1} {
			book.Share(n)
			if got := admitted(p, "ci", 40); got != 0 {
				t.Errorf("a share of one in %d brought %d", n, got)
			}
		}
		time.Sleep(10 * time.Second)
		book.Share(2) // ten seconds were earned at the whole rate
		if got := admitted(p, "ci", 40); got != 10 {
			t.Errorf("admitted %d, want the 10 that ten seconds earned", got)
		}
		time.Sleep(10 * time.Second)
		if got := admitted(p, "ci", 40); got != 5 {
			t.Errorf("admitted %d of ten seconds at half the rate, want 5", got)
		}
	})
}

func TestShareThatShrinksCutsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		p := book.Plan(lims{team: {Rate: perMinute(60, 40).Rate, MaxInFlight: 100}})
		defer p.Close()
		book.Share(4)
		if got := admitted(p, "ci", 40); got != 10 {
			t.Errorf("admitted %d, want the 10 of a quarter", got)
		}
		time.Sleep(time.Hour)
		book.Share(20)
		if got := admitted(p, "ci", 40); got != 0 {
			t.Errorf("admitted %d beside 10 under way, where this replica has 5 places", got)
		}
	})
}

// A plan that a reload opens has the share of the one before it.
func TestShareOutlivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		before := book.Plan(lims{team: atOnce(8)})
		book.Share(2)
		after := book.Plan(lims{team: perMinute(60, 8), ci: atOnce(6)})
		before.Close()
		defer after.Close()
		if got := admitted(after, "cd", 20); got != 4 {
			t.Errorf("admitted %d by the rate, want 4", got)
		}
		time.Sleep(time.Hour)
		if got := admitted(after, "ci", 20); got != 3 {
			t.Errorf("admitted %d at once of ci, want 3", got)
		}
	})
}

// The policy is the fleet's. What is left, and how long to wait, is what this
// replica will do.
func TestShareInHeaders(t *testing.T) {
	tests := []struct {
		name   string
		enters int
		want   map[string]string
	}{
		{"some left", 1, map[string]string{
			"Ratelimit-Policy": `"team";q=60;w=60`, "Ratelimit": `"team";r=14;t=4`,
		}},
		{"none left", 16, map[string]string{
			"Ratelimit-Policy": `"team";q=60;w=60`, "Ratelimit": `"team";r=0;t=4`, "Retry-After": "4",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := limits.NewBook()
				p := book.Plan(lims{team: perMinute(60, 0)})
				defer p.Close()
				book.Share(4)
				var v limits.Verdict
				for range tt.enters {
					v = p.Enter("billing", "ci", "", time.Now())
				}
				if diff := cmp.Diff(tt.want, headers(v)); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// However many replicas there are and whatever comes to each, the fleet admits
// no more than the limit, or one request for each replica where that is more.
func TestShareHoldsTheFleetToTheLimit(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 13))
	for range 150 {
		n, perMin, burst, places := 1+r.IntN(9), 1+r.IntN(600), 1+r.IntN(60), 1+r.IntN(40)
		synctest.Test(t, func(t *testing.T) {
			fleet := make([]*limits.Plan, n)
			for i := range fleet {
				book := limits.NewBook()
				fleet[i] = book.Plan(lims{team: perMinute(perMin, burst), ci: atOnce(places)})
				defer fleet[i].Close()
				book.Share(n)
			}
			var under []limits.Verdict
			total, start := 0, time.Now()
			for range 200 {
				v := fleet[r.IntN(n)].Enter("billing", "ci", "", time.Now())
				if v.Reason == policy.Allowed {
					total++
					under = append(under, v)
				}
				if len(under) > max(places, n) {
					t.Fatalf("%d at once, with %d places among %d replicas", len(under), places, n)
				}
				earned := float64(perMin) * time.Since(start).Minutes()
				if bound := float64(max(burst, n)) + earned; float64(total) > bound+1e-6 {
					t.Fatalf("admitted %d of a burst of %d and %f earned, among %d replicas", total, burst, earned, n)
				}
				for len(under) > 0 && r.IntN(3) > 0 {
					i := r.IntN(len(under))
					under[i].Leave()
					under = append(under[:i], under[i+1:]...)
				}
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			}
		})
	}
}

// An even load is admitted whole: dividing must not cost what it need not.
func TestShareAdmitsAnEvenLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const replicas = 3
		total := 0
		for range replicas {
			book := limits.NewBook()
			book.Share(replicas)
			p := book.Plan(lims{team: perMinute(100, 30)})
			total += admitted(p, "ci", 100)
			time.Sleep(time.Minute + time.Millisecond) // 33 and a third: more than the burst holds
			total += admitted(p, "ci", 100)
			p.Close()
		}
		if total != 2*30 {
			t.Errorf("admitted %d, want two bursts of 30", total)
		}
	})
}

func TestShareWhileRequestsCome(t *testing.T) {
	book := limits.NewBook()
	p := book.Plan(lims{team: {MaxInFlight: 6, Rate: &limits.Rate{N: 1 << 30, Per: time.Second}}})
	defer p.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				v := p.Enter("billing", "ci", "", time.Now())
				v.Headers(func(string, string) {})
				v.Leave()
			}
		})
	}
	for i := range 500 {
		book.Share(i % 5)
	}
	wg.Wait()
	book.Share(2)
	if got := admitted(p, "ci", 20); got != 3 {
		t.Errorf("admitted %d at once when all have left, want 3", got)
	}
}
