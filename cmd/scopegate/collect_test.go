package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestShareOfGarbage(t *testing.T) {
	for _, c := range []struct {
		used uint64 // MiB
		want uint64 // percent
	}{
		{0, 800}, {1, 800}, {4, 800}, {8, 400}, {10, 320}, {16, 200}, {32, 100}, {33, 100}, {1 << 20, 100},
	} {
		if got := share(c.used << 20); got != c.want {
			t.Errorf("%d MiB in use: %d percent, want %d", c.used, got, c.want)
		}
	}
}

// The share follows what is in use, both ways, for as long as the process lives.
func TestCollectorIsPaced(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	paceCollector()
	small := collectUntil(t, func(percent uint64) bool { return percent > 100 })
	held := make([]byte, 4*garbage)
	collectUntil(t, func(percent uint64) bool { return percent == 100 })
	runtime.KeepAlive(held)
	collectUntil(t, func(percent uint64) bool { return percent > small/2 })
}

// collectUntil collects until the share is as wanted, which it is soon after a
// collection and not at once.
func collectUntil(t *testing.T, wanted func(percent uint64) bool) uint64 {
	t.Helper()
	now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for range 1000 {
		runtime.GC()
		metrics.Read(now)
		if percent := now[0].Value.Uint64(); wanted(percent) {
			return percent
		}
	}
	t.Fatal("it never came")
	return 0
}
