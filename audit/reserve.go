package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// reserveSize is what is kept for the day on which the disk is full: 536
// deletions of the usual length, 420 of the longest, with both records of each.
// It is less than the smallest file that a log is rolled at, so that it fits
// into one.
const reserveSize = 512 << 10

var errReserveFull = errors.New("the reserve is used up")

// reserve is a file whose room on the disk is taken beforehand. What takes
// rights away is recorded in it when the log itself cannot be written, and is
// moved into the log, in its place in the chain, as soon as that can be written
// again. A nil reserve is none.
type reserve struct {
	path  string
	file  *os.File
	used  int    // bytes of the file
	lines []byte // that are not yet in the log
}

// openReserve opens the reserve, which it makes where there is none. Lines in
// it which the log does not have yet go on behind the end of the log.
func openReserve(path string, end *chain) (*reserve, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the reserve of the audit log: %w", err)
	}
	r, after := &reserve{path: path, file: file}, *end
	if err := r.read(&after); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the reserve of the audit log: %w", err), file.Close())
	}
	*end = after
	return r, nil
}

// read takes what is left in the file, and gives the file its room.
func (r *reserve) read(end *chain) error {
	held := make([]byte, reserveSize)
	n, err := r.file.ReadAt(held, 0)
	if n == 0 && err != nil {
		return r.begin()
	}
	held, _, _ = bytes.Cut(held[:n], []byte{0})
	for line := range bytes.Lines(held) {
		text, ended := bytes.CutSuffix(line, newline)
		place, ok := parseStamp(text)
		switch {
		case !ended || !ok:
			return r.room(n)
		case place.seq <= end.seq:
			r.used += len(line)
			continue // it was moved, and the process died before it could forget it
		case place.seq != end.seq+1 || place.prev != end.head:
			return r.room(n)
		}
		end.pass(text)
		r.used += len(line)
		r.lines = append(r.lines, line...)
	}
	return r.room(n)
}

// room takes the rest of the room where the file has less than its size.
func (r *reserve) room(have int) error {
	if have == reserveSize {
		return nil
	}
	_, err := r.file.WriteAt(make([]byte, reserveSize-have), int64(have))
	return err
}

// begin fills a new file.
func (r *reserve) begin() error {
	return errors.Join(r.fill(), syncDir(filepath.Dir(r.path)))
}

// fill writes the whole file, since a hole in it would be no room.
func (r *reserve) fill() error {
	if _, err := r.file.WriteAt(make([]byte, reserveSize), 0); err != nil {
		return err
	}
	return r.file.Sync()
}

// there reports whether the file has its name yet. One that somebody deleted, to
// make room, would be gone with the process.
func (r *reserve) there() bool {
	own, err := r.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(r.path)
	return err == nil && os.SameFile(own, named)
}

// renew makes the file anew where it was deleted or replaced. What stands in one
// that was put in its place is nobody's.
func (r *reserve) renew() error {
	if r.there() {
		return nil
	}
	if len(r.lines) == 0 {
		_ = r.file.Close() // its room is free only then
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	made := &reserve{path: r.path, file: file}
	if err = made.begin(); err == nil && len(r.lines) > 0 {
		err = made.put(r.lines)
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(r.path))
	}
	_ = r.file.Close()
	*r = *made
	return nil
}

// waiting returns the lines that are to be moved into the log.
func (r *reserve) waiting() []byte {
	if r == nil {
		return nil
	}
	return r.lines
}

// put writes a line onto the disk.
func (r *reserve) put(line []byte) error {
	if err := r.renew(); err != nil {
		return err
	}
	if r.used+len(line) > reserveSize {
		return errReserveFull
	}
	if _, err := r.file.WriteAt(line, int64(r.used)); err != nil {
		return err
	}
	if err := datasync(r.file); err != nil {
		return err
	}
	r.used += len(line)
	r.lines = append(r.lines, line...)
	return nil
}

// took forgets those of the waiting lines that are in the first n bytes of a
// write which began with all of them, behind a newline if the line before was
// torn. It returns where the last of them ends.
func (r *reserve) took(lead []byte, n int, torn bool) (at int) {
	if torn {
		at = len(newline)
	}
	for at < len(lead) {
		length := bytes.IndexByte(lead[at:], '\n') + 1
		if n < at+length-1 {
			break
		}
		at += length
		r.lines = r.lines[length:]
	}
	return at
}

// moved forgets the lines once they are in the log and, if it is one that can
// be lost, on its disk.
func (r *reserve) moved(log *file) {
	if r == nil || len(r.lines) == 0 {
		return
	}
	r.lines = nil
	if log.flush() == nil && r.fill() == nil {
		r.used = 0
	} // or else the next start finds what is in both places, and takes it once
}

func (r *reserve) close() error {
	if r == nil {
		return nil
	}
	if err := r.file.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
