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

// batch is lines that are written together and share their fate.
type batch struct {
	lines   []byte
	callers int // yet to leave
	written sync.WaitGroup
	err     error
}

// NewSink makes the sink of a destination that nothing else writes to. The
// destination stays the caller's to close.
func NewSink(w io.Writer) *Sink { return &Sink{w: w} }

// Write writes one line, which ends in a newline. After an error the line may
// stand in part or whole, and so may those that went out with it: none of their
// callers is told that it was recorded.
func (s *Sink) Write(line []byte) (int, error) {
	b, first := s.join(line)
	if first {
		s.write(b)
	} else {
		b.written.Wait()
	}
	return len(line), s.leave(b)
}

// join adds a line to the batch that is gathering. Whoever is the first in it
// writes it.
func (s *Sink) join(line []byte) (b *batch, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first = s.next == nil; first {
		s.next = s.empty()
		s.next.written.Add(1)
	}
	s.next.lines = append(s.next.lines, line...)
	s.next.callers++
	return s.next, first
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
	err := s.put(b.lines)
	s.mu.Lock()
	s.err, b.err = err, err
	s.mu.Unlock()
	b.written.Done()
}

// leave returns what became of a batch. The last one to leave puts it away.
func (s *Sink) leave(b *batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := b.err
	if b.callers--; b.callers == 0 {
		b.lines, b.err = b.lines[:0], nil
		s.spare = append(s.spare, b)
	}
	return err
}

// put writes whole lines. A line torn by a full disk is first given its end:
// without that the next record would be glued to it, and both would be lost to
// a reader.
func (s *Sink) put(lines []byte) error {
	if s.torn {
		if err := s.call(newline); err != nil {
			return err
		}
	}
	return s.call(lines)
}

var newline = []byte{'\n'}

func (s *Sink) call(p []byte) error {
	n, err := s.w.Write(p)
	if n != len(p) && err == nil {
		err = io.ErrShortWrite
	}
	if n > 0 { // or the line before is as it was
		s.torn = p[n-1] != '\n'
	}
	return err
}

// failure returns the error of the last write, nil before the first one.
func (s *Sink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
