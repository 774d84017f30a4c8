package ledger

import (
	"sync"
	"time"
)

// perMinute bounds what the ledger asks of upstream by itself: the account's
// own bound, if it has one, is shared with everybody who works with it.
const perMinute = 300

// budget bounds the calls of a process that no caller waits for. It fills
// evenly, and holds a minute's worth.
type budget struct {
	now func() time.Time

	mu   sync.Mutex
	left float64
	last time.Time
	held time.Time // upstream asked to wait until then
}

func newBudget(now func() time.Time) *budget {
	return &budget{now: now, left: perMinute}
}

// open reports whether a call may be made now.
func (b *budget) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refill() >= 1
}

// take makes room for a call, if there is any.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refill() < 1 {
		return false
	}
	b.left--
	return true
}

// ready is how long to wait until a call may be made.
func (b *budget) ready() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.refill()
	now := b.now()
	if now.Before(b.held) {
		return b.held.Sub(now)
	}
	if left >= 1 {
		return 0
	}
	return time.Duration((1 - left) * float64(time.Minute) / perMinute)
}

// refill returns what is left now.
func (b *budget) refill() float64 {
	now := b.now()
	if b.last.IsZero() {
		b.last = now
	}
	if since := now.Sub(b.last); since > 0 {
		b.left = min(b.left+since.Minutes()*perMinute, perMinute)
	}
	b.last = now
	if now.Before(b.held) {
		return 0
	}
	return b.left
}

// patient is how long to wait where upstream says that it is asked too much
// and not until when.
const patient = time.Minute

// hold makes no calls for a time, but at most an hour, which upstream asked
// for. It returns until when.
func (b *budget) hold(d time.Duration) time.Time {
	if d <= 0 {
		d = patient
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := b.now().Add(min(d, time.Hour)); until.After(b.held) {
		b.held = until
	}
	return b.held
}
