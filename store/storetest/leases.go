package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

var leases = map[string]func(t *testing.T, open Opener){
	"have one holder":            oneHolder,
	"have one holder under load": oneHolderUnderLoad,
	"run out":                    leaseRunsOut,
}

func acquire(t *testing.T, s Store, name, holder string, ttl time.Duration) bool {
	t.Helper()
	held, err := s.Acquire(t.Context(), name, holder, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func oneHolder(t *testing.T, open Opener) {
	s := open(t, gateway)
	release := func(s Store, name, holder string) {
		t.Helper()
		if err := s.Release(t.Context(), name, holder); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, want, got bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: held %v", what, got)
		}
	}
	want("a free one", true, acquire(t, s, "sweep", "a", time.Hour))
	want("one's own", true, acquire(t, s, "sweep", "a", time.Hour))
	want("another's", false, acquire(t, s, "sweep", "b", time.Hour))
	want("another one", true, acquire(t, s, "flush", "b", time.Hour))
	want("another gateway's", true, acquire(t, open(t, other), "sweep", "b", time.Hour))

	release(s, "sweep", "b") // which is not b's to give back
	release(s, "nothing", "b")
	release(open(t, other), "sweep", "a")
	want("one that another gave back", false, acquire(t, s, "sweep", "b", time.Hour))
	release(s, "sweep", "a")
	want("one that was given back", true, acquire(t, s, "sweep", "b", time.Hour))
	want("one that was taken over", false, acquire(t, s, "sweep", "a", time.Hour))
}

func oneHolderUnderLoad(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	for round := range 5 {
		var held atomic.Int32
		atOnce(8, func(i int) {
			got, err := handles[i%2].Acquire(t.Context(), fmt.Sprint(round), fmt.Sprint(i), time.Hour)
			if err != nil {
				t.Error(err)
			}
			if got {
				held.Add(1)
			}
		})
		if held.Load() != 1 {
			t.Fatalf("round %d: %d hold it", round, held.Load())
		}
	}
}

func leaseRunsOut(t *testing.T, open Opener) {
	s := open(t, gateway)
	if !acquire(t, s, "sweep", "a", time.Millisecond) {
		t.Fatal("not held")
	}
	eventually(t, "the end of a lease", func() bool { return acquire(t, s, "sweep", "b", time.Hour) })
	if acquire(t, s, "sweep", "a", time.Hour) {
		t.Error("who let it run out has it still")
	}

	// Renewed, it runs from then on.
	acquire(t, s, "flush", "a", time.Millisecond)
	if !acquire(t, s, "flush", "a", time.Hour) {
		t.Fatal("not renewed")
	}
	_, now := living(t, s)
	eventually(t, "some time", func() bool { _, later := living(t, s); return later.After(now.Add(5 * time.Millisecond)) })
	if acquire(t, s, "flush", "b", time.Hour) {
		t.Error("a lease ran out that was renewed")
	}
}
