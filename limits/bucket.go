package limits

import "time"

// bucket is what was counted of one caller. It holds no pointer: there may be
// a million, which the garbage collector is not to look through.
type bucket struct {
	id       uint64
	tokens   float64       // of the rate, as they were at that time
	at       time.Duration // by the clock of the book
	inFlight int64
}

// level is how many tokens there are now. A time before the last one counts as
// that one: requests read the clock before they get here and may overtake each
// other, and if the same stretch earned tokens twice, many connections at once
// would be admitted more than the rate.
func (b *bucket) level(p pace, now time.Duration) float64 {
	return min(b.tokens+max(0, now-b.at).Seconds()*p.perSecond, float64(p.burst))
}

func (b *bucket) set(tokens float64, now time.Duration) {
	b.tokens, b.at = tokens, max(b.at, now)
}
