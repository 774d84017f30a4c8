//go:build !linux

package audit

import "os"

// datasync puts what was written to a file onto the disk.
func datasync(f *os.File) error { return f.Sync() }
