package upstream

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
)

// holdBack is how much of an answer is held until it is known to be free of
// the master token: a leak within it can still be answered with a refusal.
const holdBack = 64 << 10

var buffers = sync.Pool{New: func() any { return new([holdBack]byte) }}

// scanned reads an answer's body and lets no byte through that is part of the
// master token. Not even its beginning: of a token of which all but the last
// byte was let through, the last one is soon guessed. So what might be the
// beginning of one stays in the buffer until what follows is known.
type scanned struct {
	src   io.ReadCloser
	token *token

	// buf[read:clear] may go out; buf[clear:filled] begins like a mark.
	buf                 *[holdBack]byte
	read, clear, filled int

	// err is why no more comes: io.EOF, ErrLeak or the error of src.
	err error
}

func newScanned(src io.ReadCloser, t *token) scanned {
	return scanned{src: src, token: t, buf: buffers.Get().(*[holdBack]byte)} //nolint:forcetypeassert // the pool holds nothing else
}

// hold reads until the buffer is full or the body ends.
func (s *scanned) hold() {
	for s.filled < len(s.buf) && s.err == nil {
		s.fill()
	}
	s.scan()
}

func (s *scanned) fill() {
	n, err := s.src.Read(s.buf[s.filled:])
	s.filled += n
	s.err = err
}

// scan clears what cannot be part of a mark.
func (s *scanned) scan() {
	have, marks := s.buf[:s.filled], s.token.forms().marks
	for _, mark := range marks {
		if bytes.Contains(have, mark) {
			s.err = ErrLeak
			s.read, s.clear, s.filled = 0, 0, 0
			return
		}
	}
	s.clear = s.filled
	if s.err != io.EOF { //nolint:errorlint // a reader's own EOF is never wrapped
		s.clear -= beginning(have, marks)
	}
}

// beginning returns the length of the longest end of b with which a mark
// begins.
func beginning(b []byte, marks [][]byte) int {
	longest := 0
	for _, mark := range marks {
		for n := min(len(mark)-1, len(b)); n > longest; n-- {
			if bytes.HasSuffix(b, mark[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// whole returns the body where all of it is in the buffer.
func (s *scanned) whole() ([]byte, bool) {
	if s.err != io.EOF { //nolint:errorlint // as above
		return nil, false
	}
	return s.buf[s.read:s.clear], true
}

// next returns what may go out next, reading on where there is nothing. It is
// the buffer itself; took says how much of it went.
func (s *scanned) next() ([]byte, error) {
	for s.read == s.clear {
		if s.err != nil {
			return nil, s.err
		}
		s.filled = copy(s.buf[:], s.buf[s.clear:s.filled])
		s.read, s.clear = 0, 0
		s.fill()
		s.scan()
	}
	return s.buf[s.read:s.clear], nil
}

func (s *scanned) took(n int) { s.read += n }

// release gives the buffer back. Nothing that was read from it directly may
// be used after.
func (s *scanned) release() {
	if s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
	s.read, s.clear, s.filled = 0, 0, 0
	s.err = http.ErrBodyReadAfterClose
}

// leaks reports whether a header tells the master token.
func leaks(h http.Header, t *token) bool {
	texts := t.forms().texts
	for _, values := range h {
		for _, v := range values {
			for _, text := range texts {
				if strings.Contains(v, text) {
					return true
				}
			}
		}
	}
	return false
}
