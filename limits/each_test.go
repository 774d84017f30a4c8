package limits_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
)

var each = limits.Key{Team: "billing", Credential: limits.Each}

// admittedTo counts how many of n requests of an id get in, without leaving
// again.
func admittedTo(p *limits.Plan, id string, n int) (in int) {
	for range n {
		if p.Enter("billing", "", id, time.Now()).Reason == policy.Allowed {
			in++
		}
	}
	return in
}

func TestEachIDHasABucket(t *testing.T) {
	tests := []struct {
		name   string
		lims   lims
		want   [3]int // of 10 requests at one instant, of one id after the other
		reason policy.Reason
	}{
		{"no limits", nil, [3]int{10, 10, 10}, policy.Allowed},
		{"rate", lims{each: perMinute(4, 0)}, [3]int{4, 4, 4}, policy.RateLimited},
		{"burst", lims{each: perMinute(4, 7)}, [3]int{7, 7, 7}, policy.RateLimited},
		{"places", lims{each: atOnce(3)}, [3]int{3, 3, 3}, policy.TooManyInFlight},
		{"within the team's rate", lims{each: perMinute(4, 0), team: perMinute(10, 0)}, [3]int{4, 4, 2}, policy.RateLimited},
		{"within the team's places", lims{each: atOnce(4), team: atOnce(6)}, [3]int{4, 2, 0}, policy.TooManyInFlight},
		{"the team's alone", lims{team: perMinute(15, 0)}, [3]int{10, 5, 0}, policy.RateLimited},
		{"those of a name", lims{ci: atOnce(1)}, [3]int{10, 10, 10}, policy.Allowed},
		{"those of another team", lims{{Team: "ops", Credential: limits.Each}: atOnce(1)}, [3]int{10, 10, 10}, policy.Allowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlan(t, tt.lims)
				var got [3]int
				for i := range got {
					got[i] = admittedTo(p, fmt.Sprint(i), 10)
				}
				if got != tt.want {
					t.Errorf("admitted %v, want %v", got, tt.want)
				}
				if got := p.Enter("billing", "", "2", time.Now()).Reason; got != tt.reason {
					t.Errorf("the next one: %s, want %s", got, tt.reason)
				}
			})
		})
	}
}

// A credential of the configuration has its name's bucket, with whichever of
// its keys it comes, and none with the limits of those that have no name.
func TestNamedCredentialsAreCountedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{each: perMinute(2, 0), ci: perMinute(5, 0)})
		in := 0
		for i := range 20 {
			if p.Enter("billing", "ci", fmt.Sprint(i%2), time.Now()).Reason == policy.Allowed {
				in++
			}
		}
		if in != 5 {
			t.Errorf("admitted %d with two keys of one name, want 5", in)
		}
		if got := admittedTo(p, "0", 10); got != 2 {
			t.Errorf("admitted %d of a stored credential, want 2", got)
		}
		if got := admitted(p, "unlimited", 10); got != 10 {
			t.Errorf("admitted %d of a name without limits, want all", got)
		}
	})
}

func TestHeadersOfEach(t *testing.T) {
	const told = `"credential";q=2;w=60, "team";q=60;w=60`
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{each: perMinute(2, 0), team: perMinute(60, 0)})
		admittedTo(p, "one", 2)
		for _, next := range []struct {
			id   string
			want map[string]string
		}{
			{"one", map[string]string{
				"Ratelimit-Policy": told, "Ratelimit": `"credential";r=0;t=30, "team";r=58;t=2`, "Retry-After": "30",
			}},
			{"two", map[string]string{
				"Ratelimit-Policy": told, "Ratelimit": `"credential";r=1;t=30, "team";r=57;t=3`,
			}},
		} {
			if diff := cmp.Diff(next.want, headers(p.Enter("billing", "", next.id, time.Now()))); diff != "" {
				t.Errorf("%s: headers (-want +got):\n%s", next.id, diff)
			}
		}
	})
}

// A reload brings no id a fresh allowance. Of a higher bound those have nothing
// at once either who have not come yet: whoever was forgotten is one of them.
func TestReloadDoesNotRefillEach(t *testing.T) {
	tests := []struct {
		name          string
		before, after limits.Limit
		used, unseen  int // admitted after the reload, of one that had used 10 and of one that had not come
	}{
		{"unchanged", perMinute(10, 0), perMinute(10, 0), 0, 10},
		{"higher rate", perMinute(10, 0), perMinute(1000, 10), 0, 10},
		{"higher burst", perMinute(10, 0), perMinute(10, 100), 0, 10},
		{"lower burst", perMinute(10, 0), perMinute(10, 3), 0, 3},
		{"places join", perMinute(10, 0), limits.Limit{MaxInFlight: 12, Rate: perMinute(10, 0).Rate}, 0, 10},
		{"a rate joins, and starts full", atOnce(100), perMinute(4, 0), 4, 4},
		{"other places", atOnce(11), atOnce(12), 2, 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := limits.NewBook()
				before := book.Plan(lims{each: tt.before})
				if got := admittedTo(before, "used", 10); got != 10 {
					t.Fatalf("used %d, want 10", got)
				}
				after := book.Plan(lims{each: tt.after})
				before.Close()
				defer after.Close()
				for id, want := range map[string]int{"used": tt.used, "unseen": tt.unseen} {
					if got := admittedTo(after, id, 50); got != want {
						t.Errorf("%s: admitted %d after the reload, want %d", id, got, want)
					}
				}
			})
		})
	}
}

