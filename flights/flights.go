// Package flights lets callers who ask for the same at the same time share one
// answer. It keeps none: an answer is given to those who waited for it and to
// nobody who came later, so that whoever changes something reads what is there
// now.
//
// It decides nothing about a caller. Whoever joins a flight has been permitted
// the same request by itself, and is asked again, by others, before it is given
// the answer.
//
// singleflight of golang.org/x/sync is much the same and does not fit. Its
// Forget is told one key, and a change has to end all of them at once. Its work
// ends when it ends: nobody counts who still waits, so that it can neither
// outlive the caller who began it nor end with the last who wants it. And a
// caller is not told whose work it was given, which has to go on record.
package flights

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

var (
	// ErrAlone is returned by work whose answer is for the caller alone who
	// does it, and by Fly to the others, who have to send their own.
	ErrAlone = errors.New("the answer is not for sharing")

	// ErrBroken is what the others are told when the work panics.
	ErrBroken = errors.New("the work of another broke off")
)

// Key says what is asked for, and for whom: flights with the same are one.
type Key struct {
	Team               string
	Method, Path, Body string
}

// Changes counts changes of what is read. One count is for all boards whose
// callers read the same.
type Changes struct{ n atomic.Uint64 }

// Mark lets nobody join a flight any more that is under way now. It is called
// when a change is about to leave and again when it is back: a read that began
// in between may have been answered from before it, and whoever has seen the
// change done must not be given that.
func (c *Changes) Mark() { c.n.Add(1) }

// Board knows the flights under way.
type Board[T any] struct {
	changes *Changes
	mu      sync.Mutex
	open    map[Key]*flight[T]
}

// NewBoard makes a board whose flights are closed by the changes.
func NewBoard[T any](changes *Changes) *Board[T] {
	return &Board[T]{changes: changes, open: map[Key]*flight[T]{}}
}

// flight is work that is under way for one or more callers.
type flight[T any] struct {
	board  *Board[T]
	key    Key
	leader string
	began  uint64          // the count of changes
	ctx    context.Context //nolint:containedctx // the work's own: it outlives the leader's
	cancel context.CancelFunc
	over   chan struct{}

	callers int  // who wait; guarded by the board
	landed  bool // guarded by the board

	// To be read once it is over.
	answer T
	err    error
}

// Fly returns the answer of a flight with this key: one that is under way and
// was not closed, or a new one, on which the caller itself does the work and
// which others may then join. It says whose work the caller was given, by the
// name that one gave itself; "" is its own.
//
// The context of the work ends when the last caller has left. A caller who
// leaves is told its own context's error, the leader only when the work is
// done. The leader may go on with what it got after ErrAlone: then the context
// of the work ends with its own.
func (b *Board[T]) Fly(ctx context.Context, key Key, caller string, work func(context.Context) (T, error)) (answer T, whose string, err error) {
	f, leads := b.join(key, caller)
	if leads {
		f.lead(ctx, work)
	} else {
		whose = f.leader
		f.wait(ctx)
	}
	if err := ctx.Err(); err != nil {
		return answer, whose, err
	}
	return f.answer, whose, f.err
}

// join returns a flight that may be joined, or a new one, which the caller
// leads.
func (b *Board[T]) join(key Key, caller string) (f *flight[T], leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.changes.n.Load()
	f = b.open[key]
	if leads = f == nil || f.began != now; leads {
		f = &flight[T]{board: b, key: key, leader: caller, began: now, over: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(context.Background()) //nolint:gosec // by whoever lands or leaves last
		b.open[key] = f
	}
	f.callers++
	return f, leads
}

// lead does the work, in the goroutine of the caller: a panic finds its way to
// whoever expects it there.
func (f *flight[T]) lead(ctx context.Context, work func(context.Context) (T, error)) {
	stop := context.AfterFunc(ctx, f.leave)
	f.err = ErrBroken
	defer func() {
		stop()
		f.land()
		if errors.Is(f.err, ErrAlone) {
			context.AfterFunc(ctx, f.cancel)
		} else {
			f.cancel()
		}
	}()
	f.answer, f.err = work(f.ctx)
}

// wait waits for the work of another.
func (f *flight[T]) wait(ctx context.Context) {
	select {
	case <-f.over:
	case <-ctx.Done():
		f.leave()
	}
}

// land gives the answer to those who wait, and closes the flight.
func (f *flight[T]) land() {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	f.landed = true
	f.close()
	close(f.over)
}

// leave takes one caller off. A flight that nobody waits for is broken off.
func (f *flight[T]) leave() {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	if f.callers--; f.callers == 0 && !f.landed {
		f.close()
		f.cancel()
	}
}

// close takes the flight off the board, where another may have taken its place.
// It needs the board's lock.
func (f *flight[T]) close() {
	if f.board.open[f.key] == f {
		delete(f.board.open, f.key)
	}
}
