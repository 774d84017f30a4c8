package ledger

import (
	"sync"
	"time"
)

const (
	// perMinute bounds what the ledger asks of upstream by itself: the account's
	// own bound, if it has one, is shared with everybody who works with it.
	perMinute = 300

	// spare is how much of that a reconciliation leaves for deletions: it may
	// have very much to ask, and a token that has to go must not wait for it.
	spare = perMinute / 2
)

// budget bounds the calls of a process that no caller waits for. It fills
// evenly, and holds a minute's worth. It goes by a clock that is never put
// forward or back.
type budget struct {
	mu   sync.Mutex
	left float64
	last time.Time
	held time.Time // upstream asked to wait until then
}

func newBudget() *budget { return &budget{left: perMinute, last: time.Now()} }

// open reports whether so many calls may be made now.
func (b *budget) open(calls float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refill() >= calls
}

// take makes room for so many calls, if there is any.
func (b *budget) take(calls float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refill() < calls {
		return false
	}
	b.left -= calls
	return true
}

// takeSpare makes room for a call that can wait, or tells for how long it has
// to.
func (b *budget) takeSpare() (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if lacks := spare + 1 - b.refill(); lacks > 0 {
		return max(b.until(), time.Duration(lacks*float64(time.Minute)/perMinute)+1)
	}
	b.left--
	return 0
}

// refill returns what is left now.
func (b *budget) refill() float64 {
	now := time.Now()
	b.left = min(b.left+now.Sub(b.last).Minutes()*perMinute, perMinute)
	b.last = now
	if b.until() > 0 {
		return 0
	}
	return b.left
}

func (b *budget) until() time.Duration { return max(time.Until(b.held), 0) }

// patient is how long to wait where upstream says that it is asked too much
// and not until when.
const patient = time.Minute

// hold makes no calls for a time, but at most an hour, which upstream asked
// for. It returns for how long none are made.
func (b *budget) hold(d time.Duration) time.Duration {
	if d <= 0 {
		d = patient
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(min(d, time.Hour)); until.After(b.held) {
		b.held = until
	}
	return b.until()
}

// heldFor is for how long upstream asked that no calls are made.
func (b *budget) heldFor() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until()
}
