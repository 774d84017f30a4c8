package strictjson_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/strictjson"
)

func TestCheckEncodesAnew(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"white space goes", " {\n\t\"a\" : [ 1 , 2 ] }\r\n", `{"a":[1,2]}`},
		{"order stays", `{"b":1,"a":2}`, `{"b":1,"a":2}`},
		{"escapes become letters", `{"\u0061":"\u00e9\/\ud83d\ude00"}`, `{"a":"é/😀"}`},
		{"controls stay escaped", `"\u0000\u001f\n"`, `"\u0000\u001f\n"`},
		// A float64 in between would make another id of it.
		{"numbers are not touched", `[12345678901234567890,1.50,-0,1E400]`, `[12345678901234567890,1.50,-0,1E400]`},
		{"any value", `null`, `null`},
		{"names that differ in case are two", `{"a":1,"A":2}`, `{"a":1,"A":2}`},
		{"same name in two objects", `[{"a":1},{"a":{"a":2}}]`, `[{"a":1},{"a":{"a":2}}]`},
		{"deep enough", strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 64) + strings.Repeat("]", 64)},
		{"brackets in strings are no depth", `"` + strings.Repeat(`[{\"`, 100) + `"`, `"` + strings.Repeat(`[{\"`, 100) + `"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := strictjson.Check([]byte(tc.body))
			if err != nil || string(got) != tc.want {
				t.Errorf("Check = %s, %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestCheckRejectsWhatHasTwoReadings(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"nothing", "", "line 1, column 1: the JSON value ends too early"},
		{"white space alone", " \n ", "line 2, column 2: the JSON value ends too early"},
		{"cut", `{"a":`, "line 1, column 6: the JSON value ends too early"},
		{"cut in a string", `{"a":"b`, "line 1, column 8: the JSON value ends too early"},
		{"byte order mark", "\xef\xbb\xbf{}", "line 1, column 1: a byte order mark is not JSON"},
		// One parser takes the first, the next the last.
		{"duplicate name", `{"a":1,"a":2}`, "line 1, column 8: an object has the same name twice"},
		{"duplicate name, escaped", `{"role":1,"r\u006fle":2}`, "line 1, column 11: an object has the same name twice"},
		{"duplicate name, nested", "[0,\n{\"x\":{\"a\":1,\"a\":1}}]", "line 2, column 13: an object has the same name twice"},
		{"something behind", `{} {}`, "line 1, column 4: something follows the JSON value"},
		{"NUL behind", "{}\x00", "line 1, column 3: something follows the JSON value"},
		{"bracket behind", `[]]`, "line 1, column 3: something follows the JSON value"},
		// PHP and JavaScript replace or keep these, each in its own way.
		{"not UTF-8", "\n[\"\xff\"]", "line 2, column 3: not valid UTF-8"},
		{"overlong slash", "\"\xc0\xaf\"", "line 1, column 2: not valid UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "line 1, column 1: not valid UTF-8"},
		{"lone surrogate", `"\ud800"`, "line 1, column 2: not valid JSON"},
		{"swapped surrogates", `"\udc00\ud800"`, "line 1, column 2: not valid JSON"},
		{"comment", `{/**/}`, "line 1, column 2: not valid JSON"},
		{"trailing comma", `[1,]`, "line 1, column 4: not valid JSON"},
		{"single quotes", `{'a':1}`, "line 1, column 2: not valid JSON"},
		{"bare name", `{a:1}`, "line 1, column 2: not valid JSON"},
		{"leading zero", `01`, "line 1, column 2: something follows the JSON value"},
		{"NaN", `NaN`, "line 1, column 1: not valid JSON"},
		{"capital literal", `True`, "line 1, column 1: not valid JSON"},
		{"control in a string", "\"\t\"", "line 1, column 2: not valid JSON"},
		{"no-break space", "\u00a0{}", "line 1, column 1: not valid JSON"},
		{"too deep", strings.Repeat("[", 65), "line 1, column 65: nested too deeply"},
		{"far too deep", strings.Repeat(`{"a":`, 1e5), "line 1, column 321: nested too deeply"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := strictjson.Check([]byte(tc.body))
			var where *strictjson.Error
			if !errors.As(err, &where) || err.Error() != tc.want || got != nil {
				t.Errorf("Check = %q, %v; want %s", got, err, tc.want)
			}
		})
	}
}

// A body may hold a password at any place, and the errors go to answers and
// logs.
func TestErrorsRepeatNothingOfTheDocument(t *testing.T) {
	for _, body := range []string{
		`{"hunter2":1,"hunter2":2}`, `{"a":hunter2}`, `"\uhunter2"`, `{"hunter2":"` + "\xff" + `"}`,
		`{"hunter2" 1}`, `hunter2`, `{} hunter2`, `{"a":"hunter2`,
	} {
		_, err := strictjson.Check([]byte(body))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "uhu") {
			t.Errorf("Check(%s): %v", body, err)
		}
		s := strictjson.NewStream(strings.NewReader(body), 1<<10)
		_, err = s.Value()
		if err == nil {
			err = s.End()
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "uhu") {
			t.Errorf("Stream(%s): %v", body, err)
		}
	}
}

