package fleet_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

var errAway = errors.New("connection refused")

// database is what the stores of a fleet share. Its clock is the test's.
type database struct {
	mu       sync.Mutex
	ahead    time.Duration // of its clock
	revision int64
	changes  map[string]store.Change // the last one of each credential
	replicas map[string]store.Replica
	hints    []chan struct{}
}

func newDatabase() *database {
	return &database{changes: map[string]store.Change{}, replicas: map[string]store.Replica{}}
}

func (d *database) now() time.Time { return time.Now().Add(d.ahead).Round(0) }

// change notes a change of a credential and returns its revision.
func (d *database) change(id string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revision++
	d.changes[id] = store.Change{ID: id, Revision: d.revision, At: d.now()}
	return d.revision
}

// notify gives everybody a hint.
func (d *database) notify() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ch := range d.hints {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// snapshot is what a backup of the database would hold.
func (d *database) snapshot() *database {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &database{revision: d.revision, changes: maps.Clone(d.changes), replicas: maps.Clone(d.replicas)}
}

// restore puts a backup in the database's place.
func (d *database) restore(backup *database) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revision, d.changes, d.replicas = backup.revision, maps.Clone(backup.changes), maps.Clone(backup.replicas)
}

// replica returns the row of one, if it has any.
func (d *database) replica(id string) (store.Replica, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.replicas[id]
	return r, ok
}

// link is one process's connection to the database. Each call may be made to
// fail or to take its time, and so may the answer to a beat that was taken.
type link struct {
	db    *database
	hints chan struct{}

	mu    sync.Mutex
	calls map[string]int
	since []int64 // of each call of Changes
	on    map[string]func(ctx context.Context) error
}

func (d *database) connect() *link {
	l := &link{
		db: d, hints: make(chan struct{}, 1), calls: map[string]int{},
		on: map[string]func(context.Context) error{},
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hints = append(d.hints, l.hints)
	return l
}

// when has a call do something first; nil ends it.
func (l *link) when(call string, do func(ctx context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on[call] = do
}

func fails(context.Context) error { return errAway }

func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func takes(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

// cut cuts the connection, and mend mends it.
func (l *link) cut() {
	for _, call := range []string{"changes", "beat", "replicas", "leave"} {
		l.when(call, fails)
	}
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.on)
}

func (l *link) count(call string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[call]
}

func (l *link) enter(ctx context.Context, call string) error {
	l.mu.Lock()
	l.calls[call]++
	do := l.on[call]
	l.mu.Unlock()
	if do != nil {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (l *link) Changes(ctx context.Context, since int64, limit int) (store.Changes, error) {
	l.mu.Lock()
	l.since = append(l.since, since)
	l.mu.Unlock()
	if err := l.enter(ctx, "changes"); err != nil {
		return store.Changes{}, err
	}
	l.db.mu.Lock()
	defer l.db.mu.Unlock()
	c := store.Changes{Now: l.db.now(), Revision: l.db.revision}
	for _, one := range l.db.changes {
		if one.Revision > since {
			c.List = append(c.List, one)
		}
	}
	slices.SortFunc(c.List, func(a, b store.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	if c.More = len(c.List) > limit; c.More {
		c.List = c.List[:limit]
	}
	return c, nil
}

func (l *link) Hints() <-chan struct{} { return l.hints }

func (l *link) Beat(ctx context.Context, r store.Replica) error {
	if err := l.enter(ctx, "beat"); err != nil {
		return err
	}
	l.db.mu.Lock()
	r.Beat = l.db.now()
	l.db.replicas[r.ID] = r
	l.db.mu.Unlock()
	return l.enter(ctx, "answer")
}

func (l *link) Replicas(ctx context.Context) ([]store.Replica, time.Time, error) {
	if err := l.enter(ctx, "replicas"); err != nil {
		return nil, time.Time{}, err
	}
	l.db.mu.Lock()
	defer l.db.mu.Unlock()
	list := slices.SortedFunc(maps.Values(l.db.replicas), func(a, b store.Replica) int { return cmp.Compare(a.ID, b.ID) })
	return list, l.db.now(), nil
}

func (l *link) Leave(ctx context.Context, id string) error {
	if err := l.enter(ctx, "leave"); err != nil {
		return err
	}
	l.db.mu.Lock()
	defer l.db.mu.Unlock()
	delete(l.db.replicas, id)
	return nil
}

// replica is a member with all that it told.
type replica struct {
	*fleet.Member
	*link

	mu       sync.Mutex
	applied  []string
	resets   int
	warnings []string
	lags     []time.Duration
	skews    []time.Duration
	synced   []time.Time
	failures int
	lives    []int
	onApply  func()
	onReset  func()
	onSynced func()
}

func (r *replica) tell(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
}

func (r *replica) SyncFailed()          { r.tell(func() { r.failures++ }) }
func (r *replica) Lag(d time.Duration)  { r.tell(func() { r.lags = append(r.lags, d) }) }
func (r *replica) Skew(d time.Duration) { r.tell(func() { r.skews = append(r.skews, d) }) }
func (r *replica) Replicas(live int)    { r.tell(func() { r.lives = append(r.lives, live) }) }

func (r *replica) Synced(at time.Time) {
	r.first(&r.onSynced)
	r.tell(func() { r.synced = append(r.synced, at) })
}

func (r *replica) apply(list []store.Change) {
	r.first(&r.onApply)
	r.tell(func() {
		for _, c := range list {
			r.applied = append(r.applied, c.ID)
		}
	})
}

func (r *replica) reset() {
	r.first(&r.onReset)
	r.tell(func() { r.resets++ })
}

func (r *replica) first(do *func()) {
	r.mu.Lock()
	f := *do
	r.mu.Unlock()
	if f != nil {
		f()
	}
}

func (r *replica) warn(msg string, err error) {
	r.tell(func() { r.warnings = append(r.warnings, fmt.Sprintf("%s: %v", msg, err)) })
}

// told returns what was told of something so far.
func told[T any](r *replica, what *[]T) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(*what)
}

func last[T any](r *replica, what *[]T) (one T) {
	if list := told(r, what); len(list) > 0 {
		one = list[len(list)-1]
	}
	return one
}

func (r *replica) times(what *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *what
}

// joining makes a replica that has not synced yet. prepare may set it up.
func joining(t *testing.T, db *database, id string, grace time.Duration, prepare func(*replica)) *replica {
	t.Helper()
	r := &replica{link: db.connect()}
	if prepare != nil {
		prepare(r)
	}
	r.Member = fleet.Join(r.link, fleet.Options{
		ID: id, Host: id + ".example.com", Version: "v1.2.3", Grace: grace,
		Apply: r.apply, Reset: r.reset, Warn: r.warn, Events: r,
	})
	t.Cleanup(func() { _ = r.Close() }) // whether it could leave is its own test's matter
	return r
}

// join makes a replica that serves.
func join(t *testing.T, db *database, id string) *replica {
	t.Helper()
	r := joining(t, db, id, 0, nil)
	if err := r.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func catchUp(t *testing.T, r *replica) {
	t.Helper()
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func changeMany(db *database, n int) {
	for range n {
		db.change(fmt.Sprint(n))
	}
}
