package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/scopegate/scopegate/audit/logfile"
)

// names are all fields by their names, which field does not list.
var names = map[string]Field{
	"ts": TS, "msg": Msg, "kind": Kind, "gateway": Gateway, "uuid": UUID, "phase": Phase, "team": Team, "credential": Credential,
	"client_ip": ClientIP, "change": Change, "operator": Operator, "note": Note, "operation": Operation, "scope": Scope,
	"decision": Decision, "reason": Reason, "would_deny": WouldDeny, "shared_with": SharedWith, "token_id": TokenID, "expires_at": ExpiresAt, "status": Status,
	"upstream_status": UpstreamStatus, "generation": Generation, "suppressed": Suppressed, "requested_scopes": RequestedScopes,
	"granted_scopes": GrantedScopes, "allowed_ips": AllowedIPs, "clamped": Clamped,
}

func TestEveryFieldIsFound(t *testing.T) {
	seen := map[Field]bool{texts: true, numbers: true}
	for name, want := range names {
		if f, ok := field([]byte(name)); !ok || f != want || seen[f] {
			t.Errorf("%s is field %d, want %d", name, f, want)
		}
		seen[want] = true
	}
	if len(seen) != int(fields) {
		t.Errorf("%d fields of %d have a name", len(seen), fields)
	}
}

// What the parser takes, others read in the same way, and what others agree
// on, it takes: nothing hides from a question, and nothing is made up.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"ts":"2026-11-24T13:21:50.754002591Z","msg":"audit","phase":"decided","team":"billing","status":200,"clamped":["a","b"]}`))
	f.Add([]byte(`{"\u0074eam":"bil\u006cing","team":"x"}`))
	f.Add([]byte(` { "team" : "a\"b\\" , "x" : [ { "y" : [ -1.5e+3 , true , false , null ] } , "" ] , "status" : 0 } ` + "\r"))
	f.Add([]byte(`{"team":1}`))
	f.Add([]byte(`{"team":"\ud83d\ude00 \ud83d","allowed_ips":["a",1]}`))
	f.Add([]byte("{\"team\":\"a\xff\"}"))
	f.Add([]byte(`{"a":{"b":1,"b":[]},"":01}`))
	f.Add(bytes.Repeat([]byte(`{"a":[`), 60))
	f.Fuzz(func(t *testing.T, text []byte) {
		var known [fields][]byte
		p := parser{text: text}
		err := p.object(&known)
		if err == nil {
			agrees(t, text, known)
			return
		}
		if strictlyJSON(text) && errors.Is(err, ErrNotJSON) && bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) < maxDepth {
			t.Errorf("%q: %v", text, err)
		}
		if errors.Is(err, ErrTwice) && strictlyJSON(text) {
			t.Errorf("%q: no member stands twice", text)
		}
	})
}

func strictlyJSON(text []byte) bool {
	return jsontext.Value(text).IsValid() && jsontext.Value(text).Kind() == '{'
}

func agrees(t *testing.T, text []byte, known [fields][]byte) {
	t.Helper()
	var all map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&all); err != nil || dec.More() {
		t.Fatalf("%q was taken: %v", text, err)
	}
	e := Entry{raw: known}
	for name, f := range names {
		want, has := all[name]
		if has != e.Has(f) {
			t.Fatalf("%q: has %s: %v", text, name, e.Has(f))
		}
		if !has {
			continue
		}
		var got any
		switch {
		case f < texts:
			got = e.Text(f)
			if !e.Is(f, e.Text(f)) || e.Is(f, e.Text(f)+"x") {
				t.Fatalf("%q: Is does not agree with Text of %s", text, name)
			}
		case f < numbers:
			got = json.Number(known[f])
		default:
			list := []any{}
			for _, s := range e.List(f) {
				list = append(list, s)
			}
			got = list
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %s is %#v, want %#v", text, name, got, want)
		}
	}
}

