//go:build !race

// The race detector makes sync.Pool forget at random, so that allocations can
// be counted only without it.

package audit_test

import (
	"io"
	"testing"
)

// Every request writes twice: what that leaves to the garbage collector is paid
// for by all.
func TestWriteAllocatesNothing(t *testing.T) {
	l := open(t, io.Discard, &counts{})
	for name, r := range benchRecords {
		t.Run(name, func(t *testing.T) {
			n := testing.AllocsPerRun(1000, func() {
				if err := l.Write(&r); err != nil {
					t.Error(err)
				}
			})
			if n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// Under a flood, saying no must cost less than asking.
func TestSuppressionAllocatesNothing(t *testing.T) {
	l := open(t, io.Discard, &counts{})
	r := unknown()
	n := testing.AllocsPerRun(1000, func() {
		if err := l.Unidentified(r, v4(1)); err != nil {
			t.Error(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
