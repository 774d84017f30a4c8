package audit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/audit"
)

// fields lists every field of a record, and so is the allow-list of what is
// written down. Whoever adds a field adds it here, having asked himself: can a
// secret get into it?
var fields = []struct {
	name   string // in Record
	key    string // in the line
	record audit.Record
	want   any
}{
	{"UUID", "uuid", audit.Record{UUID: "u"}, "u"},
	{"Phase", "phase", audit.Record{Phase: audit.Decided}, "decided"},
	{"Team", "team", audit.Record{Team: "t"}, "t"},
	{"Credential", "credential", audit.Record{Credential: "c"}, "c"},
	{"ClientIP", "client_ip", audit.Record{ClientIP: "2001:db8::1"}, "2001:db8::1"},
	{"Change", "change", audit.Record{Change: "rotate"}, "rotate"},
	{"Operator", "operator", audit.Record{Operator: "o"}, "o"},
	{"Generation", "generation", audit.Record{Generation: 2}, float64(2)},
	{"Note", "note", audit.Record{Note: "n"}, "n"},
	{"Operation", "operation", audit.Record{Operation: "o"}, "o"},
	{"Scope", "scope", audit.Record{Scope: "s"}, "s"},
	{"Decision", "decision", audit.Record{Decision: audit.Deny}, "deny"},
	{"Reason", "reason", audit.Record{Reason: "r"}, "r"},
	{"Status", "status", audit.Record{Status: 200}, 200.0},
	{"UpstreamStatus", "upstream_status", audit.Record{UpstreamStatus: 404}, 404.0},
	{"SharedWith", "shared_with", audit.Record{SharedWith: "u"}, "u"},
	{"WouldDeny", "would_deny", audit.Record{WouldDeny: "rate_limited"}, "rate_limited"},
	{"Duration", "duration", audit.Record{Duration: 1500 * time.Microsecond}, 0.0015},
	{"RequestSize", "request_size", audit.Record{RequestSize: 7}, 7.0},
	{"Size", "size", audit.Record{Size: 8}, 8.0},
	{"TokenID", "token_id", audit.Record{TokenID: "i"}, "i"},
	{"RequestedScopes", "requested_scopes", audit.Record{RequestedScopes: []string{"a", "b"}}, []any{"a", "b"}},
	{"GrantedScopes", "granted_scopes", audit.Record{GrantedScopes: []string{"a"}}, []any{"a"}},
	{"ExpiresAt", "expires_at", audit.Record{ExpiresAt: "2027-01-01 00:00:00"}, "2027-01-01 00:00:00"},
	{"AllowedIPs", "allowed_ips", audit.Record{AllowedIPs: []string{"192.0.2.0/24"}}, []any{"192.0.2.0/24"}},
	{"Clamped", "clamped", audit.Record{Clamped: []string{"expires_at"}}, []any{"expires_at"}},
	{"Fingerprints", "fingerprints", audit.Record{Fingerprints: []string{"f"}}, []any{"f"}},
	{"Complete", "complete", audit.Record{Phase: audit.Ended, Complete: true}, true},
	{"Suppressed", "suppressed", audit.Record{Suppressed: 9}, 9.0},
	{"Prefixes", "prefixes", audit.Record{Prefixes: 2}, 2.0},
}

// written returns the one line that a record makes.
func written(t *testing.T, r audit.Record) map[string]any {
	t.Helper()
	var f file
	if err := open(t, &f, nil).Write(&r); err != nil {
		t.Fatal(err)
	}
	records := f.records(t)
	if len(records) != 1 || len(f.writes) != 1 {
		t.Fatalf("got %d lines in %d writes, want one: %q", len(records), len(f.writes), f.bytes())
	}
	return records[0]
}

