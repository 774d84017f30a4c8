package credential_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// sourceFunc is a store that is one function.
type sourceFunc func(ctx context.Context, id string) (store.Credential, error)

func (f sourceFunc) Credential(ctx context.Context, id string) (store.Credential, error) {
	return f(ctx, id)
}

func revisionOf(t testing.TB, d *credential.Directory, id string) int64 {
	t.Helper()
	var c credential.Credential
	if _, err := d.Find(id, &c); err != nil {
		t.Fatal(err)
	}
	return c.Revision
}

func TestCacheAsksOnceUntilToldToForget(t *testing.T) {
	k, made := credential.Generate(), credential.Generate()
	m := newMemory(stored(k))
	d, cache, n := directory(t, m)
	find := func(id string, want credential.Found) {
		t.Helper()
		var c credential.Credential
		if found, err := d.Find(id, &c); err != nil || found != want {
			t.Errorf("%d, %v; want %d", found, err, want)
		}
	}
	for range 3 {
		find(k.ID(), credential.Stored)
		find(made.ID(), credential.Unknown)
	}
	n.is(t, 1, 1, 0)

	row := stored(made) // an id that was unknown is made
	m.put(row)
	find(made.ID(), credential.Unknown)
	before := cache.Epoch()
	cache.Forget(made.ID(), "no id", "")
	if cache.Epoch() == before {
		t.Error("the epoch is the same")
	}
	find(made.ID(), credential.Stored)
	find(k.ID(), credential.Stored)
	n.is(t, 2, 1, 0)

	before = cache.Epoch()
	cache.ForgetAll()
	if cache.Epoch() == before {
		t.Error("the epoch is the same")
	}
	find(made.ID(), credential.Stored)
	find(k.ID(), credential.Stored)
	n.is(t, 4, 1, 0)
}

func TestCacheDoesNotAskForWhatIsNoID(t *testing.T) {
	m := newMemory()
	d, _, _ := directory(t, m)
	for _, id := range []string{"", "0123456789A", "0123456789ABC", goodKey} {
		var c credential.Credential
		if found, err := d.Find(id, &c); found != credential.Unknown || err != nil {
			t.Errorf("%q: %d, %v", id, found, err)
		}
	}
	if m.asked != 0 {
		t.Errorf("the store was asked %d times", m.asked)
	}
}

// A damaged value is a miss.
func TestCacheReadsNoDamagedRow(t *testing.T) {
	k := credential.Generate()
	m := newMemory(stored(k))
	d, cache, _ := directory(t, m)
	good := stored(k)
	whole := credential.Encode(&good)
	damaged := [][]byte{nil, {1}, {9}, {0, 0}, whole[:len(whole)-1], append([]byte{2}, whole[1:]...)}
	for i, value := range damaged {
		cache.Put(k.ID(), value)
		if _, reason := ask(credential.NewAuthenticator(d), key(k), ""); reason != policy.Allowed || m.asked != i+1 {
			t.Errorf("%x: %s, asked %d times", value, reason, m.asked)
		}
	}
}

// Whoever makes up ids must push out neither what is known nor what is known
// of the configuration's: each of their requests would ask the store.
func TestMadeUpIDsPushOutNoCredential(t *testing.T) {
	k, fixed := credential.Generate(), credential.Generate()
	line := holder("billing", "line", fixed)
	m := newMemory(stored(k))
	d, cache, _ := directory(t, m, line)
	known := []string{k.ID(), fixed.ID()}
	var c credential.Credential
	for _, id := range known {
		_, _ = d.Find(id, &c)
	}
	first := credential.Generate().ID()
	_, _ = d.Find(first, &c)
	for i := range 330_000 {
		_, _ = d.Find(fmt.Sprintf("%012d", i), &c)
	}
	before := m.asked
	for _, id := range known {
		_, _ = d.Find(id, &c)
	}
	if m.asked != before {
		t.Errorf("%d of %d were pushed out", m.asked-before, len(known))
	}
	if rows, _ := cache.Size(); rows != 2 {
		t.Errorf("%d rows are known, want 2", rows)
	}
	// The flood was large enough to show it.
	if _, _ = d.Find(first, &c); m.asked == before {
		t.Error("not even a made-up id was pushed out")
	}
}