// Whatever a line holds, what is shown of it says the same and shows.
func FuzzSafe(f *testing.F) {
	f.Add([]byte(`{"note":"plain"}`))
	f.Add([]byte("{\"note\":\"a\u202eb\u009b\U000e0001 \u010d\"}\t"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !strictlyJSON(text) || bytes.ContainsAny(text, "\n") {
			return
		}
		var want, got any
		safe := Safe(text)
		if err := json.Unmarshal(safe, &got); err != nil || json.Unmarshal(text, &want) != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q: %v", text, safe, err)
		}
		if string(safe) != Shown(string(safe)) {
			t.Fatalf("%q does not show", safe)
		}
	})
}

func TestParse(t *testing.T) {
	const head = `{"ts":"2026-11-24T13:21:50Z","msg":"audit",`
	for name, c := range map[string]struct {
		line   string
		record bool
		err    error
	}{
		"a record":               {head + `"phase":"decided"}`, true, nil},
		"in a chain":             {`{"seq":7,"prev":"00",` + head[1:] + `"phase":"ended","complete":true}`, true, nil},
		"the log's own":          {head + `"kind":"checkpoint","signed":"x"}`, false, nil},
		"torn":                   {head + `"phase":"deci`, false, ErrNotJSON},
		"two glued":              {head + `"phase":"decided"}{"ts":""}`, false, ErrNotJSON},
		"empty":                  {``, false, ErrNotJSON},
		"no object":              {`[]`, false, ErrNotJSON},
		"another log's":          {`{"level":"info","ts":1,"msg":"handled request"}`, false, ErrType},
		"another's":              {`{"level":"info","ts":"1","msg":"handled request"}`, false, ErrNotRecord},
		"no phase":               {head + `"team":"red"}`, false, ErrNotRecord},
		"a team twice":           {head + `"phase":"decided","team":"red","team":"blue"}`, false, ErrTwice},
		"a team in two guises":   {head + `"phase":"decided","team":"red","t\u0065am":"blue"}`, false, ErrTwice},
		"no text":                {head + `"phase":null}`, false, ErrType},
		"a list of other than":   {head + `"phase":"decided","clamped":["a",1]}`, false, ErrType},
		"a text for a number":    {head + `"phase":"decided","status":"200"}`, false, ErrType},
		"a byte that is no rune": {head + `"phase":"` + "\xff" + `"}`, false, ErrNotJSON},
		"deeper than it goes":    {head + `"x":` + string(bytes.Repeat([]byte("["), 200)), false, ErrNotJSON},
	} {
		var e Entry
		record, err := e.Parse(logfile.Line{Text: []byte(c.line)})
		if record != c.record || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, record, err)
		}
	}
}

// A log is to be gone through in seconds for each gigabyte.
func BenchmarkParse(b *testing.B) {
	line := []byte(`{"ts":"2026-11-24T13:21:50.754385451Z","msg":"audit","gateway":"default","uuid":"ce13af5d-6f59-4074-9037-c01604afefc7","phase":"ended","team":"billing","credential":"q6Qvd5rQwcXJ","client_ip":"127.0.0.1","operation":"listMembers","scope":"members.read-all","decision":"allow","reason":"allowed","status":200,"upstream_status":200,"duration":0.000420216,"size":139,"complete":true}`)
	b.SetBytes(int64(len(line)))
	var e Entry
	for b.Loop() {
		if ok, err := e.Parse(logfile.Line{Text: line}); !ok || err != nil {
			b.Fatal(fmt.Sprint(ok, err))
		}
	}
}

// A borrow between bytes must not make a line pass for a simple one.
func TestSimple(t *testing.T) {
	for b := range 256 {
		for at := range 17 {
			text := bytes.Repeat([]byte{' '}, 17)
			text[at] = byte(b)
			if got, want := simple(text), b >= ' ' && b < 0x80 && b != '\\'; got != want {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}
