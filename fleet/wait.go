package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	// margin is added to a replica's silence: clocks do not run alike, and a
	// request that it admitted in its last moment needs time to be refused.
	margin = time.Second

	firstPause, longestPause = 2 * time.Millisecond, 250 * time.Millisecond
)

// Report says which replicas have seen a change.
type Report struct {
	Revision int64
	Seen     []store.Replica
	Waiting  []store.Replica // neither seen it nor run out
	// RanOut are those that did not report it, and may no longer serve.
	RanOut []store.Replica
	// Left is how long it takes at most until the waiting ones have run out, if
	// they stay silent.
	Left time.Duration
}

// Done reports whether nobody is waited for.
func (r Report) Done() bool { return len(r.Waiting) == 0 }

// Wait returns once every replica has seen the changes up to a revision, or has
// been silent for so long that it cannot serve any more. A replica that left
// is in no report: it serves nothing either. progress, if not nil, is called
// whenever somebody has moved, the last time with what Wait returns.
//
// While the store does not answer, Wait goes on asking for as long as this
// replica itself may do without it.
func (m *Member) Wait(ctx context.Context, revision int64, progress func(Report)) (Report, error) {
	last := Report{Revision: revision}
	if err := m.Sync(ctx); err != nil {
		return last, err
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for next, told := firstPause, false; ; next = min(2*next, longestPause) {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return last, ctx.Err()
		case <-m.ended:
			return last, ErrClosed
		}
		// Each time anew: a store may be put back to before the revision.
		if seen := m.Revision(); seen < revision {
			return last, fmt.Errorf("%w: it is at %d", ErrAhead, seen)
		}
		r, err := m.look(ctx, revision)
		switch {
		case err != nil && !m.Fresh(time.Now()):
			return last, err
		case err == nil && r.has(m.o.ID):
			if progress != nil && (!told || r.moved(last)) {
				progress(r)
			}
			if last, told = r, true; r.Done() {
				return r, nil
			}
		}
		pause.Reset(next)
	}
}

func (m *Member) look(ctx context.Context, revision int64) (Report, error) {
	list, now, err := m.replicas(ctx)
	if err != nil {
		return Report{}, err
	}
	r := Report{Revision: revision}
	for _, one := range list {
		switch {
		case one.Revision >= revision:
			r.Seen = append(r.Seen, one)
		case ranOut(one, now):
			r.RanOut = append(r.RanOut, one)
		default:
			r.Waiting = append(r.Waiting, one)
			r.Left = max(r.Left, one.Silence+margin-now.Sub(one.Beat))
		}
	}
	return r, nil
}

// has reports whether a replica has seen the change. This one has before it
// looks, so a list by which it has not is one of a store that was put back: it
// knows nothing of who may be serving.
func (r Report) has(id string) bool {
	return slices.ContainsFunc(r.Seen, func(one store.Replica) bool { return one.ID == id })
}

// moved reports whether a replica is elsewhere than it was before.
func (r Report) moved(before Report) bool {
	same := func(a, b store.Replica) bool { return a.ID == b.ID }
	return !slices.EqualFunc(r.Seen, before.Seen, same) ||
		!slices.EqualFunc(r.Waiting, before.Waiting, same) ||
		!slices.EqualFunc(r.RanOut, before.RanOut, same)
}

// ranOut reports whether a replica has been silent for so long that it serves
// no more.
func ranOut(r store.Replica, now time.Time) bool { return now.Sub(r.Beat) > r.Silence+margin }
