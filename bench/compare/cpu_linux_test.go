package main

import (
	"os"
	"testing"
)

func TestCPUTimeCounts(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for work := 0; after == before && work < 1e9; work++ {
		if after, err = cpuTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if before <= 0 || after <= before {
		t.Errorf("from %v to %v", before, after)
	}
}

func TestCPUTimeRejectsAProcessThatIsNot(t *testing.T) {
	if took, err := cpuTime(1 << 28); err == nil {
		t.Errorf("no process took %v", took)
	}
}
