// Package fleet keeps a process in step with the other replicas of its gateway.
// It follows the changes of the store, says how long what is known of it may
// still be relied on, and tells when all replicas have seen a change. It knows
// neither what a credential is nor what may be done with one, and decides
// nothing about requests.
//
// What it promises is that nobody serves who has not heard: a replica that is
// told of as done with a revision, or as run out, acts on nothing older than
// that revision.
package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	// DefaultGrace is how long a replica that is cut off from the store may
	// go on serving by what it knows.
	DefaultGrace = 60 * time.Second

	// SkewBound is how far the store's clock and the local one may differ.
	SkewBound = 5 * time.Second

	// pollEvery is how soon a change is seen that nobody told of.
	pollEvery = time.Second

	// beatEvery is how often a replica says that it is alive while nothing
	// changes. When something changes it says so at once.
	beatEvery = 5 * time.Second

	// hintPace is how long after a sync a hint has to wait. A script that makes
	// a thousand credentials gives a hint with each, and to answer each with a
	// beat would have the store do as much again.
	hintPace = 10 * time.Millisecond

	// patience bounds one question to the store, so that one that hangs fails.
	patience = 2 * time.Second

	// pageSize is how many changes are read at once.
	pageSize = 1000
)

var (
	// ErrClosed says that the member has left.
	ErrClosed = errors.New("this replica has left the fleet")

	// ErrAhead says that the store does not have a revision that is waited for.
	ErrAhead = errors.New("the store has no such revision")
)

// Store is what a fleet uses of a store.
type Store interface {
	Changes(ctx context.Context, since int64, limit int) (store.Changes, error)
	Hints() <-chan struct{}
	Beat(ctx context.Context, r store.Replica) error
	Replicas(ctx context.Context) ([]store.Replica, time.Time, error)
	Leave(ctx context.Context, id string) error
}

// Events takes what happens to a member.
type Events interface {
	Synced(at time.Time)
	SyncFailed()
	Lag(d time.Duration)  // from a change until this replica has seen it
	Skew(d time.Duration) // the store's clock less the local one
	Replicas(live int)
}

// Options are what a member is made of. All its functions are called from one
// goroutine, never two at once.
type Options struct {
	ID, Host, Version string // ID is new at each start

	// Grace is how long the replica may serve on without the store. Default:
	// DefaultGrace.
	Grace time.Duration

	Apply  func([]store.Change)        // forget these; called before they count as seen
	Reset  func()                      // forget all
	Warn   func(msg string, err error) // tell the operator; err may be nil
	Events Events
}