// What an id used at a replica that then goes must not be handed out again by
// the one that is left, which never saw it.
func TestShareDoesNotFillUpEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		p := book.Plan(lims{each: perMinute(60, 40)})
		defer p.Close()
		book.Share(2) // the other one admits 20
		book.Share(1)
		if got := admittedTo(p, "one", 50); got != 20 {
			t.Errorf("admitted %d, want the 20 that were this replica's", got)
		}
		time.Sleep(10 * time.Second)
		if got := admittedTo(p, "two", 50); got != 30 {
			t.Errorf("admitted %d of one that has not come yet, want 20 and 10 earned since", got)
		}
		time.Sleep(time.Hour)
		book.Share(4)
		if got := admittedTo(p, "three", 50); got != 10 {
			t.Errorf("admitted %d, want a quarter", got)
		}
	})
}

// A bucket is forgotten only when nobody could tell. A gateway that forgets and
// one that does not, since it knows each by a name, say the same of every
// request, whatever reloads and replicas do meanwhile.
func TestForgettingChangesNoVerdict(t *testing.T) {
	forgotten := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			const ids = 60
			forgets, keeps := limits.NewBook(), limits.NewBook()
			plans := func() (one, other *limits.Plan) {
				lim := limits.Limit{MaxInFlight: 1 + r.IntN(5)}
				if r.IntN(5) > 0 {
					lim.Rate = &limits.Rate{N: 1 + r.IntN(8), Per: time.Duration(1+r.IntN(5)) * time.Second, Burst: r.IntN(12)}
				}
				named := lims{team: perMinute(1000, 50)}
				for id := range ids {
					named[limits.Key{Team: "billing", Credential: fmt.Sprint(id)}] = lim
				}
				return forgets.Plan(lims{each: lim, team: perMinute(1000, 50)}), keeps.Plan(named)
			}
			a, b := plans()
			var under [][2]limits.Verdict
			seen := map[int]bool{}
			for step := range 600 {
				switch r.IntN(60) {
				case 0:
					newA, newB := plans()
					a.Close()
					b.Close()
					a, b = newA, newB
				case 1:
					n := r.IntN(5)
					forgets.Share(n)
					keeps.Share(n)
				}
				id := r.IntN(ids)
				seen[id] = true
				x := a.Enter("billing", "", fmt.Sprint(id), time.Now())
				y := b.Enter("billing", fmt.Sprint(id), "", time.Now())
				if x.Reason != y.Reason || x.RetryAfter != y.RetryAfter {
					t.Fatalf("seed %d, step %d: %s after %s, where a bucket that is kept says %s after %s",
						seed, step, x.Reason, x.RetryAfter, y.Reason, y.RetryAfter)
				}
				if diff := cmp.Diff(headers(y), headers(x)); diff != "" {
					t.Fatalf("seed %d, step %d: headers (-kept +forgotten):\n%s", seed, step, diff)
				}
				under = append(under, [2]limits.Verdict{x, y})
				for len(under) > 0 && r.IntN(10) > 3 {
					i := r.IntN(len(under))
					under[i][0].Leave()
					under[i][1].Leave()
					under = append(under[:i], under[i+1:]...)
				}
				time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			}
			if forgets.Counted("billing") < len(seen) {
				forgotten++
			}
		})
	}
	if forgotten < 30 {
		t.Errorf("buckets were forgotten in %d of 60 runs: too few to have tried it", forgotten)
	}
}

// A script that makes a credential for each job must not fill the memory.
func TestIdleIDsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := limits.NewBook()
		p := book.Plan(lims{each: {MaxInFlight: 9, Rate: perMinute(60, 0).Rate}})
		defer p.Close()
		slow := p.Enter("billing", "", "slow", time.Now())
		used := admittedTo(p, "used", 60)
		most := 0
		for i := range 100_000 {
			p.Enter("billing", "", fmt.Sprint(i), time.Now()).Leave()
			time.Sleep(time.Millisecond) // so that a thousand of them have something used up
			most = max(most, book.Counted("billing"))
		}
		if most > 1300 {
			t.Errorf("%d buckets at once, where a thousand were in use", most)
		}
		if used != 9 {
			t.Fatalf("admitted %d at once, want 9", used)
		}
		if got := admittedTo(p, "used", 9); got != 0 {
			t.Errorf("admitted %d beside 9 under way: their bucket was forgotten", got)
		}
		if got := admittedTo(p, "slow", 20); got != 8 {
			t.Errorf("admitted %d beside one under way, want 8", got)
		}
		slow.Leave()
	})
}

