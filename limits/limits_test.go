package limits_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
)

var (
	team   = limits.Key{Team: "billing"}
	ci     = limits.Key{Team: "billing", Credential: "ci"}
	nobody limits.Limit
)

func perMinute(n, burst int) limits.Limit {
	return limits.Limit{Rate: &limits.Rate{N: n, Per: time.Minute, Burst: burst}}
}

func atOnce(n int) limits.Limit { return limits.Limit{MaxInFlight: n} }

type lims = map[limits.Key]limits.Limit

func newPlan(t *testing.T, l lims) *limits.Plan {
	t.Helper()
	p := limits.NewBook().Plan(l)
	t.Cleanup(p.Close)
	return p
}

// admitted counts how many of n requests get in, without leaving again.
func admitted(p *limits.Plan, credential string, n int) (in int) {
	for range n {
		if p.Enter("billing", credential, "", time.Now()).Reason == policy.Allowed {
			in++
		}
	}
	return in
}

func TestEnterHoldsBothBuckets(t *testing.T) {
	tests := []struct {
		name       string
		lims       lims
		credential string
		want       int // of 10 requests at one instant
		reason     policy.Reason
	}{
		{name: "no limits", lims: nil, want: 10, reason: policy.Allowed},
		{name: "empty limits are none", lims: lims{team: nobody, ci: nobody}, want: 10, reason: policy.Allowed},
		{name: "another team's limit", lims: lims{{Team: "ops"}: atOnce(1)}, want: 10, reason: policy.Allowed},
		{name: "another credential's limit", lims: lims{{Team: "billing", Credential: "cd"}: atOnce(1)}, want: 10, reason: policy.Allowed},
		{name: "another team's credential of that name", lims: lims{{Team: "ops", Credential: "ci"}: atOnce(1)}, want: 10, reason: policy.Allowed},

		{name: "team rate", lims: lims{team: perMinute(4, 0)}, want: 4, reason: policy.RateLimited},
		{name: "credential rate", lims: lims{ci: perMinute(4, 0)}, want: 4, reason: policy.RateLimited},
		{name: "burst below the rate", lims: lims{team: perMinute(8, 3)}, want: 3, reason: policy.RateLimited},
		{name: "burst above the rate", lims: lims{team: perMinute(2, 7)}, want: 7, reason: policy.RateLimited},
		{name: "both rates, team lower", lims: lims{team: perMinute(3, 0), ci: perMinute(6, 0)}, want: 3, reason: policy.RateLimited},
		{name: "both rates, credential lower", lims: lims{team: perMinute(6, 0), ci: perMinute(3, 0)}, want: 3, reason: policy.RateLimited},

		{name: "team in flight", lims: lims{team: atOnce(4)}, want: 4, reason: policy.TooManyInFlight},
		{name: "credential in flight", lims: lims{ci: atOnce(4)}, want: 4, reason: policy.TooManyInFlight},
		{name: "both in flight, team lower", lims: lims{team: atOnce(2), ci: atOnce(6)}, want: 2, reason: policy.TooManyInFlight},
		{name: "both in flight, credential lower", lims: lims{team: atOnce(6), ci: atOnce(2)}, want: 2, reason: policy.TooManyInFlight},

		{name: "rate of one, places of the other", lims: lims{team: perMinute(5, 0), ci: atOnce(3)}, want: 3, reason: policy.TooManyInFlight},
		{name: "places of one, rate of the other", lims: lims{team: atOnce(5), ci: perMinute(3, 0)}, want: 3, reason: policy.RateLimited},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlan(t, tt.lims)
				if got := admitted(p, "ci", 10); got != tt.want {
					t.Errorf("admitted %d of 10, want %d", got, tt.want)
				}
				if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != tt.reason {
					t.Errorf("the next one: %s, want %s", got, tt.reason)
				}
			})
		})
	}
}

func TestTeamBucketIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{team: perMinute(5, 0), ci: perMinute(4, 0)})
		if got := admitted(p, "ci", 10); got != 4 {
			t.Errorf("ci: admitted %d, want 4", got)
		}
		// cd has no limits of its own, which must not free it of its team's.
		if got := admitted(p, "cd", 10); got != 1 {
			t.Errorf("cd: admitted %d, want the 1 that its sibling left", got)
		}
	})
}

// A credential that hammers past its own rate is refused, and its refusals
// must cost its siblings nothing: else one stolen or broken key could lock its
// whole team out.
func TestNoisyCredentialCannotStarveItsTeam(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{team: perMinute(100, 0), ci: perMinute(10, 0)})
		if got := admitted(p, "ci", 10_000); got != 10 {
			t.Fatalf("ci: admitted %d, want 10", got)
		}
		if got := admitted(p, "cd", 10_000); got != 90 {
			t.Errorf("cd: admitted %d, want the 90 that are left", got)
		}
	})
}

func TestRefusalHoldsNoPlace(t *testing.T) {
	tests := []struct {
		name string
		lims lims
		free int // places of the team beside one request of ci, at the end
	}{
		{"credential's places full", lims{team: atOnce(3), ci: atOnce(1)}, 2},
		{"team's rate used up", lims{team: {MaxInFlight: 3, Rate: &limits.Rate{N: 1, Per: time.Minute}}, ci: atOnce(3)}, 0},
		{"credential's rate used up", lims{team: atOnce(3), ci: {MaxInFlight: 3, Rate: &limits.Rate{N: 1, Per: time.Minute}}}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlan(t, tt.lims)
				first := p.Enter("billing", "ci", "", time.Now())
				for range 10 {
					v := p.Enter("billing", "ci", "", time.Now())
					if v.Reason == policy.Allowed {
						t.Fatal("admitted beyond the limit")
					}
					v.Leave() // of a refused request: gives nothing back
				}
				first.Leave()
				time.Sleep(time.Minute)
				if v := p.Enter("billing", "ci", "", time.Now()); v.Reason != policy.Allowed {
					t.Errorf("%s after all have left: places leaked", v.Reason)
				}
				if got := admitted(p, "cd", 10); got != tt.free {
					t.Errorf("a sibling got %d of the team's %d free places", got, tt.free)
				}
			})
		})
	}
}

// A request that finds its team's places taken must not keep the credential's
// own, which it got first.
func TestRefusalByTheTeamHoldsNoPlaceOfTheCredential(t *testing.T) {
	p := newPlan(t, lims{team: atOnce(1), ci: atOnce(1)})
	sibling := p.Enter("billing", "cd", "", time.Now())
	if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != policy.TooManyInFlight {
		t.Fatalf("got %s", got)
	}
	sibling.Leave()
	if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != policy.Allowed {
		t.Errorf("%s with every place free", got)
	}
}

// A refusal for want of a place must not use up tokens, or polling for a free
// place would end in a rate limit.
func TestWaitingForAPlaceCostsNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{team: {MaxInFlight: 1, Rate: &limits.Rate{N: 2, Per: time.Hour}}})
		v := p.Enter("billing", "ci", "", time.Now())
		for range 10 {
			if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != policy.TooManyInFlight {
				t.Fatalf("got %s", got)
			}
		}
		v.Leave()
		if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != policy.Allowed {
			t.Errorf("got %s", got)
		}
	})
}

