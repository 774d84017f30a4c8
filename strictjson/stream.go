package strictjson

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Stream reads one strict JSON document piece by piece, so that a long list
// is never held in memory. Errors of the reader come through wrapped; what is
// wrong with the document is an [*Error] or [ErrTooLarge].
//
// A Stream is used from the outside in: ask for Kind, then consume the value
// with Value, Members or Elements; last, End.
type Stream struct {
	decoder *jsontext.Decoder
	source  *bounded
}

// NewStream reads a document from r. A single value that is read whole may
// take maxValue bytes, and so may all names and values of one object that is
// read member by member, beyond what Elements reads in it.
func NewStream(r io.Reader, maxValue int) *Stream {
	source := &bounded{reader: r, max: maxValue, left: maxValue}
	return &Stream{decoder: jsontext.NewDecoder(source), source: source}
}

// Kind looks at the next value without consuming it. It is Invalid where
// there is none, and then every way of reading says why.
func (s *Stream) Kind() Kind {
	switch k := s.decoder.PeekKind(); k {
	case 'n', 'f', 't', '"', '0', '[', '{':
		return Kind(k)
	default:
		return Invalid
	}
}

// Value reads the next value whole. It is good until the next read.
func (s *Stream) Value() (Value, error) {
	raw, err := s.decoder.ReadValue()
	if err != nil {
		return Value{}, s.explain(err)
	}
	if at := tooDeep(raw); at >= 0 {
		start := s.decoder.InputOffset() - int64(len(raw))
		return Value{}, &Error{Offset: start + int64(at), Problem: problemDepth}
	}
	return Value{raw}, nil
}

// Members enters an object and calls visit at each value, which visit must
// consume. It stops at the first error.
func (s *Stream) Members(visit func(name string) error) error {
	if err := s.open(Object); err != nil {
		return err
	}
	for s.decoder.PeekKind() != '}' {
		name, err := s.decoder.ReadToken()
		if err != nil {
			return s.explain(err)
		}
		if err := visit(name.String()); err != nil {
			return err
		}
	}
	return s.close()
}

// Elements enters an array and calls visit with each element, which is good
// until visit returns. It stops at the first error.
func (s *Stream) Elements(visit func(Value) error) error {
	if err := s.open(Array); err != nil {
		return err
	}
	outer := s.source.left
	for s.decoder.PeekKind() != ']' {
		s.source.left = s.source.max
		element, err := s.Value()
		if err != nil {
			return err
		}
		if err := visit(element); err != nil {
			return err
		}
	}
	s.source.left = outer
	return s.close()
}

// End checks that nothing but white space is left.
func (s *Stream) End() error {
	if _, err := s.decoder.ReadToken(); err == nil {
		return &Error{Offset: s.decoder.InputOffset(), Problem: problemTrailing}
	} else if !errors.Is(err, io.EOF) {
		return s.explain(err)
	}
	return nil
}

func (s *Stream) open(want Kind) error {
	if got := s.Kind(); got != Invalid && got != want {
		return &Error{Offset: s.decoder.InputOffset(), Problem: "expected " + want.String() + ", not " + got.String()}
	}
	if _, err := s.decoder.ReadToken(); err != nil {
		return s.explain(err)
	}
	return nil
}

func (s *Stream) close() error {
	if _, err := s.decoder.ReadToken(); err != nil {
		return s.explain(err)
	}
	return nil
}

func (s *Stream) explain(err error) error {
	if s.source.err != nil {
		return fmt.Errorf("reading JSON: %w", s.source.err)
	}
	at, problem := classify(err)
	return &Error{Offset: max(int64(at), s.decoder.InputOffset()), Problem: problem}
}

// bounded lets so many bytes through and then fails, since the decoder's
// buffer grows to hold whatever one value, or the names of one object, take:
// without it an endless string would fill the memory.
type bounded struct {
	reader io.Reader
	max    int
	left   int
	err    error // what stopped it, other than the end
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.err = ErrTooLarge
		return 0, b.err
	}
	n, err := b.reader.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