// Where no more can be counted, nobody gets in uncounted, and nobody who is
// counted loses anything.
func TestNoRoomIsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 1000
		book := limits.NewBookOf(room)
		ops := limits.Key{Team: "ops", Credential: limits.Each}
		p := book.Plan(lims{each: perMinute(2, 0), ops: perMinute(2, 0)})
		defer p.Close()
		for i := range room {
			if v := p.Enter("billing", "", fmt.Sprint(i), time.Now()); v.Reason != policy.Allowed {
				t.Fatalf("%d: %s", i, v.Reason)
			} else {
				v.Leave()
			}
		}
		for range 3 {
			v := p.Enter("billing", "", "one more", time.Now())
			if v.Reason != policy.TooManyInFlight {
				t.Errorf("one more: %s", v.Reason)
			}
			want := map[string]string{
				"Ratelimit-Policy": `"credential";q=2;w=60`, "Ratelimit": `"credential";r=2;t=0`, "Retry-After": "1",
			}
			if diff := cmp.Diff(want, headers(v)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			v.Leave()
		}
		for _, i := range []int{0, 1, room - 1} {
			if got := admittedTo(p, fmt.Sprint(i), 5); got != 1 {
				t.Errorf("%d: admitted %d, want the 1 that it had left", i, got)
			}
		}
		if got := p.Enter("ops", "", "one more", time.Now()).Reason; got != policy.Allowed {
			t.Errorf("another team: %s", got)
		}
		time.Sleep(time.Minute)
		if got := admittedTo(p, "one more", 5); got != 2 {
			t.Errorf("admitted %d when there was room again, want 2", got)
		}
		if got := book.Counted("billing"); got > room {
			t.Errorf("%d buckets", got)
		}
	})
}

// The bounds hold while ids come, are forgotten and come again, and while
// configurations and replicas change.
func TestBoundOfEachHoldsUnderConcurrency(t *testing.T) {
	const bound, ids = 3, 40
	book := limits.NewBook()
	// So high a rate that a bucket is full at once, and so forgotten as soon as
	// its last request has left.
	lim := lims{each: {MaxInFlight: bound, Rate: &limits.Rate{N: 1 << 30, Per: time.Second}}}
	var current atomic.Pointer[limits.Plan]
	current.Store(book.Plan(lim))
	var workers, changes sync.WaitGroup
	stop := make(chan struct{})
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				current.Swap(book.Plan(lim)).Close()
				book.Share(1 + i%3)
				runtime.Gosched()
			}
		}
	})
	var inside [ids]atomic.Int64
	for w := range uint64(8) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(w, 4))
			for range 3000 {
				var under []limits.Verdict
				id := r.IntN(ids)
				for range 1 + r.IntN(2*bound) {
					v := current.Load().Enter("billing", "", fmt.Sprint(id), time.Now())
					v.Headers(func(string, string) {})
					if v.Reason == policy.Allowed {
						if n := inside[id].Add(1); n > bound {
							t.Errorf("%d requests of one id at once", n)
						}
					}
					under = append(under, v)
				}
				for _, v := range under {
					if v.Reason == policy.Allowed {
						inside[id].Add(-1)
					}
					v.Leave()
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	changes.Wait()
	book.Share(1)
	p := current.Load()
	for id := range ids {
		if got := admittedTo(p, fmt.Sprint(id), 2*bound); got != bound {
			t.Errorf("%d places of %d free after all have left, want %d", got, id, bound)
		}
	}
	p.Close()
}

// An id is a part of the header that its key came in: kept, it would keep the
// key's secret in memory for as long.
func TestTheTextOfAnIDIsNotKept(t *testing.T) {
	p := newPlan(t, lims{each: perMinute(2, 0)})
	enter := func() weak.Pointer[byte] {
		header := strings.Repeat("sgk_0123456789ab_secret", 10)
		v := p.Enter("billing", "", header[4:16], time.Now())
		v.Leave()
		return weak.Make(unsafe.StringData(header))
	}
	header := enter()
	runtime.GC()
	if header.Value() != nil {
		t.Error("the header that an id stood in is kept")
	}
	if got := admittedTo(p, "0123456789ab", 5); got != 1 {
		t.Errorf("admitted %d, want the 1 that it had left", got)
	}
}
