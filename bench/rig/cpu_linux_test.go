package rig

import (
	"os"
	"testing"
)

func TestCPUTimeCounts(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for work := 0; after == before && work < 1e9; work++ {
		if after, err = CPUTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if before <= 0 || after <= before {
		t.Errorf("from %v to %v", before, after)
	}
}

func TestCPUTimeRejectsAProcessThatIsNot(t *testing.T) {
	if took, err := CPUTime(1 << 28); err == nil {
		t.Errorf("no process took %v", took)
	}
}
