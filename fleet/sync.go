package fleet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	untold = -1 // no revision was told to the fleet yet

	// fromNow is a revision behind which there is nothing: asking for it tells
	// that of the store and reads no row.
	fromNow = math.MaxInt64
)

// errRestored says that the store is not the one that was followed until now:
// a backup was put in its place, or a standby that lacks its last changes.
var errRestored = errors.New("the store went back to an older state")

// errLate says that the fleet may have taken this replica for gone, or not have
// known of it, while it read the changes.
var errLate = errors.New("the fleet was told too late")

// follower is what only the loop knows.
type follower struct {
	based   bool      // the revision is the store's, or was
	started time.Time // when it was first based, by the store's clock
	told    int64     // the revision that this replica told the fleet last
	beaten  time.Time // when it began to; zero where the fleet knows of none
	failing bool      // the last sync was none
	stale   bool      // the operator knows that the grace is over
}

// sync follows the store once and tells what came of it.
func (m *Member) sync(ctx context.Context) error {
	start, err := m.catchUp(ctx)
	if errors.Is(err, errRestored) {
		m.startOver()
		start, err = m.catchUp(ctx)
	}
	if errors.Is(err, errLate) {
		// The fleet waits for this replica from now on. A change from before
		// it did may have been called seen by all: it is read now.
		start, err = m.catchUp(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return ErrClosed // which says nothing of the store
	case err != nil:
		m.failed(err)
	default:
		m.succeeded(start)
	}
	return err
}

// catchUp reads all changes and tells the fleet that they were seen, and returns
// when it began. It is good only where both were: the others count this
// replica's silence from when it told them.
func (m *Member) catchUp(ctx context.Context) (time.Time, error) {
	start := time.Now()
	if err := m.follow(ctx); err != nil {
		return start, err
	}
	f := &m.follower
	if f.told == m.revision.Load() && elapsed(f.beaten, start) < beatEvery && !f.failing {
		return start, nil
	}
	return start, m.beat(ctx)
}

// startOver forgets everything: what this replica knows may be what the store
// no longer says, and what the store says by now may stand at a revision that
// was seen, with something else in it.
func (m *Member) startOver() {
	m.good.Store(nil)
	m.follower.based, m.follower.told, m.follower.beaten = false, untold, time.Time{}
	m.o.Warn("the store went back to an older state, as a restored one does; all that was known of it is forgotten", nil)
	m.o.Reset()
}

// follow reads and applies the changes behind the last one seen.
func (m *Member) follow(ctx context.Context) error {
	for first := true; ; first = false {
		since := m.revision.Load()
		if !m.follower.based {
			since = fromNow
		}
		asked := time.Now()
		c, err := m.changes(ctx, since)
		if err != nil {
			return fmt.Errorf("reading the changes of the store: %w", err)
		}
		if first {
			m.compareClocks(c.Now, asked)
		}
		if !m.follower.based {
			m.begin(c)
			return nil
		}
		if c.Revision < since {
			return errRestored
		}
		m.apply(c, asked)
		if !c.More {
			m.revision.Store(c.Revision)
			return nil
		}
		m.revision.Store(c.List[len(c.List)-1].Revision)
	}
}

// begin takes the store's revision for the one to follow from. What was read
// before is forgotten, for it may be older, and its change would never be told.
func (m *Member) begin(c store.Changes) {
	m.o.Reset()
	m.revision.Store(c.Revision)
	m.follower.based = true
	if m.follower.started.IsZero() {
		m.follower.started = c.Now
	}
}

func (m *Member) apply(c store.Changes, asked time.Time) {
	if len(c.List) == 0 {
		return
	}
	m.o.Apply(c.List)
	for _, one := range c.List {
		m.o.Events.Lag(max(0, c.Now.Sub(one.At)+time.Since(asked)))
	}
}

func (m *Member) changes(ctx context.Context, since int64) (store.Changes, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := m.st.Changes(ctx, since, pageSize)
	if err == nil && c.More && (len(c.List) == 0 || c.List[len(c.List)-1].Revision <= since) {
		return c, errors.New("the list does not go on")
	}
	return c, err
}

// beat tells the fleet what this replica has seen, and counts who is in it. It
// looks before it tells: a row that is gone, or that says less than was told,
// is that of a store which was restored, even where it has come to a later
// revision again since.
func (m *Member) beat(ctx context.Context) error {
	f := &m.follower
	list, now, err := m.replicas(ctx)
	if err != nil {
		return err
	}
	if f.told != untold && !slices.ContainsFunc(list, func(r store.Replica) bool { return r.ID == m.o.ID && r.Revision >= f.told }) {
		return errRestored
	}
	begun := time.Now() // the row's own time is no earlier, so others wait long enough
	seen := m.revision.Load()
	if err := m.tell(ctx, seen); err != nil {
		return fmt.Errorf("telling the fleet of this replica: %w", err)
	}
	late := elapsed(f.beaten, time.Now()) > m.silence()
	f.told, f.beaten = seen, begun
	live := 1 + mayServe(list, now, m.o.ID)
	m.live.Store(int64(live))
	m.o.Events.Replicas(live)
	if late {
		return errLate
	}
	return nil
}

// silence is how long after a beat this replica may be serving: the last good
// sync without one began within beatEvery of it.
func (m *Member) silence() time.Duration { return m.o.Grace + beatEvery }

func (m *Member) tell(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return m.st.Beat(ctx, store.Replica{
		ID: m.o.ID, Host: m.o.Host, Version: m.o.Version, Started: m.follower.started,
		Revision: revision, Silence: m.silence(),
	})
}

func (m *Member) replicas(ctx context.Context) ([]store.Replica, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, now, err := m.st.Replicas(ctx)
	if err != nil {
		return nil, now, fmt.Errorf("reading who is in the fleet: %w", err)
	}
	return list, now, nil
}

// compareClocks takes the store's clock to have been read half-way.
func (m *Member) compareClocks(theirs, asked time.Time) {
	skew := theirs.Round(0).Sub(asked.Round(0)) - time.Since(asked)/2
	before := m.Skewed()
	m.skew.Store(int64(skew))
	m.o.Events.Skew(skew)
	if m.Skewed() && !before {
		m.o.Warn(fmt.Sprintf("the store's clock and the local one differ by %s: no tokens are made", skew.Abs().Round(time.Second)), nil)
	}
}

func (m *Member) succeeded(start time.Time) {
	f := &m.follower
	m.good.Store(&start)
	m.reachable.Store(true)
	if f.failing {
		m.o.Warn("the store answers again", nil)
	}
	f.failing, f.stale = false, false
	m.o.Events.Synced(start)
}

// failed tells the operator once that it began, and once that it lasted.
func (m *Member) failed(err error) {
	f := &m.follower
	m.reachable.Store(false)
	m.o.Events.SyncFailed()
	if !f.failing {
		f.failing = true
		m.o.Warn("the store cannot be reached; what is known of it is relied on until the grace is over", err)
	}
	if !f.stale && m.good.Load() != nil && !m.Fresh(time.Now()) {
		f.stale = true
		m.o.Warn("the grace is over and the store cannot be reached: requests are refused", err)
	}
}
