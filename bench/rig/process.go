package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Processes are the ids of a process and of the children that its first thread
// started, such as the workers of a server.
func Processes(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	list := []int{pid}
	for word := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		list = append(list, child)
	}
	return list, nil
}

// CPUTimes is the processor time that all of these processes have taken.
func CPUTimes(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		took, err := CPUTime(pid)
		if err != nil {
			return 0, err
		}
		sum += took
	}
	return sum, nil
}

// PeakMemory is the most resident memory that a process had since it started,
// or since ResetPeak, in bytes.
func PeakMemory(pid int) (int64, error) { return memory(pid, "VmHWM") }

// ResetPeak makes PeakMemory count from now.
func ResetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func memory(pid int, which string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, which+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc", which)
}