func TestAnyName(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       bool
	}{
		{"top", `{"x":1}`, true},
		{"escaped", `{"\u0078":1}`, true},
		{"nested", `[[],{"a":[{"b":{},"x":null}]}]`, true},
		{"behind an object", `{"a":{"b":1},"x":1}`, true},
		{"as a value", `{"a":"x","b":["x"]}`, false},
		{"no object", `"x"`, false},
		{"in an array of strings", `["x","x"]`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := strictjson.AnyName([]byte(tc.body), func(name string) bool { return name == "x" })
			if err != nil || got != tc.want {
				t.Errorf("AnyName = %v, %v; want %v", got, err, tc.want)
			}
		})
	}
	if _, err := strictjson.AnyName([]byte(`{"x":1,"x":2}`), func(string) bool { return true }); err == nil {
		t.Error("AnyName answers for a body with two readings")
	}
}

func TestValue(t *testing.T) {
	v, err := strictjson.Parse([]byte(` { "s" : "\u0061\n" , "n" : 1 , "a" : [ true , null , {"s":""} ] , "o" : { } } `))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, member := range v.Members() {
		encoded, err := member.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name+": "+member.Kind().String()+" "+string(encoded)+" "+member.Text())
		for element := range member.Elements() {
			got = append(got, element.Kind().String())
		}
		for range member.Members() {
			t.Error("an empty object has members")
		}
	}
	want := []string{
		"s: a string \"a\\n\" a\n", "n: a number 1 ",
		`a: an array [true,null,{"s":""}] `, "a boolean", "null", "an object",
		"o: an object {} ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// Values outlive the walk that found them.
	var kept []strictjson.Value
	for _, member := range v.Members() {
		kept = append(kept, member)
	}
	if got := kept[0].Text(); got != "a\n" {
		t.Errorf("a kept value became %q", got)
	}
	var zero strictjson.Value
	if zero.Kind() != strictjson.Invalid || zero.Text() != "" || len(slices.Collect(zero.Elements())) != 0 {
		t.Error("the zero Value is something")
	}
}

