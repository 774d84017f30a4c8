package fleet

import (
	"testing"
	"time"
)

// One clock alone would let a replica serve on: the wall clock where somebody
// sets it back, the monotonic one where the machine was asleep.
func TestWithinTheGraceByBothClocks(t *testing.T) {
	tests := []struct {
		name            string
		monotonic, wall time.Duration
		want            bool
	}{
		{"both", 59 * time.Second, 59 * time.Second, true},
		{"to the end", time.Minute, time.Minute, true},
		{"neither", 61 * time.Second, 61 * time.Second, false},
		{"the wall clock was set back", 61 * time.Second, -time.Hour, false},
		{"the machine was asleep", time.Second, time.Hour, false},
		{"a request that began before the sync", -time.Second, -time.Second, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := longer(tt.monotonic, tt.wall) <= time.Minute; got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
