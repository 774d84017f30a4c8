package fleet_test

import (
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// On two processors the race detector of Go 1.26 crashes where two goroutines of
// a synctest bubble find at the same instant that a timer has run out: it has one
// context for all timers of a bubble. It sees races by the order of events, and
// misses none on one.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	goleak.VerifyTestMain(m)
}
