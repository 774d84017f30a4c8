//go:build !linux

package rig

import (
	"errors"
	"time"
)

// CPUTime has no way that is as exact elsewhere.
func CPUTime(int) (time.Duration, error) {
	return 0, errors.New("the processor time of another process can be read on Linux only")
}
