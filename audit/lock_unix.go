//go:build unix

package audit

import (
	"os"
	"syscall"
)

// tryLock locks a file for this process alone, or tells that another has it.
func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