func TestCacheAsksOnceForMany(t *testing.T) {
	k := credential.Generate()
	synctest.Test(t, func(t *testing.T) {
		gate, asked := make(chan struct{}), 0
		d, _, n := directory(t, sourceFunc(func(context.Context, string) (store.Credential, error) {
			asked++
			<-gate
			return stored(k), nil
		}))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				var c credential.Credential
				if found, err := d.Find(k.ID(), &c); found != credential.Stored || err != nil {
					t.Errorf("%d, %v", found, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		n.is(t, 1, 0, 0)
	})
}

// A store that hangs keeps nobody for longer than the timeout, and is not
// asked more than so many things at once.
func TestCacheBoundsItsQuestions(t *testing.T) {
	defer goleak.VerifyNone(t)
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		var hangs atomic.Bool
		hangs.Store(true)
		d, _, n := directory(t, sourceFunc(func(ctx context.Context, _ string) (store.Credential, error) {
			if !hangs.Load() {
				return store.Credential{}, store.ErrNotFound
			}
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-ctx.Done()
			return store.Credential{}, ctx.Err()
		}))
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 3 * credential.LoadsAtOnce {
			wg.Go(func() {
				var c credential.Credential
				if _, err := d.Find(fmt.Sprintf("%012d", i), &c); err == nil {
					t.Error("no error")
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 2*credential.LoadTimeout {
			t.Errorf("took %s", took)
		}
		if most.Load() != credential.LoadsAtOnce {
			t.Errorf("%d at once", most.Load())
		}
		n.is(t, 0, 0, 3*credential.LoadsAtOnce)

		hangs.Store(false) // the places are free again
		revisionOf(t, d, credential.Generate().ID())
		n.is(t, 0, 1, 3*credential.LoadsAtOnce)
	})
}

// A store that panics must not leave those waiting who asked for the same.
func TestCacheOutlivesAPanic(t *testing.T) {
	k := credential.Generate()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		calls := 0
		d, _, _ := directory(t, sourceFunc(func(context.Context, string) (store.Credential, error) {
			if calls++; calls > 1 {
				return stored(k), nil
			}
			<-gate
			panic("a bug of the driver")
		}))
		var panics, failures atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panics.Add(1)
					}
				}()
				var c credential.Credential
				if _, err := d.Find(k.ID(), &c); err != nil {
					failures.Add(1)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if panics.Load() != 1 || failures.Load() != 2 {
			t.Errorf("%d panics, %d failures", panics.Load(), failures.Load())
		}
		if got := revisionOf(t, d, k.ID()); got != 0 {
			t.Error(got)
		}
	})
}

// A row that was read before it changed must not be kept behind the change.
func TestForgetDuringALoad(t *testing.T) {
	k := credential.Generate()
	for name, forget := range map[string]func(*credential.Cache){
		"one": func(c *credential.Cache) { c.Forget(k.ID()) },
		"all": (*credential.Cache).ForgetAll,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(stored(k))
				gate := make(chan struct{})
				d, cache, _ := directory(t, sourceFunc(func(ctx context.Context, id string) (store.Credential, error) {
					row, err := m.Credential(ctx, id)
					<-gate
					return row, err
				}))
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() { revisionOf(t, d, k.ID()) }) // asked before the change
				}
				synctest.Wait()
				changed := m.put(stored(k))
				forget(cache)
				for range 3 {
					wg.Go(func() {
						if got := revisionOf(t, d, k.ID()); got != changed.Revision {
							t.Errorf("asked behind the change: revision %d, want %d", got, changed.Revision)
						}
					})
				}
				synctest.Wait()
				close(gate)
				wg.Wait()
				if got := revisionOf(t, d, k.ID()); got != changed.Revision {
					t.Errorf("kept: revision %d, want %d", got, changed.Revision)
				}
				if m.asked != 2 {
					t.Errorf("asked %d times", m.asked)
				}
			})
		})
	}
}

// Writers change rows and have them forgotten, readers look them up, all at
// once. What a reader finds is never older than the last change that was
// forgotten before it asked; nor, while the epoch stays, before it looks again.
func TestForgottenRowsNeverComeBack(t *testing.T) {
	defer goleak.VerifyNone(t)
	const ids, writers, readers, changes = 4, 4, 8, 3_000
	var (
		id      [ids]string
		current [ids]atomic.Int64 // what the store has
		floor   [ids]atomic.Int64 // what was forgotten
		writing [ids]sync.Mutex
	)
	place := map[string]int{}
	for i := range id {
		id[i] = credential.Generate().ID()
		place[id[i]] = i
	}
	d, cache, _ := directory(t, sourceFunc(func(_ context.Context, name string) (store.Credential, error) {
		revision := current[place[name]].Load()
		for range rand.IntN(4) {
			runtime.Gosched() // the answer is on its way
		}
		if revision == 0 {
			return store.Credential{}, store.ErrNotFound
		}
		return store.Credential{ID: name, Team: "billing", State: "active", Revision: revision}, nil
	}))

	var done atomic.Bool
	var reads, kept atomic.Int64
	var reading, changing sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for !done.Load() {
				i := rand.IntN(ids)
				least, epoch := floor[i].Load(), cache.Epoch()
				got := revisionOf(t, d, id[i])
				since := floor[i].Load()
				if got < least {
					t.Errorf("revision %d was found behind %d", got, least)
					return
				}
				if same := cache.Epoch() == epoch; same && got < since {
					t.Errorf("revision %d, though %d was forgotten and the epoch is the same", got, since)
					return
				} else if same {
					kept.Add(1)
				}
				reads.Add(1)
			}
		})
	}
	for range writers {
		changing.Go(func() {
			for n := range changes {
				i := rand.IntN(ids)
				writing[i].Lock()
				revision := current[i].Add(1)
				if n%100 == 0 {
					cache.ForgetAll()
				} else {
					cache.Forget(id[i])
				}
				floor[i].Store(revision)
				writing[i].Unlock()
				runtime.Gosched()
			}
		})
	}
	changing.Wait()
	done.Store(true)
	reading.Wait()
	if reads.Load() < 100 || kept.Load() == 0 {
		t.Errorf("only %d reads, %d without a change", reads.Load(), kept.Load())
	}
	for i := range id {
		if got := revisionOf(t, d, id[i]); got != current[i].Load() {
			t.Errorf("revision %d in the end, want %d", got, current[i].Load())
		}
	}
}
