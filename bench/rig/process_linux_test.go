package rig

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

// A server whose workers were not counted would look as if it cost nothing.
func TestProcessesCountsChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & echo started; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	pids, err := Processes(cmd.Process.Pid)
	if err != nil || len(pids) != 2 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes %v, %v", pids, err)
	}
	if took, err := CPUTimes(pids); err != nil || took <= 0 {
		t.Errorf("they took %v, %v", took, err)
	}
	for _, pid := range slices.Backward(pids) {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = cmd.Wait() // it was killed
	if _, err := Processes(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended has no error")
	}
}

func TestPeakMemoryCountsFromTheReset(t *testing.T) {
	pid := os.Getpid()
	if err := ResetPeak(pid); err != nil {
		t.Fatal(err)
	}
	before, err := PeakMemory(pid)
	if err != nil || before <= 0 {
		t.Fatalf("peak %d, %v", before, err)
	}
	grown := make([]byte, 64<<20)
	for i := 0; i < len(grown); i += 4096 {
		grown[i] = 1
	}
	after, err := PeakMemory(pid)
	if err != nil || after < before+32<<20 {
		t.Errorf("peak %d after %d with 64 MiB more, %v", after, before, err)
	}
}
