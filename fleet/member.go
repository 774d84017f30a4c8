package fleet

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/store"
)

// Member is this process among the replicas of its gateway. It is safe for
// concurrent use.
type Member struct {
	st   Store
	o    Options
	self store.Replica

	base time.Time // what good counts from
	// good is when the last good sync began, on the monotonic clock: an hour
	// that somebody sets must not lengthen the grace. never before the first.
	good      atomic.Int64
	reachable atomic.Bool
	skew      atomic.Int64
	live      atomic.Int64
	revision  atomic.Int64 // up to where changes were seen

	wake chan struct{}
	mu   sync.Mutex
	wait []chan error // for the next sync that begins

	cancel context.CancelFunc
	ended  chan struct{}
	left   sync.Once
	leave  error

	// Of the loop alone.
	joined bool
	beaten time.Time // when the last good beat began
}

const never = math.MinInt64

// Join makes this process a replica. It serves nothing before its first sync.
func Join(st Store, o Options) *Member {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Member{
		st: st, o: o, base: time.Now(), wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
		self: store.Replica{
			ID: o.ID, Host: o.Host, Version: o.Version, Started: time.Now().UTC().Truncate(time.Microsecond),
			Silence: o.Grace + beatEvery,
		},
	}
	m.good.Store(never)
	m.live.Store(1)
	go m.loop(ctx)
	return m
}

// First waits for the first sync, before which nothing should be served. It
// reads no credentials, however many there are.
func (m *Member) First(ctx context.Context) error { return m.Sync(ctx) }

// Fresh reports whether the store was heard from within the grace, so that
// what is known of it may be relied on. now must be of the monotonic clock, as
// time.Now returns it.
func (m *Member) Fresh(now time.Time) bool {
	good := m.good.Load()
	return good != never && now.Sub(m.base)-time.Duration(good) < m.o.Grace
}

// Reachable reports whether the last attempt to reach the store was a success.
func (m *Member) Reachable() bool { return m.reachable.Load() }

// Now returns the time by the store's clock, as far as it is known.
func (m *Member) Now() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }

// Skewed reports whether the two clocks differ too much.
func (m *Member) Skewed() bool { return time.Duration(m.skew.Load()).Abs() > SkewBound }

// Live returns how many replicas may be serving, this one among them.
func (m *Member) Live() int { return int(m.live.Load()) }

// Revision returns up to which revision this replica has seen the changes.
func (m *Member) Revision() int64 { return m.revision.Load() }

// Sync reads what has changed by now. It returns when a sync that began after
// the call has ended.
func (m *Member) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	m.mu.Lock()
	m.wait = append(m.wait, done)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it was woken already, and takes all who wait when it begins
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrClosed
	}
}

// Close leaves the fleet. Nothing may be served from then on.
func (m *Member) Close() error {
	m.left.Do(func() {
		m.cancel()
		<-m.ended
		m.good.Store(never)
		m.reachable.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.st.Leave(ctx, m.self.ID); err != nil {
			// The others wait for its silence instead.
			m.leave = fmt.Errorf("leaving the fleet: %w", err)
		}
	})
	return m.leave
}

func (m *Member) loop(ctx context.Context) {
	defer close(m.ended)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	hints := m.st.Hints()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-hints:
			if !open {
				hints = nil // the store was closed; syncs will say so
				continue
			}
		case <-poll.C:
		case <-m.wake:
		}
		m.mu.Lock()
		waiting := m.wait
		m.wait = nil
		m.mu.Unlock()
		err := m.attempt(ctx)
		for _, done := range waiting {
			done <- err
		}
	}
}

// attempt syncs once and tells what came of it.
func (m *Member) attempt(ctx context.Context) error {
	start := time.Now()
	err := m.sync(ctx, start)
	if ctx.Err() != nil {
		return ErrClosed
	}
	if err != nil {
		m.o.Events.SyncFailed()
		if m.reachable.Swap(false) || !m.joined {
			m.o.Warn("the store cannot be reached; what is known of it is relied on for the grace", err)
		}
		return err
	}
	m.good.Store(int64(start.Sub(m.base)))
	if !m.reachable.Swap(true) && m.joined {
		m.o.Warn("the store was reached", nil)
	}
	m.joined = true
	m.o.Events.Synced(start)
	return nil
}

// sync reads all changes and reports that they were seen. It is good only
// where both were: the others count this replica's silence from its reports.
func (m *Member) sync(ctx context.Context, start time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen := m.revision.Load()
	if err := m.follow(ctx); err != nil {
		return fmt.Errorf("reading the changes of the store: %w", err)
	}
	if m.joined && m.revision.Load() == seen && start.Sub(m.beaten) < beatEvery {
		return nil
	}
	m.self.Revision = m.revision.Load()
	if err := m.st.Beat(ctx, m.self); err != nil {
		return fmt.Errorf("reporting to the fleet: %w", err)
	}
	m.beaten = start
	return m.count(ctx)
}

// follow reads and applies the changes behind the last one seen.
func (m *Member) follow(ctx context.Context) error {
	for {
		since := m.revision.Load()
		if !m.joined {
			since = math.MaxInt64 // the revision alone: nothing is known yet that could be forgotten
		}
		began := time.Now()
		c, err := m.st.Changes(ctx, since, pageSize)
		if err != nil {
			return err
		}
		m.compareClocks(c.Now, began)
		switch {
		case !m.joined:
			m.o.Reset()
		case c.Revision < since:
			// What this replica knows may be what the store no longer says.
			m.o.Warn("the store went back to an older state, as a restored one does; all that was known of it is forgotten", nil)
			m.o.Reset()
		case len(c.List) > 0:
			m.o.Apply(c.List)
			for _, one := range c.List {
				m.o.Events.Lag(max(0, c.Now.Sub(one.At)+time.Since(began)))
			}
		}
		if !c.More {
			m.revision.Store(c.Revision)
			return nil
		}
		m.revision.Store(c.List[len(c.List)-1].Revision)
	}
}

// compareClocks takes the store's clock to have been read half-way.
func (m *Member) compareClocks(theirs, began time.Time) {
	skew := theirs.Sub(began.Round(0)) - time.Since(began)/2
	m.skew.Store(int64(skew))
	m.o.Events.Skew(skew)
}

// count counts the replicas that may be serving.
func (m *Member) count(ctx context.Context) error {
	list, now, err := m.st.Replicas(ctx)
	if err != nil {
		return fmt.Errorf("reading who is in the fleet: %w", err)
	}
	live := 0
	for _, r := range list {
		if !ranOut(r, now) {
			live++
		}
	}
	m.live.Store(int64(max(live, 1)))
	m.o.Events.Replicas(max(live, 1))
	return nil
}
