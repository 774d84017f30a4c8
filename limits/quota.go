package limits

import (
	"slices"
	"sync"
	"time"
)

// quota counts the minted tokens of one team that this process knows of. It
// can count too many, never too few of them: a token deleted early holds its
// place until the expiry that it was made with.
type quota struct {
	mu       sync.Mutex
	pending  int         // mints under way
	expiries []time.Time // of the tokens alive
}

// alive counts the places that are taken.
func (q *quota) alive(now time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count(now)
}

func (q *quota) count(now time.Time) int {
	q.expiries = slices.DeleteFunc(q.expiries, func(t time.Time) bool { return !t.After(now) })
	return q.pending + len(q.expiries)
}

// allowance is a quota and the bound that one plan puts to it.
type allowance struct {
	quota *quota
	n     int
}

// Reserve takes a place for a token about to be minted. It is false where the
// team has as many alive, or being minted, as it may. The place is taken
// before the token exists, so that two mints at once cannot share the last.
//
// The caller releases the place when it returns, and keeps it before that if
// a token may have been made:
//
//	place, ok := plan.Reserve(team, now)
//	if !ok { ... }
//	defer place.Release()
//	...
//	place.Keep(expiry)
func (p *Plan) Reserve(team string, now time.Time) (*Place, bool) {
	a, ok := p.quotas[team]
	if !ok {
		return &Place{}, true
	}
	a.quota.mu.Lock()
	defer a.quota.mu.Unlock()
	if a.quota.count(now) >= a.n {
		return nil, false
	}
	a.quota.pending++
	return &Place{quota: a.quota}, true
}

// Place is one token's place in its team's quota.
type Place struct {
	quota   *quota // nil: the team has none
	settled bool
}

// Keep holds the place until the token expires. It is also right where nobody
// knows whether upstream made the token: one that may be alive counts.
func (p *Place) Keep(expiry time.Time) {
	p.settle(func(q *quota) { q.expiries = append(q.expiries, expiry) })
}

// Release gives the place back: no token was made. After Keep, or a second
// time, it does nothing.
func (p *Place) Release() { p.settle(func(*quota) {}) }

func (p *Place) settle(become func(*quota)) {
	if p == nil || p.quota == nil {
		return
	}
	p.quota.mu.Lock()
	defer p.quota.mu.Unlock()
	if p.settled {
		return
	}
	p.settled = true
	p.quota.pending--
	become(p.quota)
}
