package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// garbage is how much may lie about before it is collected where less than that
// is in use, in bytes. Where more is in use, as much again may lie beside it,
// which is Go's own rule. A gateway holds little and leaves much behind: by that
// rule alone it would collect after every few hundred requests, and with a larger
// share in percent it would hold most where it holds much already.
const garbage = 32 << 20

// smallHeap is the least that Go's rule takes a heap for.
const smallHeap = 4 << 20

// paceCollector has the collector keep to the above from now on.
//
// Go knows a share of what is in use, but no least amount, so the share is set
// anew after each collection. An allocation that nobody reads would do the same,
// but would count against the memory limit of a small container; what is set here
// is a wish, and a limit still comes first.
func paceCollector() {
	adjustCollector()
	// What is made now is garbage at the next collection.
	runtime.AddCleanup(new([smallestOwn]byte), func(struct{}) { paceCollector() }, struct{}{})
}

// smallestOwn is the size from which an object has its own place. Smaller ones
// share one, and are freed with the last of it.
const smallestOwn = 16

// adjustCollector sets the share that goes with what is in use. To set it stops
// all goroutines for a moment, so small differences are let go.
func adjustCollector() {
	now := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/globals:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/gogc:percent"},
	}
	metrics.Read(now)
	have, want := now[3].Value.Uint64(), share(now[0].Value.Uint64()+now[1].Value.Uint64()+now[2].Value.Uint64())
	if want > have+have/8 || want < have-have/8 {
		debug.SetGCPercent(int(want))
	}
}

// share is how many percent of so many bytes in use the garbage may be.
func share(used uint64) uint64 {
	return max(100, garbage*100/max(used, smallHeap))
}
