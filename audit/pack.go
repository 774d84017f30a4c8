package audit

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/scopegate/scopegate/audit/logfile"
)

// Packing says how files that were rolled are compressed.
type Packing string

// The packings.
const (
	PackNone Packing = "none"
	PackGzip Packing = "gzip"
	PackZstd Packing = "zstd"
)

// writer returns what compresses into a file, and how the file's name ends.
func (p Packing) writer(to io.Writer) (w io.WriteCloser, ext string, err error) {
	switch p {
	case PackGzip:
		return gzip.NewWriter(to), ".gz", nil
	case PackZstd:
		w, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1))
		return w, ".zst", err
	}
	return nil, "", fmt.Errorf("unknown compression %q", string(p))
}

// pack compresses files that were rolled, those too that a process before has
// left. Caddy's writer would do so as well, but it deletes the file before the
// disk has what takes its place: a machine that lost its power would lose
// records of changes that were on the disk already.
func (f *file) pack(p Packing, tell func(error)) {
	for {
		select {
		case <-f.stop:
			return
		case <-f.rolls: // at the start, too
			f.packRolled(p, tell)
		}
	}
}

func (f *file) packRolled(p Packing, tell func(error)) {
	names, err := logfile.Rolled(f.path)
	if err != nil {
		tell(err)
		return
	}
	for _, name := range names {
		if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
			continue // what a link leads to is not ours to compress and to delete
		}
		if logfile.PackedName(name) || f.isNow(name) {
			continue
		}
		err := packFile(name, p, f.stop)
		switch {
		case errors.Is(err, errStopped):
			return // the next process does it
		case err != nil && !errors.Is(err, os.ErrNotExist): // or else the writer found it too old
			tell(fmt.Errorf("compressing %s: %w", name, err))
		}
	}
}

// isNow reports whether a file that was rolled is the one that the log is in
// as far as the sink knows: it is looked for under its name yet.
func (f *file) isNow(name string) bool {
	info, err := os.Stat(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	return err == nil && os.SameFile(info, f.info)
}

var errStopped = errors.New("the log is being closed")

// stoppable is a file that is read until the log is closed.
type stoppable struct {
	*os.File
	stop <-chan struct{}
}

func (s stoppable) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		return 0, errStopped
	default:
		return s.File.Read(p)
	}
}

// packFile compresses one file. It is deleted once the disk has the other.
func packFile(name string, p Packing, stop <-chan struct{}) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	// No reader takes the name that it has until it is whole for one of the log.
	// One that a process before has left is made anew, and never followed to
	// where a link with this name leads.
	if err := os.Remove(name + ".tmp"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	ext, err := p.pack(to, stoppable{from, stop})
	err = errors.Join(err, to.Sync(), to.Close())
	if err == nil {
		err = os.Rename(to.Name(), name+ext)
	}
	if err != nil {
		return errors.Join(err, os.Remove(to.Name()))
	}
	if err := syncDir(filepath.Dir(name)); err != nil {
		return err // and both stay
	}
	return os.Remove(name)
}

func (p Packing) pack(to io.Writer, from io.Reader) (ext string, err error) {
	w, ext, err := p.writer(to)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(w, struct{ io.Reader }{from}) // not by the file's own way, which cannot be stopped
	return ext, errors.Join(err, w.Close())
}
