package audit

import (
	"os"
	"syscall"
)

// datasync puts what was written to a file onto the disk, and no more of its
// metadata than it takes to read it back.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
