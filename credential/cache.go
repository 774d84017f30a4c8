package credential

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/fastcache"

	"github.com/scopegate/scopegate/store"
)

// How much is kept in memory. Unknown ids have a cache of their own, so that
// whoever makes some up pushes out other people's guesses and no credential.
const (
	knownBytes   = 256 << 20
	unknownBytes = 32 << 20 // the least that fastcache has
)

const (
	loadsAtOnce = 64
	loadTimeout = 2 * time.Second // waiting for a place included
)

// Source is the slice of a store that a Cache reads.
type Source interface {
	Credential(ctx context.Context, id string) (store.Credential, error)
}

// Events is told what a Cache does, for those who count.
type Events interface {
	// CredentialLoaded says that the store was asked for a credential.
	CredentialLoaded(outcome string)
}

// The outcomes of a load.
const (
	LoadFound   = "found"
	LoadUnknown = "unknown"
	LoadFailed  = "failed"
)

// Cache keeps a store's rows in memory. A row is loaded when it is first asked
// for, and kept until Forget is told that it changed. The rows are bytes
// without pointers, so that a million of them is nothing to the garbage
// collector. It is safe for concurrent use.
type Cache struct {
	source  Source
	events  Events
	known   *fastcache.Cache
	unknown *fastcache.Cache
	places  chan struct{}
	epoch   atomic.Uint64

	// mu orders what Forget takes out and what a load puts in.
	mu    sync.Mutex
	loads map[string]*load
}

// load is one question to the store. It is in Cache.loads for as long as its
// answer may be kept.
type load struct {
	done chan struct{}
	row  []byte // nil where there is none
	err  error
}

// absent is the value of an id that has no row, ballast the one that it has
// among the unknown ones. What fastcache bounds is the bytes, and not the index
// beside them: with a value of nothing that would be several times as large.
var (
	absent  = []byte{0}
	ballast = make([]byte, 112)
)

var (
	errBusy  = errors.New("waiting for a place to ask the store: too many ask at once")
	errPanic = errors.New("asking the store: it did not return")
)

// NewCache returns an empty Cache. It outlives configurations: there is one
// for each store that is open.
func NewCache(source Source, events Events) *Cache {
	return &Cache{
		source: source, events: events,
		known: fastcache.New(knownBytes), unknown: fastcache.New(unknownBytes),
		places: make(chan struct{}, loadsAtOnce),
		loads:  map[string]*load{},
	}
}

// Forget is told each change. Whoever asks for one of the ids once it has
// returned gets what the store has then, or later. A load that is under way
// may have read the row before its change: those who wait for it, who asked
// before the change was known here, get what it read, but it is not kept.
func (c *Cache) Forget(ids ...string) {
	c.mu.Lock()
	for _, id := range ids {
		if key, ok := keyOf(id); ok {
			c.known.Del(key[:])
			c.unknown.Del(key[:])
		}
		delete(c.loads, id)
	}
	c.mu.Unlock()
	c.epoch.Add(1) // behind the deletion: see Epoch
}

// ForgetAll forgets everything and gives the memory back.
func (c *Cache) ForgetAll() {
	c.mu.Lock()
	c.known.Reset()
	c.unknown.Reset()
	clear(c.loads)
	c.mu.Unlock()
	c.epoch.Add(1)
}

// Epoch grows with each Forget, and only when what was forgotten is gone. A
// credential that was found after its caller read the epoch need not be looked
// up again for as long as the epoch stays the same.
func (c *Cache) Epoch() uint64 { return c.epoch.Load() }

// find gives the row with the id. What it gives points into buf where that is
// large enough. An id that the caller knows to be one of the configuration's
// is kept among the known ones, row or not: or who makes up enough ids could
// make each of its requests ask the store.
func (c *Cache) find(id string, configured bool, buf []byte) (row, bool, error) {
	key, ok := keyOf(id)
	if !ok {
		return row{}, false, nil
	}
	value, hit := c.known.HasGet(buf, key[:])
	if !hit && c.unknown.Has(key[:]) {
		return row{}, false, nil
	}
	if hit {
		if r, found, ok := open(value); ok {
			return r, found, nil
		}
	}
	value, err := c.load(id, configured)
	if err != nil || value == nil {
		return row{}, false, err
	}
	r, ok := decode(value)
	return r, ok, nil
}

// open reads a cached value. One that is damaged is not ok.
func open(value []byte) (r row, found, ok bool) {
	if string(value) == string(absent) {
		return row{}, false, true
	}
	r, ok = decode(value)
	return r, ok, ok
}

// keyOf is the id as a key of the caches. What has another length is no id.
func keyOf(id string) (key [idLength]byte, ok bool) {
	return key, copy(key[:], id) == idLength && len(id) == idLength
}

// load asks the store for a row, or waits for the answer to whoever asks
// already.
func (c *Cache) load(id string, configured bool) ([]byte, error) {
	c.mu.Lock()
	if l := c.loads[id]; l != nil {
		c.mu.Unlock()
		<-l.done
		return l.row, l.err
	}
	l := &load{done: make(chan struct{}), err: errPanic}
	c.loads[id] = l
	c.mu.Unlock()

	defer c.finish(id, configured, l)
	l.row, l.err = c.ask(id)
	return l.row, l.err
}

// finish lets those go on who waited for a load, and keeps the answer if no
// Forget came in between.
func (c *Cache) finish(id string, configured bool, l *load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(l.done)
	if c.loads[id] != l {
		return
	}
	delete(c.loads, id)
	key, ok := keyOf(id)
	switch {
	case l.err != nil || !ok:
	case l.row != nil:
		c.known.Set(key[:], l.row)
	case configured:
		c.known.Set(key[:], absent)
	default:
		c.unknown.Set(key[:], ballast)
	}
}

// ask asks the store. What it answers about another id, as a column that does
// not tell capitals from small letters would, is no answer.
func (c *Cache) ask(id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		c.events.CredentialLoaded(LoadFailed)
		return nil, errBusy
	}
	found, err := c.source.Credential(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && found.ID != id:
		c.events.CredentialLoaded(LoadUnknown)
		return nil, nil
	case err != nil:
		c.events.CredentialLoaded(LoadFailed)
		return nil, fmt.Errorf("asking the store for a credential: %w", err)
	}
	c.events.CredentialLoaded(LoadFound)
	return encode(nil, &found), nil
}
