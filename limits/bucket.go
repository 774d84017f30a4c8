package limits

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// bucket is what was counted for one key. It outlives the plans that use it.
type bucket struct {
	inFlight atomic.Int64

	mu   sync.Mutex
	rate *rate.Limiter // nil until a plan has a rate for the key
	last time.Time     // the latest time seen
}

// step takes a place among the requests under way. They are counted without
// a bound (0) too, for the plan after this one may have one.
func (b *bucket) step(bound int64) bool {
	if bound == 0 {
		b.inFlight.Add(1)
		return true
	}
	for {
		n := b.inFlight.Load()
		if n >= bound {
			return false
		}
		if b.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (b *bucket) stepBack() { b.inFlight.Add(-1) }

// take uses up a token of the rate, if there is one, and returns those left.
func (b *bucket) take(now time.Time) (ok bool, left float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now = b.forward(now)
	return b.rate.AllowN(now, 1), b.rate.TokensAt(now)
}

// tokens returns those left without taking one.
func (b *bucket) tokens(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate.TokensAt(b.forward(now))
}

// tune holds the bucket to another rate. What has run up so far was earned at
// the old one and stays; only a new bucket starts full.
func (b *bucket) tune(p pace, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == nil {
		b.rate = rate.NewLimiter(rate.Limit(p.perSecond), p.burst)
		return
	}
	now = b.forward(now)
	b.rate.SetLimitAt(now, rate.Limit(p.perSecond))
	b.rate.SetBurstAt(now, p.burst)
}

// forward keeps time from running backwards. Requests read the clock before
// they get here and may overtake each other; a limiter that is told an
// earlier time counts the difference again, so that many connections at once
// would be admitted more than the rate.
func (b *bucket) forward(now time.Time) time.Time {
	if now.After(b.last) {
		b.last = now
	}
	return b.last
}