func TestRetryAfterIsEnough(t *testing.T) {
	tests := []struct {
		name string
		lims lims
		want time.Duration
	}{
		{"a second at least", lims{team: {Rate: &limits.Rate{N: 50, Per: time.Second}}}, time.Second},
		{"rounded up", lims{team: {Rate: &limits.Rate{N: 2, Per: 3 * time.Second}}}, 2 * time.Second},
		{"whole", lims{team: perMinute(2, 0)}, 30 * time.Second},
		{"a fraction that floats miss", lims{team: {Rate: &limits.Rate{N: 1, Per: 49 * time.Second}}}, 49 * time.Second},
		{"the longer of two", lims{team: perMinute(6, 0), ci: {Rate: &limits.Rate{N: 6, Per: time.Hour}}}, 10 * time.Minute},
		{"the longer of two, the other way", lims{ci: perMinute(6, 0), team: {Rate: &limits.Rate{N: 6, Per: time.Hour}}}, 10 * time.Minute},
		{"longest there is", lims{team: {Rate: &limits.Rate{N: 1, Per: 1<<63 - 1}}}, time.Duration(1<<63 - 1).Truncate(time.Second)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlan(t, tt.lims)
				var v limits.Verdict
				for v = p.Enter("billing", "ci", "", time.Now()); v.Reason == policy.Allowed; {
					if v.RetryAfter != 0 {
						t.Fatalf("admitted, and told to wait %s", v.RetryAfter)
					}
					v = p.Enter("billing", "ci", "", time.Now())
				}
				if v.RetryAfter != tt.want {
					t.Errorf("retry after %s, want %s", v.RetryAfter, tt.want)
				}
				if tt.want > 24*time.Hour {
					return // past the years that a time can name
				}
				time.Sleep(v.RetryAfter)
				if got := p.Enter("billing", "ci", "", time.Now()).Reason; got != policy.Allowed {
					t.Errorf("%s after the wait that was asked for", got)
				}
			})
		})
	}
}

// A request reads the clock before it gets to its bucket, so busy connections
// present their times out of order. Counting the same stretch of time twice
// would then admit more than the rate.
func TestTimeNeverRunsBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlan(t, lims{team: {Rate: &limits.Rate{N: 1, Per: time.Second, Burst: 10}}})
		start := time.Now()
		in := 0
		for i := range 1000 {
			at := start
			if i%2 == 0 {
				at = start.Add(5 * time.Second)
			}
			if p.Enter("billing", "ci", "", at).Reason == policy.Allowed {
				in++
			}
		}
		if in > 10 {
			t.Errorf("admitted %d within five seconds of a full bucket of 10, want 10", in)
		}
	})
}

// However requests come, a bucket never admits more than its burst and what
// the time that has passed has earned.
func TestRateBoundHolds(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			lim := limits.Rate{N: 1 + r.IntN(50), Per: time.Duration(1+r.IntN(5000)) * time.Millisecond, Burst: r.IntN(40)}
			burst := lim.Burst
			if burst == 0 {
				burst = lim.N
			}
			p := newPlan(t, lims{team: {Rate: &lim}})
			start, in := time.Now(), 0
			for range 400 {
				time.Sleep(time.Duration(r.IntN(int(lim.Per) / lim.N)))
				if p.Enter("billing", "ci", "", time.Now()).Reason == policy.Allowed {
					in++
				}
				earned := float64(lim.N) * time.Since(start).Seconds() / lim.Per.Seconds()
				if float64(in) > float64(burst)+earned+1e-6 {
					t.Fatalf("seed %d: %+v admitted %d in %s", seed, lim, in, time.Since(start))
				}
			}
		})
	}
}

// The bounds hold under real concurrency, over reloads too.
func TestInFlightBoundHolds(t *testing.T) {
	const bound = 5
	book := limits.NewBook()
	both := lims{team: atOnce(bound), ci: {MaxInFlight: 3, Rate: &limits.Rate{N: 1 << 30, Per: time.Second}}}
	var current atomic.Pointer[limits.Plan]
	current.Store(book.Plan(both))

	var inside, insideCI atomic.Int64
	var workers, reloads sync.WaitGroup
	stop := make(chan struct{})
	reloads.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				current.Swap(book.Plan(both)).Close()
			}
		}
	})
	for w := range 16 {
		workers.Go(func() {
			credential := "ci"
			if w%2 == 0 {
				credential = "cd"
			}
			for range 2000 {
				v := current.Load().Enter("billing", credential, "", time.Now())
				if v.Reason == policy.Allowed {
					if n := inside.Add(1); n > bound {
						t.Errorf("%d requests of the team at once", n)
					}
					if credential == "ci" {
						if n := insideCI.Add(1); n > 3 {
							t.Errorf("%d requests of the credential at once", n)
						}
						insideCI.Add(-1)
					}
					inside.Add(-1)
				}
				v.Leave()
			}
		})
	}
	workers.Wait()
	close(stop)
	reloads.Wait()

	p := current.Load()
	if got := admitted(p, "cd", 2*bound); got != bound {
		t.Errorf("%d places free after all have left, want %d", got, bound)
	}
	p.Close()
}