// A record that could carry anything would one day carry a key or the master
// token: each field is listed, and of a plain kind.
func TestRecordRejectsUnlistedFields(t *testing.T) {
	var have, listed []string
	for field := range reflect.TypeFor[audit.Record]().Fields() {
		have = append(have, field.Name)
		switch kind := field.Type.Kind(); {
		case kind == reflect.String, kind == reflect.Int, kind == reflect.Int64, kind == reflect.Bool:
		case field.Type == reflect.TypeFor[[]string]():
		default:
			t.Errorf("field %s is a %s, which may hold more than it shows", field.Name, field.Type)
		}
	}
	for _, f := range fields {
		listed = append(listed, f.name)
	}
	if diff := cmp.Diff(listed, have); diff != "" {
		t.Errorf("fields of Record that are not listed (+), or listed and gone (-):\n%s", diff)
	}
}

func TestRecordWritesEachFieldUnderItsKey(t *testing.T) {
	for _, tt := range fields {
		t.Run(tt.key, func(t *testing.T) {
			got := written(t, tt.record)
			if _, err := time.Parse(time.RFC3339Nano, got["ts"].(string)); err != nil || !strings.HasSuffix(got["ts"].(string), "Z") {
				t.Errorf("ts = %v, want RFC 3339 in UTC", got["ts"])
			}
			want := map[string]any{"ts": got["ts"], "msg": "audit", "gateway": "default", tt.key: tt.want}
			if tt.key == "complete" {
				want["phase"] = "ended"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

// The keys that operators search for are those that the package comment tells.
func TestRecordKeysAreDocumented(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(source.Doc.Text(), func(r rune) bool { return unicode.IsSpace(r) || r == ',' })
	for _, f := range fields {
		if !slices.Contains(words, f.key) {
			t.Errorf("the package comment does not name the key %s", f.key)
		}
	}
}

// An exchange that broke off must not look like one about which nothing is
// known.
func TestRecordSaysOfEveryEndWhetherItWasWhole(t *testing.T) {
	if got := written(t, audit.Record{Phase: audit.Ended}); got["complete"] != false {
		t.Errorf("complete = %v on an ended record that was not whole, want false", got["complete"])
	}
	if got, ok := written(t, audit.Record{Phase: audit.Decided, Complete: true})["complete"]; ok {
		t.Errorf("complete = %v on a decided record, want none", got)
	}
}

func TestRecordRejectsTextThatMisleads(t *testing.T) {
	long := strings.Repeat("a", 256)
	tests := []struct{ name, text, want string }{
		{"plain", "members.read-all", "members.read-all"},
		{"other scripts stay", "Účetnictví 請求", "Účetnictví 請求"},
		{"quotes cannot end the string", `x","decision":"allow`, `x","decision":"allow`},
		{"backslash", `\u0000\`, `\u0000\`},
		{"newline cannot begin a record", "x\n{\"decision\":\"allow\"}", "x\uFFFD{\"decision\":\"allow\"}"},
		{"carriage return cannot hide a line", "evil\rgood", "evil\uFFFDgood"},
		{"NUL", "a\x00b", "a\uFFFDb"},
		{"terminal escape", "\x1b[2Jx", "\uFFFD[2Jx"},
		{"C1 terminal escape", "\u009b2Jx", "\uFFFD2Jx"},
		{"DEL", "a\x7fb", "a\uFFFDb"},
		{"next line", "a\u0085b", "a\uFFFDb"},
		{"line separator", "a\u2028b", "a\uFFFDb"},
		{"paragraph separator", "a\u2029b", "a\uFFFDb"},
		{"right to left override", "a\u202Etxt", "a\uFFFDtxt"},
		{"invisible letters", "to\u200Bken\uFEFF", "to\uFFFDken\uFFFD"},
		{"broken UTF-8", "a\xff\xc3b", "a\uFFFD\uFFFDb"},
		{"surrogate half", "a\xed\xa0\x80b", "a\uFFFD\uFFFD\uFFFDb"},
		{"at the bound", long, long},
		{"over the bound", long + "b", long[:253] + "…"},
		{"cut between letters", strings.Repeat("a", 252) + "éééé", strings.Repeat("a", 252) + "…"},
		{"grown over the bound", strings.Repeat("\x00", 200), strings.Repeat("\uFFFD", 84) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := written(t, audit.Record{Team: tt.text, RequestedScopes: []string{tt.text}})
			if diff := cmp.Diff([]any{tt.want, []any{tt.want}}, []any{got["team"], got["requested_scopes"]}); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

// A caller may ask for a hundred thousand scopes in one request: the record
// says so without repeating them. What a token was granted is never cut.
func TestRecordBoundsWhatIsRequestedButNotWhatIsGranted(t *testing.T) {
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf("2001:db8::%x", i)
	}
	got := written(t, audit.Record{RequestedScopes: many, AllowedIPs: many})
	requested := got["requested_scopes"].([]any)
	if last := requested[len(requested)-1]; len(requested) != 129 || last != "… 9872 more" {
		t.Errorf("%d requested scopes, the last %q; want 128 and how many more", len(requested), last)
	}
	if granted := got["allowed_ips"].([]any); len(granted) != len(many) || granted[9_999] != many[9_999] {
		t.Errorf("%d of %d granted addresses recorded", len(granted), len(many))
	}
}

func TestNewCleansTheGatewaysName(t *testing.T) {
	var f file
	l, err := audit.New(audit.Options{Gateway: "a\nb", Durable: audit.NewSink(&f)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Write(decided()), l.Close()); err != nil {
		t.Fatal(err)
	}
	if got := f.records(t)[0]["gateway"]; got != "a\uFFFDb" {
		t.Errorf("gateway = %q", got)
	}
}

// Whatever a record holds, it is one line of valid JSON, nothing in that line is
// invisible, and what could be shown is what was put in.
func FuzzRecord(f *testing.F) {
	f.Add("u", "decided", "team", "192.0.2.1", "ok", "members.read", 200, int64(1500), int64(3), 1, true)
	f.Add("a\nb", "ended", "\u2028", "\x1b]0;x\x07", "\xff\xfe", "\",\"x\":\"", -1, int64(-1), int64(-9), 200, false)
	f.Add("0", "0", "", "0", "0", "0", 0, int64(4611686018427387676), int64(0), 0, false)
	f.Add(strings.Repeat("é", 300), "summary", "", "{}", "\u202e", "", 0, int64(1)<<62, int64(1)<<62, 0, true)
	f.Fuzz(func(t *testing.T, uuid, phase, team, ip, reason, scope string, status int, took, size int64, n int, complete bool) {
		n = min(max(n, 0), 300)
		r := audit.Record{
			UUID: uuid, Phase: audit.Phase(phase), Team: team, Credential: scope, ClientIP: ip,
			Operation: reason, Scope: scope, Decision: audit.Decision(reason), Reason: reason,
			Status: status, UpstreamStatus: -status, Duration: time.Duration(took), RequestSize: size, Size: -size,
			TokenID: uuid, RequestedScopes: slices.Repeat([]string{scope}, n), GrantedScopes: []string{uuid, scope},
			ExpiresAt: ip, AllowedIPs: slices.Repeat([]string{ip}, n), Clamped: []string{reason},
			Complete: complete, Suppressed: status, Prefixes: n,
		}
		var log file
		if err := open(t, &log, nil).Write(&r); err != nil {
			t.Fatal(err)
		}
		line := string(log.bytes())
		for i, c := range line {
			if !unicode.IsPrint(c) && i != len(line)-1 {
				t.Errorf("character %q at %d of %q does not show", c, i, line)
			}
		}
		got := written(t, r)
		delete(got, "ts")
		want := expected(&r)
		for key, value := range got {
			if text, ok := value.(string); ok {
				checkText(t, key, want[key], text)
				delete(want, key)
				continue
			}
			if texts, ok := value.([]any); ok {
				checkList(t, key, want[key].([]string), texts)
				delete(want, key)
				continue
			}
			if diff := cmp.Diff(want[key], value); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
			delete(want, key)
		}
		if len(want) > 0 {
			t.Errorf("not recorded: %v", slices.Sorted(maps.Keys(want)))
		}
	})
}

// expected says by other means than the package's what a record should show.
func expected(r *audit.Record) map[string]any {
	want := map[string]any{
		"msg": "audit", "gateway": "default",
		"uuid": r.UUID, "phase": string(r.Phase), "team": r.Team, "credential": r.Credential, "client_ip": r.ClientIP,
		"change": r.Change, "operator": r.Operator, "generation": float64(r.Generation), "note": r.Note,
		"operation": r.Operation, "scope": r.Scope, "decision": string(r.Decision), "reason": r.Reason, "would_deny": r.WouldDeny,
		"status": float64(r.Status), "upstream_status": float64(r.UpstreamStatus), "shared_with": r.SharedWith, "duration": float64(r.Duration) / float64(time.Second),
		"request_size": float64(r.RequestSize), "size": float64(r.Size), "token_id": r.TokenID,
		"requested_scopes": r.RequestedScopes, "granted_scopes": r.GrantedScopes, "expires_at": r.ExpiresAt,
		"allowed_ips": r.AllowedIPs, "clamped": r.Clamped,
		"suppressed": float64(r.Suppressed), "prefixes": float64(r.Prefixes),
	}
	maps.DeleteFunc(want, func(_ string, v any) bool {
		list, isList := v.([]string)
		return reflect.ValueOf(v).Kind() != reflect.Slice && reflect.ValueOf(v).IsZero() || isList && len(list) == 0
	})
	if r.Phase == audit.Ended {
		want["complete"] = r.Complete
	}
	return want
}

func checkText(t *testing.T, key string, in any, got string) {
	t.Helper()
	original, ok := in.(string)
	if !ok {
		t.Errorf("%s = %q, want none", key, got)
		return
	}
	shows := utf8.ValidString(original) && !strings.ContainsFunc(original, func(r rune) bool { return !unicode.IsPrint(r) })
	if shows && len(original) <= 256 && got != original {
		t.Errorf("%s = %q, want %q", key, got, original)
	}
	if len(got) > 256 || len(got) == 0 {
		t.Errorf("%s has %d bytes", key, len(got))
	}
}

func checkList(t *testing.T, key string, in []string, got []any) {
	t.Helper()
	if len(in) > 128 && key == "requested_scopes" {
		if len(got) != 129 {
			t.Errorf("%s has %d items of %d", key, len(got), len(in))
		}
		in, got = in[:128], got[:128]
	}
	if len(in) != len(got) {
		t.Errorf("%s has %d items, want %d", key, len(got), len(in))
		return
	}
	for i := range in {
		text, _ := got[i].(string)
		if in[i] != "" {
			checkText(t, key, in[i], text)
		}
	}
}

// A line must not depend on how a decoder treats a repeated key: there is none.
func TestRecordHasNoKeyTwice(t *testing.T) {
	r := audit.Record{Phase: audit.Ended, Complete: true}
	value := reflect.ValueOf(&r).Elem()
	for _, f := range fields {
		one := f.record
		value.FieldByName(f.name).Set(reflect.ValueOf(one).FieldByName(f.name))
	}
	r.Phase = audit.Ended
	var log file
	if err := open(t, &log, nil).Write(&r); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	d := json.NewDecoder(strings.NewReader(string(log.bytes())))
	for depth, isKey := 0, false; ; {
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch tok := tok.(type) {
		case json.Delim:
			if tok == '{' || tok == '[' {
				depth++
			} else {
				depth--
			}
			isKey = depth == 1
			continue
		case string:
			if isKey && seen[tok] {
				t.Errorf("key %s stands twice", tok)
			}
			if isKey {
				seen[tok] = true
			}
		}
		isKey = depth == 1 && !isKey
	}
	if want := len(fields) + 5; len(seen) != want {
		t.Errorf("%d keys, want %d: %v", len(seen), want, slices.Sorted(maps.Keys(seen)))
	}
}
