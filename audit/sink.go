package audit

import (
	"io"
	"sync"
)

// Sink writes whole lines to one destination, one after the other. There is one
// Sink for a file, whoever shares the file: only so is the order of lines, and
// whether the last one is whole, known in one place.
type Sink struct {
	mu   sync.Mutex
	w    io.Writer
	torn bool  // the last line lacks its end
	err  error // how the last write ended
}

// NewSink makes the sink of a destination that nothing else writes to. The
// destination stays the caller's to close.
func NewSink(w io.Writer) *Sink { return &Sink{w: w} }

// Write writes one line, which ends in a newline, in one call of the writer.
// After an error the line may stand in part or, where the writer says so, whole.
//
// A line torn by a full disk is first given its end. Without that the next
// record would be glued to it, and both would be lost to a reader.
func (s *Sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn {
		if _, err := s.put(newline); err != nil {
			return 0, err
		}
	}
	return s.put(line)
}

var newline = []byte{'\n'}

func (s *Sink) put(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if n != len(p) && err == nil {
		err = io.ErrShortWrite
	}
	switch n {
	case 0: // the line before is as it was
	case len(p):
		s.torn = false
	default:
		s.torn = true
	}
	s.err = err
	return n, err
}

// failure returns the error of the last write, nil before the first one.
func (s *Sink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
