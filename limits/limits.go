// Package limits counts: requests a window, requests at once, and minted
// tokens alive. It says whether one more fits and how long to wait if not.
// That verdict is a fact given to policy, which decides; this package refuses
// nobody itself, knows no status code and keeps nothing on disk.
//
// A Book holds what was counted, a Plan what one configuration makes of it.
// They are apart because a reload must neither hand out fresh allowances nor
// forget the requests that are under way.
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

func (r Rate) burst() int {
	if r.Burst == 0 {
		return r.N
	}
	return r.Burst
}

func (r Rate) perSecond() float64 { return float64(r.N) / r.Per.Seconds() }

// slack is how many seconds too early a token may seem to come. x/time/rate
// counts tokens in floating point, where 49 times 1/49 is less than 1, and
// admits a request whose token is less than a nanosecond away; half of one is
// safely within that.
const slack = 0.5e-9

// What a header can carry, and what a time.Duration can hold in seconds.
const (
	maxInteger = 999_999_999_999_999 // structured fields have 15 digits
	maxSeconds = math.MaxInt64 / int64(time.Second)
)

// remaining is how many requests the tokens in a bucket are good for.
func (r Rate) remaining(tokens float64) int64 {
	return int64(min(max(0, math.Floor(tokens+min(slack, slack*r.perSecond()))), maxInteger))
}

// wait is the time until the bucket admits the next request, in whole
// seconds, rounded up; 0 where it admits one now.
func (r Rate) wait(tokens float64) int64 { return r.until(1, tokens) }

// reset is the time that a client should plan with, in whole seconds: until
// the next request is admitted if none is now, so that it agrees with
// Retry-After, else until the bucket is full.
func (r Rate) reset(tokens float64) int64 {
	if w := r.wait(tokens); w > 0 {
		return w
	}
	return r.until(float64(r.burst()), tokens)
}

func (r Rate) until(level, tokens float64) int64 {
	return int64(min(max(0, math.Ceil((level-tokens)/r.perSecond()-slack)), float64(maxSeconds)))
}
