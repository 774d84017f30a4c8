package credential

import (
	"context"
	"time"

	"github.com/scopegate/scopegate/store"
)

// Rotation is how a credential gets its next key.
type Rotation struct {
	// Overlap is how long the key before it goes on. Without it, and without
	// UntilUsed, that one ends at once, and so do all before it.
	Overlap time.Duration

	// UntilUsed ends the key before it once the new one was used. It is not
	// for callers of several instances, of which some may still hold it.
	UntilUsed bool

	By string // as claimed
	If int64  // see Edit
}

// Rotate makes the next key of a credential, whose id and name stay.
func (r *Registry) Rotate(ctx context.Context, id string, ro Rotation) (store.Credential, Key, error) {
	if ro.Overlap < 0 {
		return store.Credential{}, Key{}, refused("overlap", "it must not be below zero")
	}
	if err := checkID(id); err != nil {
		return store.Credential{}, Key{}, err
	}
	key := generate(id)
	row, err := r.change(ctx, id, KindRotate, Edit{By: ro.By, If: ro.If}, func(row *store.Credential, c *Change) (bool, error) {
		if err := alive(row); err != nil {
			return false, err
		}
		if err := retire(row.Generations, r.clock(), ro); err != nil {
			return false, err
		}
		for _, g := range row.Generations {
			c.Generation = max(c.Generation, g.Number)
		}
		c.Generation++
		next := store.Generation{Number: c.Generation, Hash: key.Hash()}
		row.Generations = append([]store.Generation{next}, row.Generations...)
		return true, nil
	})
	if err != nil {
		return store.Credential{}, Key{}, err
	}
	return row, key, nil
}

// retire ends the keys that there are, newest first, as a rotation wants it.
func retire(keys []store.Generation, now time.Time, ro Rotation) error {
	var live []*store.Generation
	for i := range keys {
		if works(&keys[i], now) {
			live = append(live, &keys[i])
		}
	}
	if ro.Overlap == 0 && !ro.UntilUsed {
		for _, g := range live {
			g.Ends, g.EndsOnUse = now, false
		}
		return nil
	}
	if len(live) >= MaxVerifiers {
		return refused("overlap", "%d of its keys work already; wait until the older one ends, or rotate without an overlap, which ends both at once", len(live))
	}
	for _, g := range live {
		g.EndsOnUse = ro.UntilUsed
		if end := now.Add(ro.Overlap); ro.Overlap > 0 && (g.Ends.IsZero() || end.Before(g.Ends)) {
			g.Ends = end
		}
	}
	return nil
}

func works(g *store.Generation, now time.Time) bool {
	return g.Ends.IsZero() || now.Before(g.Ends)
}

// End ends an older key of a credential now. It is for Credential.Supersedes,
// so the newest key is never ended, nor is a row changed twice.
func (r *Registry) End(ctx context.Context, id string, number int, by string) (store.Credential, error) {
	return r.change(ctx, id, KindEnd, Edit{By: by}, func(row *store.Credential, c *Change) (bool, error) {
		now := r.clock()
		for i := range row.Generations {
			g := &row.Generations[i]
			if g.Number != number {
				continue
			}
			if i == 0 {
				return false, refused("generation", "%d is the newest key; rotate or revoke the credential", number)
			}
			if !works(g, now) {
				return false, nil
			}
			g.Ends, g.EndsOnUse, c.Generation = now, false, number
			return true, nil
		}
		return false, refused("generation", "the credential has no key of the number %d", number)
	})
}
