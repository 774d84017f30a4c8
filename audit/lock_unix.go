//go:build unix

package audit

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file for this process alone. ErrInUse tells that another has
// it: a file system that has no locks is another matter, and waiting does not help.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return os.NewSyscallError("locking "+f.Name(), err)
}
