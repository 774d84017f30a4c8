// Package strictjson reads JSON that has one reading only, and is the one
// place that knows the JSON library underneath. It refuses whatever two
// parsers could take differently: duplicate names (escaped spellings too),
// text that is not UTF-8, lone surrogates, a byte order mark, anything behind
// the value, and deep nesting. It never decides what a document may say.
//
// No error of this package repeats a name or a value of the document: they
// are shown to callers and end up in logs.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how many arrays and objects may stand in each other. PHP takes
// 512, some parsers recurse until their stack ends; no documented body needs
// more than 4.
const MaxDepth = 64

// ErrTooLarge is wrapped by the errors of a [Stream] that met one value which
// does not fit into its bound.
var ErrTooLarge = errors.New("a single JSON value is too large")

// Error says where and why a document is not strict JSON.
type Error struct {
	// Offset counts bytes from the start of the document.
	Offset int64
	// Line and Column count from 1, columns in bytes. They are 0 in a stream,
	// whose earlier lines are gone.
	Line, Column int
	Problem      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("offset %d: %s", e.Offset, e.Problem)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// What can be wrong, in the words that callers read.
const (
	problemBOM       = "a byte order mark is not JSON"
	problemDepth     = "nested too deeply"
	problemDuplicate = "an object has the same name twice"
	problemEnd       = "the JSON value ends too early"
	problemSyntax    = "not valid JSON"
	problemTrailing  = "something follows the JSON value"
	problemUTF8      = "not valid UTF-8"
)

// Check reads a body as one strict JSON value and returns it encoded anew:
// the same members in the same order, without white space, every string in
// its shortest form, every number as it was written. The body is not kept.
func Check(body []byte) ([]byte, error) {
	if at := tooDeep(body); at >= 0 {
		return nil, errorAt(body, at, problemDepth)
	}
	out, err := jsontext.AppendFormat(make([]byte, 0, len(body)), body)
	if err != nil {
		return nil, explain(body)
	}
	return out, nil
}

// Parse is [Check] for those who want to look into the value.
func Parse(body []byte) (Value, error) {
	checked, err := Check(body)
	return Value{checked}, err
}

// AnyName reports whether match is true of any object member's name, at any
// depth. Names are unescaped before they are asked about.
func AnyName(body []byte, match func(name string) bool) (bool, error) {
	checked, err := Check(body)
	if err != nil {
		return false, err
	}
	w := walk(checked)
	defer w.release()
	for {
		within, n := w.StackIndex(w.StackDepth())
		token, err := w.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("reading checked JSON: %w", err)
		}
		// The entries of an object alternate: name, value, name, value.
		if within == '{' && n%2 == 0 && token.Kind() == '"' && match(token.String()) {
			return true, nil
		}
	}
}

// AppendString appends s as a JSON string. What is not UTF-8 in it becomes
// U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // the error is about bad UTF-8 alone
	return dst
}

// walker is a decoder together with what it reads from: a bytes.Buffer, which
// the library reads in place and does not copy.
type walker struct {
	jsontext.Decoder
	source bytes.Buffer
}

var walkers = sync.Pool{New: func() any { return new(walker) }}

func walk(raw []byte) *walker {
	w := walkers.Get().(*walker) //nolint:forcetypeassert // only these are stored in it
	w.read(raw)
	return w
}

func (w *walker) read(raw []byte) {
	w.source = *bytes.NewBuffer(raw)
	w.Reset(&w.source)
}

// release puts a walker back without the document that it read: the answer to
// a mint holds a secret, which must not outlive its request here.
func (w *walker) release() {
	w.read(nil)
	walkers.Put(w)
}

// tooDeep returns where the nesting goes beyond MaxDepth, or -1. It looks at
// brackets outside of strings only; of what is no JSON it may say anything,
// and the parser the rest.
func tooDeep(body []byte) int {
	if bytes.Count(body, []byte{'{'})+bytes.Count(body, []byte{'['}) <= MaxDepth {
		return -1 // as of every token: counting is many times as fast as looking
	}
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}

// explain finds out what is wrong with a body that did not pass. It reads
// once more, since the error of the encoder has no offset into its input.
func explain(body []byte) error {
	if bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) {
		return errorAt(body, 0, problemBOM)
	}
	w := walk(body)
	defer w.release()
	_, err := w.ReadValue()
	if err == nil {
		at := int(w.InputOffset())
		at += len(body[at:]) - len(bytes.TrimLeft(body[at:], " \t\r\n"))
		return errorAt(body, at, problemTrailing)
	}
	at, problem := classify(err)
	if problem == problemEnd {
		at = len(body)
	}
	if problem == problemSyntax && !utf8.Valid(body) {
		for at = 0; ; {
			r, size := utf8.DecodeRune(body[at:])
			if r == utf8.RuneError && size <= 1 {
				break
			}
			at += size
		}
		problem = problemUTF8
	}
	return errorAt(body, at, problem)
}

// classify puts an error of the decoder into our words, without the pieces
// of the document that its text may hold.
func classify(err error) (at int, problem string) {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at = int(syntactic.ByteOffset)
	}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return at, problemDuplicate
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return at, problemEnd
	default:
		return at, problemSyntax
	}
}

func errorAt(body []byte, at int, problem string) *Error {
	at = min(at, len(body))
	before := body[:at]
	return &Error{
		Offset: int64(at), Problem: problem,
		Line:   1 + bytes.Count(before, []byte("\n")),
		Column: at - bytes.LastIndexByte(before, '\n'),
	}
}
