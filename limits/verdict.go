package limits

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// gate is one key's limits, and where they are counted. The zero gate admits
// everyone.
type gate struct {
	shelf       *shelf
	maxInFlight int64 // 0 is any
	rate        Rate
	rated       bool
}

// places is how many of them one of so many replicas has; 0 is any.
func (g *gate) places(replicas int64) int64 {
	if g.maxInFlight == 0 {
		return 0
	}
	return max(1, g.maxInFlight/replicas)
}

// The two gates of a door, in the order in which they are passed. The
// credential's comes first: one that is over its own rate must not use up
// what its team has left, or it could lock its siblings out.
const (
	credentialGate = iota
	teamGate
	gateCount
)

// The names under which callers see the two.
var policyNames = [gateCount]string{credentialGate: `"credential"`, teamGate: `"team"`}

// owners says whose bucket a request is counted in at each gate: 0 where the
// gate has a single one.
type owners [gateCount]uint64

// door is what a request of one key passes, worked out when the plan is made.
type door struct {
	gates    [gateCount]gate
	each     bool          // the credential's gate has a bucket for each id
	policy   string        // the RateLimit-Policy header, "" without a rate
	replicas *atomic.Int64 // of the book
}

func newDoor(gates map[Key]gate, key Key, replicas *atomic.Int64) *door {
	d := &door{each: key.Credential == Each, replicas: replicas}
	d.gates[teamGate] = gates[Key{Team: key.Team}]
	if key.Credential != "" {
		d.gates[credentialGate] = gates[key]
	}
	var items []string
	for i, g := range d.gates {
		if !g.rated {
			continue
		}
		item := fmt.Sprintf("%s;q=%d", policyNames[i], min(int64(g.rate.N), maxInteger))
		if g.rate.Per%time.Second == 0 {
			// The header knows whole seconds alone. Without a window it says
			// less; with a rounded one it would say something wrong.
			item += fmt.Sprintf(";w=%d", g.rate.Per/time.Second)
		}
		items = append(items, item)
	}
	d.policy = strings.Join(items, ", ")
	return d
}

// enter passes the places first and the rates after, since a place can be
// given back unused and a token cannot.
func (d *door) enter(whose owners, now time.Duration) Verdict {
	v := Verdict{Reason: policy.Allowed, door: d, whose: whose, replicas: int(d.replicas.Load())}
	placed := d.step(whose, int64(v.replicas), now)
	if !placed {
		v.Reason = policy.TooManyInFlight
	}
	for i := range d.gates {
		g := &d.gates[i]
		if !g.rated {
			continue
		}
		if v.Reason != policy.Allowed {
			v.tokens[i] = g.shelf.tokens(whose[i], now)
			continue
		}
		var ok bool
		if ok, v.tokens[i] = g.shelf.take(whose[i], now); !ok {
			v.Reason = policy.RateLimited
		}
	}
	if v.Reason == policy.Allowed {
		return v
	}
	if placed {
		d.stepBack(whose, gateCount)
	}
	wait := int64(1)
	for i := range d.gates {
		if g := &d.gates[i]; g.rated {
			wait = max(wait, g.rate.among(v.replicas).wait(v.tokens[i]))
		}
	}
	v.RetryAfter = time.Duration(wait) * time.Second
	return v
}

// step takes a place at each gate, or none.
func (d *door) step(whose owners, replicas int64, now time.Duration) bool {
	for i := range d.gates {
		if g := &d.gates[i]; g.shelf != nil && !g.shelf.step(whose[i], g.places(replicas), now) {
			d.stepBack(whose, i)
			return false
		}
	}
	return true
}

// stepBack gives back the places of the first n gates.
func (d *door) stepBack(whose owners, n int) {
	for i, owner := range whose[:n] {
		if s := d.gates[i].shelf; s != nil {
			s.stepBack(owner)
		}
	}
}

// Verdict is what the limits say of one request. The zero Verdict holds no
// place and admits nothing.
type Verdict struct {
	// Reason is Allowed, RateLimited or TooManyInFlight.
	Reason policy.Reason

	// RetryAfter is when another attempt can fare better, in whole seconds
	// and at least one; 0 where the request was admitted. For places it is a
	// guess, since nobody knows when a request under way will end.
	RetryAfter time.Duration

	door     *door
	whose    owners
	replicas int
	tokens   [gateCount]float64
}

// Leave gives back the places that the request took, which a refused one did
// not. It must be called once, when the request has ended.
func (v Verdict) Leave() {
	if v.door != nil && v.Reason == policy.Allowed {
		v.door.stepBack(v.whose, gateCount)
	}
}

// Headers sets what the caller is told of its rates, in the fields of
// draft-ietf-httpapi-ratelimit-headers-10: an item each for the credential
// and its team, where they have a rate. A refusal has Retry-After too. The
// names come in the canonical form of net/http.
func (v Verdict) Headers(set func(name, value string)) {
	if v.RetryAfter > 0 {
		set("Retry-After", strconv.FormatInt(int64(v.RetryAfter/time.Second), 10))
	}
	if v.door == nil || v.door.policy == "" {
		return
	}
	set("Ratelimit-Policy", v.door.policy)

	buf := make([]byte, 0, 96)
	for i := range v.door.gates {
		g := &v.door.gates[i]
		if !g.rated {
			continue
		}
		if len(buf) > 0 {
			buf = append(buf, ", "...)
		}
		p := g.rate.among(v.replicas)
		buf = append(buf, policyNames[i]...)
		buf = append(buf, ";r="...)
		buf = strconv.AppendInt(buf, p.remaining(v.tokens[i]), 10)
		buf = append(buf, ";t="...)
		buf = strconv.AppendInt(buf, p.reset(v.tokens[i]), 10)
	}
	set("Ratelimit", string(buf))
}
