package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/strictjson"
)

var seeds = []string{
	`{"a":[1,2.50,-0,1e9],"b":{"\u0062":null}}`, `{"a":1,"\u0061":2}`, `[{"a":1},{"a":2}]`,
	"\xef\xbb\xbf{}", "\"\\ud83d\\ude00\"", `"\ud800"`, "[\"\xff\"]", `{} {}`, `[1,]`, ` true `, `{"list":[{"a":1}],"z":0}`,
	strings.Repeat("[", 65) + strings.Repeat("]", 65), `"\/\b\f\n\r\t\"\\\u2028\u0000"`,
	" { \"a\\\"\" : [ 1 ,\t{ } , \"]\\\\\" , [ ] ] , \"\":-0.5e1\n} ",
}

// FuzzCheck holds that what passes has one reading: the library of the
// standard, another parser, finds the same in the body and in its new
// encoding, and no name twice.
func FuzzCheck(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		out, err := strictjson.Check(body)
		if !bytes.Equal(before, body) {
			t.Fatal("Check changed its argument")
		}
		if err != nil {
			var where *strictjson.Error
			if out != nil {
				t.Fatal("an encoding beside an error")
			}
			if !errors.As(err, &where) || where.Line < 1 || where.Column < 1 || where.Offset > int64(len(body)) {
				t.Fatalf("error at %+v of %d bytes", where, len(body))
			}
			return
		}
		if !json.Valid(body) || !json.Valid(out) || !utf8.Valid(body) {
			t.Fatalf("passed, but is no JSON elsewhere: %q", body)
		}
		// Not go-cmp: its work doubles with each level of nested lists.
		if a, b := read(t, body), read(t, out); !reflect.DeepEqual(a, b) {
			t.Fatalf("%v became %v", a, b)
		}
		if depth := walk(t, out); depth > strictjson.MaxDepth {
			t.Fatalf("depth %d", depth)
		}
		again, err := strictjson.Check(out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("not stable: %s, %v", again, err)
		}
	})
}

// FuzzStream holds that a stream accepts what Check accepts, and no more,
// however the bytes arrive, and that both find the same.
func FuzzStream(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		whole, wholeErr := strictjson.Check(body)
		for _, r := range []io.Reader{bytes.NewReader(body), iotest.OneByteReader(bytes.NewReader(body))} {
			out, err := restream(r, len(body)+1)
			// A stream that is read piece by piece does not count the levels
			// above a piece.
			if wholeErr != nil && strings.Contains(wholeErr.Error(), "too deeply") {
				continue
			}
			if (err == nil) != (wholeErr == nil) || !bytes.Equal(out, whole) {
				t.Fatalf("streamed %q, %v; whole %q, %v", out, err, whole, wholeErr)
			}
		}
	})
}

// restream copies a document through every way of reading.
func restream(r io.Reader, maxValue int) ([]byte, error) {
	s := strictjson.NewStream(r, maxValue)
	var out []byte
	value := func() error {
		v, err := s.Value()
		if err == nil {
			out, err = v.AppendTo(out)
		}
		return err
	}
	elements := func() error {
		out = append(out, '[')
		err := s.Elements(func(v strictjson.Value) (err error) {
			if out[len(out)-1] != '[' {
				out = append(out, ',')
			}
			out, err = v.AppendTo(out)
			return err
		})
		out = append(out, ']')
		return err
	}
	var err error
	switch s.Kind() {
	case strictjson.Array:
		// An element may end in '[' only if it is a string, which ends in a
		// quotation mark: the comma above is safe.
		err = elements()
	case strictjson.Object:
		out = append(out, '{')
		err = s.Members(func(name string) error {
			if out[len(out)-1] != '{' {
				out = append(out, ',')
			}
			out = append(strictjson.AppendString(out, name), ':')
			if s.Kind() == strictjson.Array {
				return elements()
			}
			return value()
		})
		out = append(out, '}')
	default:
		err = value()
	}
	if err == nil {
		err = s.End()
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read decodes with the standard library, numbers as they stand.
func read(t *testing.T, body []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// FuzzValue holds that whoever looks into a value finds what the standard
// library finds, whether it was encoded anew before or stands as it came.
func FuzzValue(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		streamed, err := strictjson.NewStream(bytes.NewReader(body), len(body)+1).Value()
		if err != nil {
			return
		}
		want := read(t, body)
		if got := look(t, streamed); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q: found %v, want %v", body, got, want)
		}
		if parsed, err := strictjson.Parse(body); err == nil && !reflect.DeepEqual(want, look(t, parsed)) {
			t.Fatalf("%q: found %v, want %v", body, look(t, parsed), want)
		}
	})
}

// look decodes a value by looking into it.
func look(t *testing.T, v strictjson.Value) any {
	t.Helper()
	switch v.Kind() {
	case strictjson.Object:
		members := map[string]any{}
		for name, member := range v.Members() {
			members[name] = look(t, member)
			if direct := v.Member(name); !reflect.DeepEqual(direct, member) {
				t.Fatalf("the member %q is %v, or %v", name, look(t, member), look(t, direct))
			}
		}
		return members
	case strictjson.Array:
		elements := []any{}
		for element := range v.Elements() {
			elements = append(elements, look(t, element))
		}
		return elements
	case strictjson.String:
		return v.Text()
	default:
		encoded, err := v.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, encoded)
	}
}

// walk fails on a duplicate name and returns the depth.
func walk(t *testing.T, body []byte) int {
	t.Helper()
	type level struct {
		names map[string]bool // nil in an array
		value bool            // the next token is a value
	}
	var stack []level
	deepest := 0
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return deepest
		}
		if err != nil {
			t.Fatal(err)
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if top := len(stack) - 1; top >= 0 && stack[top].names != nil {
			if stack[top].value = !stack[top].value; stack[top].value {
				name := token.(string)
				if stack[top].names[name] {
					t.Fatalf("the name %q passed twice", name)
				}
				stack[top].names[name] = true
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		}
		deepest = max(deepest, len(stack))
	}
}

// FuzzAnyName holds that every name is asked about, and nothing else.
func FuzzAnyName(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		asked := map[string]int{}
		found, err := strictjson.AnyName(body, func(name string) bool { asked[name]++; return false })
		if found || err != nil {
			return
		}
		want := map[string]int{}
		countNames(read(t, body), want)
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Fatal(diff)
		}
	})
}

func countNames(v any, into map[string]int) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			into[name]++
			countNames(member, into)
		}
	case []any:
		for _, element := range v {
			countNames(element, into)
		}
	}
}
