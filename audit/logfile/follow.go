package logfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// ErrCut is of a file that became shorter while it was followed.
var ErrCut = errors.New("the file was cut; going on from its beginning")

// Follower reads a log while it grows, over rotations.
type Follower struct {
	path   string
	file   *os.File        // nil where there is none now
	known  map[string]bool // what had been rolled when it was opened
	buffer []byte
	line   []byte // the beginning of one whose end is not there yet
	long   bool   // of one that is too long
	number int    // of that line
	offset int64  // of its first byte
	read   int64
}

// Follow begins at the beginning of the log as it is now. Nothing is read yet,
// and the log may not be there yet.
func Follow(path string) *Follower {
	return &Follower{path: path, buffer: make([]byte, 64<<10)}
}

// Close closes the file.
func (f *Follower) Close() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// Poll calls do for each line that has become whole, also in files that were
// rolled since, and returns when there is no more for now. The line's text is
// valid until do returns.
func (f *Follower) Poll(do func(Line) error, fault func(*ReadError)) error {
	for {
		there, err := f.open()
		if err != nil || !there {
			return err
		}
		if err := f.drain(do, fault); err != nil {
			return err
		}
		if same(f.file, f.path) {
			info, err := f.file.Stat()
			if err != nil || info.Size() >= f.read {
				return err
			}
			fault(f.fault(ErrCut))
			f.Close()
			continue
		}
		if err := f.rolled(do, fault); err != nil {
			return err
		}
	}
}

// Rest gives out the line that has no end, of a log that is not followed on.
func (f *Follower) Rest(do func(Line) error) error {
	if len(f.line) == 0 {
		return nil
	}
	line := Line{f.line, f.path, f.number, f.offset, false}
	f.line = nil
	return do(line)
}

// open opens the log and notes what was rolled before, so that it is seen what
// was rolled after.
func (f *Follower) open() (there bool, err error) {
	for f.file == nil {
		file, err := os.Open(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		names, err := Rolled(f.path)
		if err != nil {
			_ = file.Close()
			return false, err
		}
		if !same(file, f.path) { // rolled just now
			_ = file.Close()
			continue
		}
		f.known = map[string]bool{}
		for _, name := range names {
			f.known[plainName(name)] = true
		}
		f.file, f.line, f.long, f.number, f.offset, f.read = file, nil, false, 1, 0, 0
	}
	return true, nil
}

// drain reads up to the end that the file has now.
func (f *Follower) drain(do func(Line) error, fault func(*ReadError)) error {
	for {
		n, err := f.file.Read(f.buffer)
		f.read += int64(n)
		for rest := f.buffer[:n]; len(rest) > 0; {
			part, after, ended := bytes.Cut(rest, newline)
			rest = after
			if !f.long {
				f.line = append(f.line, part...)
			}
			if f.long = f.long || len(f.line) > MaxLine; f.long {
				f.line = f.line[:0]
			}
			if !ended {
				break
			}
			if err := f.whole(do, fault); err != nil {
				return err
			}
			f.offset = f.read - int64(len(rest))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return f.fault(err)
		}
	}
}

func (f *Follower) whole(do func(Line) error, fault func(*ReadError)) error {
	defer func() { f.line, f.long, f.number = f.line[:0], false, f.number+1 }()
	if f.long {
		fault(f.fault(ErrTooLong))
		return nil
	}
	return do(Line{f.line, f.path, f.number, f.offset, true})
}

func (f *Follower) fault(err error) *ReadError { return &ReadError{f.path, f.number, f.offset, err} }

// rolled ends with a file that is the log no more, and reads those that were
// rolled since besides it.
func (f *Follower) rolled(do func(Line) error, fault func(*ReadError)) error {
	if err := f.drain(do, fault); err != nil { // what came before it was rolled
		return err
	}
	if err := f.Rest(do); err != nil {
		return err
	}
	names, err := Rolled(f.path)
	if err != nil {
		return err
	}
	var missed []string
	own := -1
	for _, name := range names {
		if f.known[plainName(name)] {
			continue
		}
		if same(f.file, name) {
			own = len(missed)
		}
		missed = append(missed, name)
	}
	if len(missed) > 0 {
		missed = missed[max(own, 0)+1:] // one that is compressed by now is the oldest
	}
	f.Close()
	for _, name := range missed {
		if err := readAll(name, do, fault); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads a file that was rolled. One that is gone already, since the log
// keeps few, must not end who follows it.
func readAll(name string, do func(Line) error, fault func(*ReadError)) error {
	source := Source{Name: name}
	r, file, err := source.open()
	if err != nil {
		fault(&ReadError{File: name, Err: err})
		return nil
	}
	defer file.Close()
	return r.Each(do, fault)
}
