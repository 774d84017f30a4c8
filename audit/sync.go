package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// diskPatience bounds how long a record waits to be on the disk. A disk that
// hangs must answer like one that fails.
const diskPatience = 5 * time.Second

var errSlowDisk = fmt.Errorf("the disk did not take the record within %s", diskPatience)

// round is one wait for the disk, shared by all who came before it began.
type round struct {
	done chan struct{}
	err  error
}

// flush puts all that was written onto the disk. What that fails for is tried
// again by the next: until then nothing counts as being there.
func (f *file) flush() error {
	if f.device {
		return nil
	}
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.mu.Lock()
	now, old, made := f.now, f.old, f.made
	f.old, f.made = nil, false
	f.mu.Unlock()
	var errs []error
	var left []*part
	for _, o := range old {
		if err := o.sync(); err != nil {
			errs, left = append(errs, err), append(left, o)
			continue
		}
		errs = append(errs, o.file.Close())
	}
	errs = append(errs, now.sync())
	if made {
		err := syncDir(filepath.Dir(f.path))
		errs, made = append(errs, err), err != nil
	}
	f.mu.Lock()
	f.old, f.made = append(left, f.old...), f.made || made
	f.mu.Unlock()
	return errors.Join(errs...)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // a system that has no such thing
	}
	return errors.Join(err, dir.Close())
}

// wait waits until all that was written before is on the disk, together with
// whoever else waits.
func (f *file) wait() error {
	f.mu.Lock()
	r := f.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		f.next = r
	}
	f.mu.Unlock()
	f.wake()
	timer := time.NewTimer(diskPatience)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.err
	case <-timer.C:
		return errSlowDisk
	case <-f.stop:
		return f.flush() // nobody else does any more
	}
}

func (f *file) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// sync works for those who wait, and closes files that were rolled.
func (f *file) sync() {
	for {
		select {
		case <-f.stop:
			return
		case <-f.kick:
		}
		f.mu.Lock()
		r := f.next
		f.next = nil
		f.mu.Unlock()
		err := f.flush()
		if r != nil {
			r.err = err
			close(r.done)
		}
	}
}
