package strictjson

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind is the kind of a JSON value.
type Kind byte

// The kinds. Invalid is the zero value's, and that of a stream at its end.
const (
	Invalid Kind = 0
	Null    Kind = 'n'
	False   Kind = 'f'
	True    Kind = 't'
	String  Kind = '"'
	Number  Kind = '0'
	Array   Kind = '['
	Object  Kind = '{'
)

// String names the kind with its article, to stand in a sentence.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case False, True:
		return "a boolean"
	case String:
		return "a string"
	case Number:
		return "a number"
	case Array:
		return "an array"
	case Object:
		return "an object"
	default:
		return "nothing"
	}
}

// Value is one JSON value that was checked. Only this package makes them; the
// zero Value is nothing.
type Value struct{ raw []byte }

// Kind returns the kind of the value.
func (v Value) Kind() Kind { return Kind(jsontext.Value(v.raw).Kind()) }

// Text returns the unescaped string; "" where the value is none.
func (v Value) Text() string { return string(v.Bytes()) }

// Bytes is [Value.Text] without a copy where nothing is escaped: they are good
// for as long as the value is, and not to be changed.
func (v Value) Bytes() []byte {
	if v.Kind() != String {
		return nil
	}
	if bytes.IndexByte(v.raw, '\\') < 0 {
		return v.raw[1 : len(v.raw)-1]
	}
	text, err := jsontext.AppendUnquote(nil, v.raw)
	if err != nil {
		return nil // cannot be: the value was checked
	}
	return text
}

// AppendTo appends the value, encoded anew as [Check] does.
func (v Value) AppendTo(dst []byte) ([]byte, error) {
	out, err := jsontext.AppendFormat(dst, v.raw)
	if err != nil {
		return dst, fmt.Errorf("encoding checked JSON: %w", err)
	}
	return out, nil
}

// Member returns the value under a name; nothing where there is none, or where
// the value is no object.
func (v Value) Member(name string) Value {
	if v.Kind() != Object {
		return Value{}
	}
	isName, found := true, false
	for entry := range v.entries {
		switch {
		case found:
			return entry
		case isName:
			found = string(entry.Bytes()) == name
		}
		isName = !isName
	}
	return Value{}
}

// Members yields the names and values of an object in their order, and
// nothing where the value is no object.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		var name Value
		for entry := range v.entries {
			if name.raw == nil {
				name = entry
				continue
			}
			if !yield(name.Text(), entry) {
				return
			}
			name = Value{}
		}
	}
}

// Elements yields the elements of an array, and nothing where the value is no
// array.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() == Array {
			v.entries(yield)
		}
	}
}

// entries yields the elements of an array, or the names and values of an
// object in turns. It finds them by quotation marks and brackets alone, which
// in JSON that was checked cannot mislead, and cuts them out of v's own bytes.
func (v Value) entries(yield func(Value) bool) {
	closing := len(v.raw) - 1
	for at := toEntry(v.raw, 1); at < closing; {
		end := endOf(v.raw, at)
		if !yield(Value{v.raw[at:end:end]}) {
			return
		}
		at = toEntry(v.raw, end)
	}
}

// toEntry returns where the next entry or the closing bracket is.
func toEntry(raw []byte, at int) int {
	for raw[at] <= ' ' || raw[at] == ',' || raw[at] == ':' {
		at++
	}
	return at
}

// endOf returns where the value ends that begins at a place in a container.
func endOf(raw []byte, at int) int {
	switch raw[at] {
	case '"':
		return endOfString(raw, at)
	case '{', '[':
		return endOfContainer(raw, at)
	}
	for raw[at] > ' ' && raw[at] != ',' && raw[at] != ']' && raw[at] != '}' {
		at++
	}
	return at
}

func endOfString(raw []byte, at int) int {
	for at++; raw[at] != '"'; at++ {
		if raw[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func endOfContainer(raw []byte, at int) int {
	for depth := 0; ; at++ {
		switch raw[at] {
		case '"':
			at = endOfString(raw, at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
	}
}
