// Package logfile reads the files of audit logs: those that Caddy's writer has
// rolled too, compressed or not, in the order in which they were written.
//
// It knows lines and no records. Whatever stands in a file, it holds a bounded
// part of it in memory, says of each line exactly where it stands, and goes on
// behind what it cannot read.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync/atomic"
)

const (
	// MaxLine bounds a line, in bytes. The longest record, a mint with as many
	// addresses as fit into a request, is far below it.
	MaxLine = 4 << 20

	// blockSize is how much is read and worked on at once: enough for the
	// work to outweigh handing it over, little enough for a processor's cache.
	blockSize = 512 << 10
)

// ErrTooLong is of a line that was passed over since it is longer than MaxLine.
var ErrTooLong = fmt.Errorf("the line is longer than %d MB", MaxLine>>20)

// ReadError says where in a file something could not be read.
type ReadError struct {
	File   string
	Line   int   // from 1; 0 where the file could not even be opened
	Offset int64 // of the line, in what the file holds once it is unpacked
	Err    error
}

// Error says what and where.
func (f *ReadError) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Err.Error()
	}
	return fmt.Sprintf("%s:%d: %v", f.File, f.Line, f.Err)
}

// Unwrap returns what went wrong there.
func (f *ReadError) Unwrap() error { return f.Err }

// Line is a line of a log.
type Line struct {
	Text   []byte // without the newline; valid as long as the block's buffer is
	File   string
	Number int   // from 1
	Offset int64 // of its first byte, in what the file holds once it is unpacked
	Ended  bool  // it has a newline; only the last line of a file may lack it
}

// Block is some lines of one file that stand behind each other.
type Block struct {
	File   string
	Number int // of the first line
	Offset int64
	text   []byte
}

// Lines goes through the lines of the block.
func (b Block) Lines() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		rest, number, offset := b.text, b.Number, b.Offset
		for len(rest) > 0 {
			text, after, ended := bytes.Cut(rest, newline)
			if !yield(Line{text, b.File, number, offset, ended}) {
				return
			}
			offset += int64(len(rest) - len(after))
			rest = after
			number++
		}
	}
}

var newline = []byte{'\n'}

// Reader reads one file.
type Reader struct {
	name   string
	from   io.Reader
	read   *atomic.Int64 // bytes of the file, as it is stored
	number int           // of the next line
	offset int64
	rest   []byte // read, and not yet given out: the beginning of a line
	err    error

	size, longest int // of a block and of a line
}

// NewReader reads a log from wherever it comes, unpacked.
func NewReader(name string, from io.Reader) *Reader {
	r := &Reader{name: name, read: new(atomic.Int64), number: 1, size: blockSize, longest: MaxLine}
	r.open(from)
	return r
}

func (r *Reader) open(from io.Reader) {
	r.from, r.err = Unpack(counted{from, r.read})
}

// Next reads the next lines into the buffer, which may be nil and which the
// block goes on using. At the end the error is io.EOF. A *ReadError of ErrTooLong
// tells of a line that was passed over: what follows can be read. After any
// other *ReadError there is no more.
func (r *Reader) Next(buffer []byte) (Block, error) {
	if size := max(r.size, len(r.rest)); cap(buffer) < size || cap(buffer) > r.longest+1 {
		buffer = make([]byte, 0, size)
	}
	buffer = append(buffer[:0], r.rest...)
	r.rest = r.rest[:0]
	for {
		buffer = r.fill(buffer)
		if end := bytes.LastIndexByte(buffer, '\n') + 1; end > 0 {
			r.rest = append(r.rest, buffer[end:]...)
			return r.block(buffer[:end]), nil
		}
		switch {
		case len(buffer) > r.longest:
			return Block{}, r.passOver(int64(len(buffer)))
		case r.err == nil:
			buffer = append(make([]byte, 0, min(2*cap(buffer), r.longest+1)), buffer...)
		case !errors.Is(r.err, io.EOF):
			return Block{}, r.fault(r.err)
		case len(buffer) == 0:
			return Block{}, io.EOF
		default: // the last line of the file, without its end
			return r.block(buffer), nil
		}
	}
}

// fill reads until the buffer is full or there is no more.
func (r *Reader) fill(buffer []byte) []byte {
	for r.err == nil && len(buffer) < cap(buffer) {
		var n int
		n, r.err = r.from.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
	}
	return buffer
}

func (r *Reader) block(text []byte) Block {
	b := Block{r.name, r.number, r.offset, text}
	r.number += bytes.Count(text, newline)
	r.offset += int64(len(text))
	if text[len(text)-1] != '\n' {
		r.number++
	}
	return b
}

func (r *Reader) fault(err error) *ReadError { return &ReadError{r.name, r.number, r.offset, err} }

// passOver reads up to the end of a line of which so much was read already.
func (r *Reader) passOver(length int64) *ReadError {
	f := r.fault(ErrTooLong)
	buffer := make([]byte, min(64<<10, r.longest)) // what is left of it must fit where lines do
	for r.err == nil {
		var n int
		n, r.err = r.from.Read(buffer)
		if end := bytes.IndexByte(buffer[:n], '\n'); end >= 0 {
			length += int64(end + 1)
			r.rest = append(r.rest, buffer[end+1:n]...)
			break
		}
		length += int64(n)
	}
	r.number++
	r.offset += length
	return f
}

// Each calls do for every line of the file, one behind the other, and fault for
// what cannot be read. The line's text is valid until do returns.
func (r *Reader) Each(do func(Line) error, fault func(*ReadError)) error {
	var buffer []byte
	for {
		block, err := r.Next(buffer)
		var f *ReadError
		switch {
		case errors.As(err, &f):
			fault(f)
			if !errors.Is(err, ErrTooLong) {
				return nil
			}
			continue
		case err != nil:
			return nil // the end
		}
		for line := range block.Lines() {
			if err := do(line); err != nil {
				return err
			}
		}
		buffer = block.text
	}
}

// counted counts what is read.
type counted struct {
	from io.Reader
	n    *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Interface guards.
var (
	_ error     = (*ReadError)(nil)
	_ io.Reader = (*os.File)(nil)
)
