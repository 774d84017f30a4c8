package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	// margin is added to a replica's silence: clocks do not run alike, and a
	// request that it admitted in its last moment needs time to be refused.
	margin = time.Second

	firstLook, longestPause = 2 * time.Millisecond, 250 * time.Millisecond
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
// been silent for so long that it cannot serve any more. progress, if not nil,
// is called whenever the report has changed.
func (m *Member) Wait(ctx context.Context, revision int64, progress func(Report)) (Report, error) {
	if err := m.Sync(ctx); err != nil {
		return Report{}, err
	}
	if m.Revision() < revision {
		return Report{}, fmt.Errorf("%w: it is at %d", ErrAhead, m.Revision())
	}
	pause := firstLook
	var last Report
	for first := true; ; first = false {
		list, now, err := m.st.Replicas(ctx)
		if err != nil {
			return last, fmt.Errorf("reading who is in the fleet: %w", err)
		}
		r := report(list, now, revision)
		if progress != nil && (first || len(r.Seen) != len(last.Seen) || len(r.RanOut) != len(last.RanOut) || len(r.Waiting) != len(last.Waiting)) {
			progress(r)
		}
		if last = r; r.Done() {
			return r, nil
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			return r, ctx.Err()
		case <-m.ended:
			return r, ErrClosed
		}
	}
}

func report(list []store.Replica, now time.Time, revision int64) Report {
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
	return r
}

// ranOut reports whether a replica has been silent for so long that it serves
// no more.
func ranOut(r store.Replica, now time.Time) bool { return now.Sub(r.Beat) > r.Silence+margin }
