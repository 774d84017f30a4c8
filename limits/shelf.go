package limits

import (
	"sync"
	"time"
)

// room is how many buckets a shelf has at most, of about 70 bytes each with
// their place in the index.
const room = 1 << 20

// looks is how many buckets a new one looks at for some that can be forgotten.
// With more than one a shelf shrinks faster than it grows, and no request pays
// for more than a few.
const looks = 8

// shelf is what was counted for one key. It outlives the plans that use it.
// There is a single bucket on a team's and on a named credential's, and one for
// each id on that of a team's other credentials.
//
// A bucket that nobody has taken from is the same as none. So those that are
// full again, with no request under way, are forgotten, which changes no
// verdict, then or after a reload.
//
// Where all room is taken by callers whose buckets are not full, one more is
// refused until there is some. Nothing else would be safe: to forget a bucket
// that is not full gives its owner a new one, to admit uncounted is no limit,
// and a bucket that the rest share gives each who moves out of it, when there
// is room, a second allowance. It takes a million credentials of one team to
// get there. A stranger cannot, since only proven keys are counted, and
// neither can another team, which has a shelf of its own.
type shelf struct {
	room int

	mu   sync.Mutex
	pace pace // zero until a plan has a rate for the key

	// untouched is the bucket that whoever has none would have. It is not
	// always full: a bound that grows, by a reload or since there are fewer
	// replicas, is not filled up for those either who have not come yet, or an
	// allowance used at a replica that has gone would be handed out again.
	untouched bucket

	index map[uint64]int // where in list an id's bucket is
	list  []bucket
	hand  int // which of the list is looked at next
}

func newShelf(room int) *shelf { return &shelf{room: room, index: map[uint64]int{}} }

// step takes a place among the requests under way. They are counted without
// a bound (0) too, for the plan after this one may have one.
func (s *shelf) step(id uint64, bound int64, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.find(id)
	if b == nil {
		b = s.make(id, now)
	}
	if b == nil || bound > 0 && b.inFlight >= bound {
		return false
	}
	b.inFlight++
	return true
}

// stepBack gives back a place that step took.
func (s *shelf) stepBack(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(id).inFlight--
}

// take uses up a token of the rate for a request that has a place, and returns
// those left.
func (s *shelf) take(id uint64, now time.Duration) (ok bool, left float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.find(id)
	left = b.level(s.pace, now)
	if !s.pace.admits(left) {
		return false, left
	}
	left--
	b.set(left, now)
	return true, left
}

// tokens returns those left without taking one.
func (s *shelf) tokens(id uint64, now time.Duration) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.find(id)
	if b == nil {
		b = &s.untouched
	}
	return b.level(s.pace, now)
}

// tune holds the buckets to another rate. What has run up so far was earned at
// the old one and stays; only with the first rate they start full. Whoever asks
// meanwhile waits for it: of a million buckets a few milliseconds.
func (s *shelf) tune(p pace, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.pace
	if p == old {
		return
	}
	retune := func(b *bucket) {
		tokens := float64(p.burst)
		if old != (pace{}) {
			tokens = min(tokens, b.level(old, now))
		}
		b.set(tokens, now)
	}
	retune(&s.untouched)
	for i := range s.list {
		retune(&s.list[i])
	}
	s.pace = p
}

func (s *shelf) find(id uint64) *bucket {
	i, ok := s.index[id]
	if !ok {
		return nil
	}
	return &s.list[i]
}

// make puts a bucket on the shelf. It is nil where there is no room.
func (s *shelf) make(id uint64, now time.Duration) *bucket {
	s.tidy(now)
	if len(s.list) >= s.room {
		return nil
	}
	b := s.untouched
	b.id = id
	s.index[id] = len(s.list)
	s.list = append(s.list, b)
	return &s.list[len(s.list)-1]
}

// tidy looks at the next few buckets and forgets those that are like new.
func (s *shelf) tidy(now time.Duration) {
	for range min(looks, len(s.list)) {
		s.hand %= len(s.list)
		if b := &s.list[s.hand]; b.inFlight > 0 || b.level(s.pace, now) < float64(s.pace.burst) {
			s.hand++
			continue
		}
		s.forget(s.hand)
	}
}

// forget puts the last bucket into the place of one.
func (s *shelf) forget(i int) {
	last := len(s.list) - 1
	delete(s.index, s.list[i].id)
	if i != last {
		s.list[i] = s.list[last]
		s.index[s.list[i].id] = i
	}
	s.list = s.list[:last]
}