func TestEnterDoesNotAllocate(t *testing.T) {
	huge := limits.Limit{MaxInFlight: 1000, Rate: &limits.Rate{N: 1 << 40, Per: time.Second}}
	p := newPlan(t, lims{team: huge, ci: huge})
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() { p.Enter("billing", "ci", "", now).Leave() }); n != 0 {
		t.Errorf("%v allocations a request, want none", n)
	}
	if n := testing.AllocsPerRun(1000, func() { p.Enter("ops", "", "", now).Leave() }); n != 0 {
		t.Errorf("%v allocations a request without limits, want none", n)
	}
	all := newPlan(t, lims{team: huge, each: huge})
	if n := testing.AllocsPerRun(1000, func() { all.Enter("billing", "", "0123456789ab", now).Leave() }); n != 0 {
		t.Errorf("%v allocations a request of a stored credential, want none", n)
	}
	one := newPlan(t, lims{each: {Rate: &limits.Rate{N: 1, Per: time.Hour}}})
	if n := testing.AllocsPerRun(1000, func() { one.Enter("billing", "", "0123456789ab", now).Leave() }); n != 0 {
		t.Errorf("%v allocations a refusal of a stored credential, want none", n)
	}
	full := newPlan(t, lims{team: {Rate: &limits.Rate{N: 1, Per: time.Hour}}})
	if n := testing.AllocsPerRun(1000, func() { full.Enter("billing", "ci", "", now).Leave() }); n != 0 {
		t.Errorf("%v allocations a refusal, want none", n)
	}
}

func BenchmarkEnter(b *testing.B) {
	huge := limits.Limit{MaxInFlight: 1000, Rate: &limits.Rate{N: 1 << 40, Per: time.Second}}
	p := limits.NewBook().Plan(lims{team: huge, ci: huge})
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		v := p.Enter("billing", "ci", "", time.Now())
		v.Headers(func(string, string) {})
		v.Leave()
	}
}

func BenchmarkEnterEach(b *testing.B) {
	huge := limits.Limit{MaxInFlight: 1000, Rate: &limits.Rate{N: 1 << 40, Per: time.Second}}
	slow := limits.Limit{MaxInFlight: 1000, Rate: &limits.Rate{N: 1 << 40, Per: 365 * 24 * time.Hour}}
	for _, n := range []int{1, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := limits.NewBook().Plan(lims{team: huge, each: slow})
			defer p.Close()
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf("%012d", i)
				p.Enter("billing", "", ids[i], time.Now()).Leave()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				p.Enter("billing", "", ids[i], time.Now()).Leave()
			}
		})
	}
}

// BenchmarkShare is how long the requests of one team wait at most, when a
// replica comes or goes.
func BenchmarkShare(b *testing.B) {
	slow := limits.Limit{Rate: &limits.Rate{N: 1000, Per: 365 * 24 * time.Hour}}
	book := limits.NewBook()
	p := book.Plan(lims{each: slow})
	defer p.Close()
	for i := range 1_000_000 {
		p.Enter("billing", "", fmt.Sprint(i), time.Now()).Leave()
	}
	for i := 0; b.Loop(); i++ {
		book.Share(1 + i%2)
	}
}
