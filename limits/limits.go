// Package limits counts: requests a window and requests at once. It says
// whether one more fits and how long to wait if not. That verdict is a fact
// given to policy, which decides; this package refuses nobody itself, knows no
// status code and keeps nothing on disk.
//
// A Book holds what was counted, a Plan what one configuration makes of it.
// They are apart because a reload must neither hand out fresh allowances nor
// forget the requests that are under way.
//
// Processes that serve one gateway together count each for itself: each holds
// its callers to its share of a limit, and none asks another on the way of a
// request.
package limits

import (
	"math"
	"time"
)

// Rate admits N requests in each Per, spread by a token bucket that holds at
// most Burst of them. N and Per must be above zero.
type Rate struct {
	N   int
	Per time.Duration
	// Burst is how many may come at once after a pause. 0 means N.
	Burst int
}

// Limit is what one key is held to. The zero Limit is no limit.
type Limit struct {
	Rate *Rate // nil is none
	// MaxInFlight is how many requests may be under way at once; 0 is any.
	MaxInFlight int
}

// Key names what a limit is for: a credential of a team or, with an empty
// Credential, the team with all its credentials together.
type Key struct{ Team, Credential string }

// Each as the Credential of a Key is each of the team's credentials that have
// no name in the configuration. They are told apart by their ids, and what one
// uses up costs the others nothing.
const Each = "*"

// pace is what a Rate comes to in one process of a fleet.
type pace struct {
	perSecond float64
	burst     int
}

// among divides the rate among replicas. Each holds one request at least: a
// bucket that cannot hold one admits nothing, ever.
func (r Rate) among(replicas int) pace {
	burst := r.Burst
	if burst == 0 {
		burst = r.N
	}
	return pace{perSecond: float64(r.N) / r.Per.Seconds() / float64(replicas), burst: max(1, burst/replicas)}
}

// Tokens are counted in floating point, where 49 times 1/49 is less than 1. So a
// request is admitted whose token is less than early seconds away, and told to
// wait no longer than until it is slack seconds away, which is safely within
// that.
const (
	early = 1e-9
	slack = early / 2
)

// What a header can carry, and what a time.Duration can hold in seconds.
const (
	maxInteger = 999_999_999_999_999 // structured fields have 15 digits
	maxSeconds = math.MaxInt64 / int64(time.Second)
)

// admits reports whether the tokens in a bucket are good for a request.
func (p pace) admits(tokens float64) bool { return (1-tokens)/p.perSecond < early }

// remaining is how many requests the tokens in a bucket are good for.
func (p pace) remaining(tokens float64) int64 {
	return int64(min(max(0, math.Floor(tokens+min(slack, slack*p.perSecond))), maxInteger))
}

// wait is the time until the bucket admits the next request, in whole
// seconds, rounded up; 0 where it admits one now.
func (p pace) wait(tokens float64) int64 { return p.until(1, tokens) }

// reset is the time that a client should plan with, in whole seconds: until
// the next request is admitted if none is now, so that it agrees with
// Retry-After, else until the bucket is full.
func (p pace) reset(tokens float64) int64 {
	if w := p.wait(tokens); w > 0 {
		return w
	}
	return p.until(float64(p.burst), tokens)
}

func (p pace) until(level, tokens float64) int64 {
	return int64(min(max(0, math.Ceil((level-tokens)/p.perSecond-slack)), float64(maxSeconds)))
}
