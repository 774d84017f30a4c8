package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/scopegate/scopegate/store"
)

const (
	// sweepEvery is how often what should be owed is looked for, and counted.
	sweepEvery = 15 * time.Second
	// sweepShare is how long slow looks are apart at least, in what one takes:
	// among a million tokens, each of another credential, that is seconds.
	sweepShare = 100
	// lookTime bounds such a look. A store shared by a fleet would give it no
	// longer than a request, and it would never come to its end.
	lookTime = turn / 2
	// lookBatch is how many rows it asks for: each more of them is far cheaper
	// than another look.
	lookBatch = 1000
	// mostChanges is how many credentials are looked at one by one.
	mostChanges = 10_000
)

// pace keeps looks apart that take long.
type pace struct{ next time.Time }

func (p *pace) due() bool { return !time.Now().Before(p.next) }

func (p *pace) do(look func() error) error {
	begun := time.Now()
	err := look()
	p.next = begun.Add(sweepShare * time.Since(begun))
	return err
}

// sweep owes the end of what is live although its credential is not. It looks at
// the credentials that have changed, since a revocation must not wait; and, in
// its time, among all tokens: those of which nobody told are found then. A
// credential that merely expires has no token that outlives it.
func (l *Ledger) sweep(ctx context.Context, looks *pace) error {
	changed, all := l.changes.take()
	if all {
		l.seenTo = nil
	}
	for _, id := range changed {
		delete(l.seenTo, id)
	}
	if all || looks.due() {
		if err := looks.do(func() error { return l.strand(ctx) }); err != nil {
			l.changes.addAll()
			return err
		}
		changed = nil
	}
	for i, id := range changed {
		if err := l.follow(ctx, id); err != nil {
			l.changes.add(changed[i:]...)
			return err
		}
	}
	return l.sweepEnded(ctx)
}

// sweepEnded owes the end of what the configuration's ended credentials made.
// There may be very many, which stay there for good: each is seen to once, and
// again only if it makes a token late.
func (l *Ledger) sweepEnded(ctx context.Context) error {
	seenTo := map[string]bool{}
	for _, id := range l.API.Ended(l.Now()) {
		if !l.seenTo[id] {
			if _, err := l.Cascade(ctx, id, ended); err != nil {
				return err // those before it are seen to again
			}
		}
		seenTo[id] = true
	}
	l.seenTo = seenTo
	return nil
}

// follow owes the end of what a credential made, if it has ended.
func (l *Ledger) follow(ctx context.Context, id string) error {
	c, err := l.Rows.Credential(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it is the configuration's
	}
	if err != nil {
		return err
	}
	if c.State == store.Revoked || !c.Expires.IsZero() && !l.Now().Before(c.Expires) {
		_, err = l.Cascade(ctx, id, ended)
	}
	return err
}

// changes are the credentials of which it is to be seen whether they ended.
type changes struct {
	mu  sync.Mutex
	ids map[string]bool
	all bool // there are too many, or it is not known which
}

func (c *changes) add(ids ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.ids == nil {
			c.ids = map[string]bool{}
		}
		c.ids[id] = true
	}
	if len(c.ids) > mostChanges {
		c.ids, c.all = nil, true
	}
}

func (c *changes) addAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = true
}

func (c *changes) take() (ids []string, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids, all = slices.Sorted(maps.Keys(c.ids)), c.all
	c.ids, c.all = nil, false
	return ids, all
}

const ended = "its credential was revoked or has expired"

// strand owes the end of all that the credentials of stranded tokens have made,
// since each look may take long, however little it finds.
func (l *Ledger) strand(ctx context.Context) error {
	for {
		list, err := l.stranded(ctx)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, t := range list {
			if seen[t.Credential] {
				continue
			}
			seen[t.Credential] = true
			if _, err := l.Cascade(ctx, t.Credential, ended); err != nil {
				return err
			}
		}
		if len(list) < lookBatch {
			return nil
		}
	}
}

func (l *Ledger) stranded(ctx context.Context) ([]store.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return l.Rows.StrandedTokens(ctx, lookBatch)
}

func (l *Ledger) count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	counts, err := l.Rows.TokenCounts(ctx, Revoking)
	if err == nil {
		l.Events.Tokens(counts)
	}
	return err
}
