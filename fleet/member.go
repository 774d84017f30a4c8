package fleet

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/store"
)

// Member is this process among the replicas of its gateway. It is safe for
// concurrent use.
type Member struct {
	st Store
	o  Options

	good      atomic.Pointer[time.Time] // when the last good sync began; nil before the first
	reachable atomic.Bool
	skew      atomic.Int64 // the store's clock less the local one, at the last answer
	live      atomic.Int64
	revision  atomic.Int64 // up to where changes were seen

	asks   chan chan error // of those who wait for a sync
	cancel context.CancelFunc
	ended  chan struct{}
	left   sync.Once
	leave  error

	follower follower
}

// Join makes this process a replica. Nothing is fresh before its first sync.
func Join(st Store, o Options) *Member {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Member{
		st: st, o: o, asks: make(chan chan error), cancel: cancel, ended: make(chan struct{}),
		follower: follower{told: untold},
	}
	m.live.Store(1)
	go m.loop(ctx)
	return m
}

// First waits for the first sync, before which nothing should be served. It
// reads no credentials, however many there are.
func (m *Member) First(ctx context.Context) error { return m.Sync(ctx) }

// Fresh reports whether the store was heard from within the grace, so that
// what is known of it may be relied on. now must come from time.Now.
func (m *Member) Fresh(now time.Time) bool {
	good := m.good.Load()
	return good != nil && elapsed(*good, now) <= m.o.Grace
}

// elapsed returns how long ago a time was, by the clock that says more.
func elapsed(since, now time.Time) time.Duration {
	return longer(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// longer takes the monotonic clock where the wall clock was set back, which
// would lengthen the grace; and the wall clock where the machine was asleep, as
// the other stands still meanwhile: a replica that wakes up must not serve by
// what it knew then, nor take itself for one that the fleet has heard of lately.
func longer(monotonic, wall time.Duration) time.Duration { return max(monotonic, wall) }

// Reachable reports whether the last sync was a success.
func (m *Member) Reachable() bool { return m.reachable.Load() }

// Now returns the time by the store's clock, as far as it is known.
func (m *Member) Now() time.Time { return time.Now().Round(0).Add(time.Duration(m.skew.Load())) }

// Skewed reports whether the two clocks differed too much at the last sync.
func (m *Member) Skewed() bool { return time.Duration(m.skew.Load()).Abs() > SkewBound }

// Live returns how many replicas may be serving, this one among them.
func (m *Member) Live() int { return int(m.live.Load()) }

// Revision returns up to which revision this replica has seen the changes.
func (m *Member) Revision() int64 { return m.revision.Load() }

// Sync reads what has changed by now. It returns when a sync that began after
// the call has ended; callers who come meanwhile share the next one.
func (m *Member) Sync(ctx context.Context) error {
	done := make(chan error, 1) // the loop does not wait for who no longer waits
	select {
	case m.asks <- done:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close leaves the fleet. From then on nothing is fresh, since nobody waits for
// a replica that has left. Close it after the servers and before the store.
func (m *Member) Close() error {
	m.left.Do(func() {
		m.cancel()
		<-m.ended
		m.good.Store(nil)
		m.reachable.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.st.Leave(ctx, m.o.ID); err != nil {
			// The others wait until its silence has run out instead.
			m.leave = fmt.Errorf("leaving the fleet: %w", err)
		}
	})
	return m.leave
}

func (m *Member) loop(ctx context.Context) {
	defer close(m.ended)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	pace := time.NewTimer(0)
	defer pace.Stop()
	hints := m.st.Hints()
	var listening <-chan struct{} // hints, once the pace allows for one
	for {
		var asking []chan error
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
			listening = hints
			continue
		case _, open := <-listening:
			if !open {
				hints, listening = nil, nil // the store was closed; syncs will say so
				continue
			}
		case <-poll.C:
		case done := <-m.asks:
			asking = m.others(done)
		}
		err := m.sync(ctx)
		for _, done := range asking {
			done <- err
		}
		listening = nil
		pace.Reset(hintPace)
	}
}

// others returns who else is asking now, with the one who asked.
func (m *Member) others(asking ...chan error) []chan error {
	for {
		select {
		case done := <-m.asks:
			asking = append(asking, done)
		default:
			return asking
		}
	}
}

// mayServe counts the replicas that may be serving, other than one.
func mayServe(list []store.Replica, now time.Time, butFor string) (n int) {
	for _, r := range list {
		if r.ID != butFor && !ranOut(r, now) {
			n++
		}
	}
	return n
}
