package audit

import (
	"io"
	"runtime"
	"sync"
)

// Sink writes whole lines to one destination, one after the other. There is one
// Sink for a file, whoever shares the file: only so is the order of lines, and
// whether the last one is whole, known in one place.
//
// Lines that come at the same time go out in one call of the writer. Each caller
// still waits for its own: the way to the kernel and back, not the bytes, is
// what a record costs.
type Sink struct {
	writing sync.Mutex // held over a call of w
	w       io.Writer
	torn    bool // the last line lacks its end
	company int  // how many more writes are worth waiting for others

	mu    sync.Mutex
	next  *batch   // gathers lines; nil until one comes
	spare []*batch // to be used again
	err   error    // how the last write ended
}

// sociable is how many writes after the last crowd still give others the time
// to join. It costs a lone caller a few turns of the scheduler and no more.
const sociable = 64

// batch is lines that are written together.
type batch struct {
	lines   []byte
	callers int // yet to leave
	done    sync.WaitGroup
	written int   // how many bytes of the lines the destination took
	err     error // why not all of them
}

// NewSink makes the sink of a destination that nothing else writes to. The
// destination stays the caller's to close.
func NewSink(w io.Writer) *Sink { return &Sink{w: w} }

// Write writes one line, which ends in a newline. After an error the line may
// stand in part or, where the writer says so, whole. A caller whose line went
// out whole before others met a full disk is told so.
func (s *Sink) Write(line []byte) (int, error) {
	b, end := s.join(line)
	if end == len(line) { // the first in it writes it
		s.write(b)
	} else {
		b.done.Wait()
	}
	return s.leave(b, len(line), end)
}

// join adds a line to the batch that is gathering, and tells where in it the
// line ends.
func (s *Sink) join(line []byte) (b *batch, end int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = s.empty()
		s.next.done.Add(1)
	}
	b = s.next
	b.lines = append(b.lines, line...)
	b.callers++
	return b, len(b.lines)
}

func (s *Sink) empty() *batch {
	last := len(s.spare) - 1
	if last < 0 {
		return new(batch)
	}
	b := s.spare[last]
	s.spare = s.spare[:last]
	return b
}

// write writes a batch once the one before it is written. Lines join it until
// then.
func (s *Sink) write(b *batch) {
	if !s.writing.TryLock() {
		s.writing.Lock()
		s.company = sociable
	}
	defer s.writing.Unlock()
	if s.company > 0 {
		// Who waits to run may have a line, too. Alone, one would only wake
		// an idle processor by this.
		runtime.Gosched()
	}
	s.mu.Lock()
	s.next = nil
	if b.callers > 1 {
		s.company = sociable
	} else if s.company > 0 {
		s.company--
	}
	s.mu.Unlock()
	n, err := s.put(b.lines)
	s.mu.Lock()
	s.err = err
	b.written, b.err = n, err
	s.mu.Unlock()
	b.done.Done()
}

// leave tells what became of a line of a batch. The last caller to leave puts
// the batch away.
func (s *Sink) leave(b *batch, length, end int) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(max(0, b.written-(end-length)), length)
	if n < length || b.written >= len(b.lines) {
		err = b.err // also where all was taken and an error told nevertheless
	}
	if b.callers--; b.callers == 0 {
		b.lines, b.err = b.lines[:0], nil
		s.spare = append(s.spare, b)
	}
	return n, err
}

// put writes whole lines. A line torn by a full disk is first given its end:
// without that the next record would be glued to it, and both would be lost to
// a reader.
func (s *Sink) put(lines []byte) (int, error) {
	if s.torn {
		if _, err := s.call(newline); err != nil {
			return 0, err
		}
	}
	return s.call(lines)
}

var newline = []byte{'\n'}

func (s *Sink) call(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if n != len(p) && err == nil {
		err = io.ErrShortWrite
	}
	if n > 0 { // or the line before is as it was
		s.torn = n > len(p) || p[n-1] != '\n'
	}
	return n, err
}

// failure returns the error of the last write, nil before the first one.
func (s *Sink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
