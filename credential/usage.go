package credential

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	usageShards = 64
	usageMax    = 100_000 // ids that are remembered until the next flush
	usageBatch  = 1_000   // ids that are written at once

	flushEvery   = time.Minute
	flushTimeout = 5 * time.Second // of the last one
)

// Uses is the slice of a store that a Usage writes to.
type Uses interface {
	Used(ctx context.Context, uses map[string]store.Use) error
}

// Usage remembers when each credential was last used, until it is written to
// the store. Noting a use waits for no write. When more credentials are used
// between two flushes than it may remember, it forgets the uses of some: the
// time of last use is for finding credentials that nobody needs, and those
// that are used are noted again.
type Usage struct {
	rows   Uses
	failed func(error)
	seed   maphash.Seed
	shards [usageShards]usageShard
}

type usageShard struct {
	mu   sync.Mutex
	last map[[idLength]byte]use
}

// use holds no string that was made for it.
type use struct {
	at        time.Time
	from      netip.Addr
	operation string
}

// NewUsage returns a Usage that writes to the rows of a store, and tells
// failed when that was not possible.
func NewUsage(rows Uses, failed func(error)) *Usage {
	u := &Usage{rows: rows, failed: failed, seed: maphash.MakeSeed()}
	for i := range u.shards {
		u.shards[i].last = map[[idLength]byte]use{}
	}
	return u
}

// Note notes that a credential was used. An id that was noted since the last
// flush costs no memory. The operation is one of a closed list.
func (u *Usage) Note(id string, at time.Time, from netip.Addr, operation string) {
	if key, ok := keyOf(id); ok {
		u.note(key, use{at, from, operation})
	}
}

func (u *Usage) note(key [idLength]byte, n use) {
	s := &u.shards[maphash.Bytes(u.seed, key[:])%usageShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.last[key]
	if known && n.at.Before(old.at) || !known && len(s.last) >= usageMax/usageShards {
		return
	}
	s.last[key] = n
}

// Flush writes what was noted. What could not be written is kept for the next
// time, unless the credential was used again.
func (u *Usage) Flush(ctx context.Context) error {
	noted := u.take()
	for len(noted) > 0 {
		batch := noted[:min(len(noted), usageBatch)]
		uses := make(map[string]store.Use, len(batch))
		for _, n := range batch {
			uses[string(n.key[:])] = store.Use{At: n.at, Address: address(n.from), Operation: n.operation}
		}
		if err := u.rows.Used(ctx, uses); err != nil {
			for _, n := range noted {
				u.note(n.key, n.use)
			}
			return err
		}
		noted = noted[len(batch):]
	}
	return nil
}

// noted is one entry of a shard.
type noted struct {
	key [idLength]byte
	use
}

// take empties the shards.
func (u *Usage) take() (all []noted) {
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		last := s.last
		s.last = make(map[[idLength]byte]use)
		s.mu.Unlock()
		for key, n := range last {
			all = append(all, noted{key, n})
		}
	}
	return all
}

// address is "" where there was none that could be read.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Run flushes each minute, and once more when ctx is done.
func (u *Usage) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.tell(u.Flush(ctx))
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			u.tell(u.Flush(last))
			return
		}
	}
}

func (u *Usage) tell(err error) {
	if err != nil {
		u.failed(fmt.Errorf("writing when credentials were last used: %w", err))
	}
}
