package upstream

import "sync"

// slots bounds the exchanges that run at once, over all teams and for each,
// so that one team whose calls are slow cannot keep the others from upstream.
type slots struct {
	mu    sync.Mutex
	free  int
	share int            // the most that one team may hold
	held  map[string]int // by team; the gateway's own requests are the team ""
}

func newSlots(total, teams int) *slots {
	share := total
	if teams > 1 {
		share = max(1, total*3/4)
	}
	return &slots{free: total, share: share, held: map[string]int{}}
}

// take reports whether there was a slot. Nobody waits for one: a caller told
// to come back costs less than a queue that outlives its callers.
func (s *slots) take(team string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 || s.held[team] == s.share {
		return false
	}
	s.free--
	s.held[team]++
	return true
}

func (s *slots) give(team string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.held[team]--
}