func TestMember(t *testing.T) {
	v, err := strictjson.Parse([]byte(`{"a":"name","name":"b","n\u0061\"":[1],"":null}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": `"name"`, "name": `"b"`, `na"`: `[1]`, "": `null`,
		"b": "", "A": "", `n\u0061\"`: "", "nam": "", "names": "",
	} {
		member := v.Member(name)
		if got, _ := member.AppendTo(nil); string(got) != want || (member.Kind() == strictjson.Invalid) != (want == "") {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	for _, none := range []strictjson.Value{{}, v.Member("a"), v.Member(`na"`)} {
		if none.Member("a").Kind() != strictjson.Invalid {
			t.Errorf("%s has a member", none.Kind())
		}
	}
}

func TestAppendString(t *testing.T) {
	got := string(strictjson.AppendString([]byte("x"), "a\"\\\n\x00é\xff<"))
	if want := "x\"a\\\"\\\\\\n\\u0000é\ufffd<\""; got != want {
		t.Errorf("AppendString = %s, want %s", got, want)
	}
}

// collect reads a document of the form {"skip":…,"list":[…]}.
func collect(r io.Reader, maxValue int) (list []string, err error) {
	s := strictjson.NewStream(r, maxValue)
	err = s.Members(func(name string) error {
		if name != "list" {
			_, err := s.Value()
			return err
		}
		return s.Elements(func(v strictjson.Value) error {
			encoded, err := v.AppendTo(nil)
			list = append(list, string(encoded))
			return err
		})
	})
	if err == nil {
		err = s.End()
	}
	return list, err
}

func TestStreamReadsPieces(t *testing.T) {
	const body = " {\"a\":{\"list\":[0]}, \"list\" : [ {\"b\" : 1} , [ ] ,\"\\u0063\", null], \"z\":[]} \n"
	for _, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body)), iotest.DataErrReader(strings.NewReader(body))} {
		got, err := collect(r, 100)
		if diff := cmp.Diff([]string{`{"b":1}`, `[]`, `"c"`, `null`}, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

// A list may be as long as it likes, a single value may not.
func TestStreamIsNotBoundInAll(t *testing.T) {
	body := `{"list":[0` + strings.Repeat(`,"0123456789"`, 10_000) + `],"a":1}`
	got, err := collect(strings.NewReader(body), 1000)
	if err != nil || len(got) != 10_001 {
		t.Errorf("%d elements, %v", len(got), err)
	}
}

func TestStreamRejects(t *testing.T) {
	endless := strings.Repeat("0", 1<<20)
	for _, tc := range []struct {
		name, body string
		want       error
	}{
		{"nothing", "", nil},
		{"not an object", `[]`, nil},
		{"cut", `{"list":[1,`, nil},
		{"cut behind the list", `{"list":[1]`, nil},
		{"something behind", `{"list":[1]} x`, nil},
		{"a second document", `{"list":[1]}{"list":[2]}`, nil},
		{"the list twice", `{"list":[],"list":[]}`, nil},
		{"the list twice, escaped", `{"list":[],"l\u0069st":[]}`, nil},
		{"duplicate in an element", `{"list":[{"a":1,"a":2}]}`, nil},
		{"wrong bracket", `{"list":[1}`, nil},
		{"name that is no string", `{1:[]}`, nil},
		{"element too deep", `{"list":[` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `]}`, nil},
		{"not UTF-8", "{\"list\":[\"\xff\"]}", nil},
		{"byte order mark", "\xef\xbb\xbf{\"list\":[]}", nil},
		// Each of these would be held in memory until it ended.
		{"endless string", `{"list":["` + endless, strictjson.ErrTooLarge},
		{"endless element", `{"list":[[` + strings.Repeat("[],", 1<<19), strictjson.ErrTooLarge},
		{"endless white space", `{"list":[` + strings.Repeat(" ", 1<<20), strictjson.ErrTooLarge},
		{"endless name", `{"` + endless, strictjson.ErrTooLarge},
		{"endless value beside", `{"a":"` + endless, strictjson.ErrTooLarge},
		{"endless number", endless[:10] + endless, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := collect(strings.NewReader(tc.body), 4096)
			var where *strictjson.Error
			switch {
			case tc.want == nil && !errors.As(err, &where):
				t.Errorf("got %v, want an Error", err)
			case tc.want != nil && !errors.Is(err, tc.want):
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// An object with ever new names would fill the memory with names alone.
func TestStreamRejectsEndlessNames(t *testing.T) {
	body := "{"
	for i := range 26 * 26 * 26 {
		body += `"` + string([]byte{byte('a' + i%26), byte('a' + i/26%26), byte('a' + i/676)}) + `":0,`
	}
	if _, err := collect(strings.NewReader(body), 4096); !errors.Is(err, strictjson.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Whoever reads an upstream's answer must tell a broken connection from a
// broken document.
func TestStreamPassesReadErrors(t *testing.T) {
	broken := errors.New("connection reset")
	for _, head := range []string{"", `{`, `{"list":[1`, `{"list":[1]}`} {
		_, err := collect(io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken)), 4096)
		if !errors.Is(err, broken) {
			t.Errorf("after %s: %v", head, err)
		}
	}
}

func TestStreamStopsWhereToldTo(t *testing.T) {
	stop := errors.New("stop")
	s := strictjson.NewStream(strings.NewReader(`[[1],[2]]`), 100)
	if err := s.Elements(func(strictjson.Value) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Elements = %v", err)
	}
	s = strictjson.NewStream(strings.NewReader(`{"a":1}`), 100)
	if err := s.Members(func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Members = %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	body := []byte(`{ "date": { "start": "2026-01-01 00:00:00", "stop": "2026-01-31 23:59:59" }, "pagination": { "page": 1, "limit": 100 } }`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Check(body); err != nil {
			b.Fatal(err)
		}
	}
}
