package query_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// written is a log as the gateway writes one.
func written(t *testing.T, records ...audit.Record) string {
	t.Helper()
	var b bytes.Buffer
	log, err := audit.New(audit.Options{Gateway: "default", Durable: audit.NewSink(&b)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := log.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func sources(t *testing.T, text string) []logfile.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := logfile.Sources(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What the gateway writes is what is found, whatever stands in it.
func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	r := audit.Record{
		UUID: "u1", Phase: audit.Ended, Team: "red", Credential: "4fQ9", ClientIP: "192.0.2.7", Change: "extend",
		Operator: `a "b" \ č 😀`, Generation: 2, Note: "line\u2028end", Operation: "createToken", Scope: "token.create",
		Decision: audit.Allow, Reason: "allowed", Status: 200, UpstreamStatus: 201, Duration: time.Second, RequestSize: 3, Size: 4,
		TokenID: "t1", RequestedScopes: []string{"a", `b"`}, GrantedScopes: []string{"a"}, ExpiresAt: "2026-12-01 13:21:50",
		AllowedIPs: []string{"203.0.113.10"}, Clamped: []string{"x"}, Complete: true, Suppressed: 5, Prefixes: 6,
	}
	var e query.Entry
	text := strings.TrimSuffix(written(t, r), "\n")
	if ok, err := e.Parse(logfile.Line{Text: []byte(text)}); !ok || err != nil {
		t.Fatal(text, err)
	}
	for f, want := range map[query.Field]string{
		query.Gateway: "default", query.UUID: "u1", query.Phase: "ended", query.Team: "red", query.Credential: "4fQ9",
		query.ClientIP: "192.0.2.7", query.Change: "extend", query.Operator: r.Operator, query.Note: "line\ufffdend",
		query.Operation: "createToken", query.Scope: "token.create", query.Decision: "allow", query.Reason: "allowed",
		query.TokenID: "t1", query.ExpiresAt: "2026-12-01 13:21:50",
	} {
		if got := e.Text(f); got != want || !e.Is(f, want) || e.Is(f, want+"x") {
			t.Errorf("field %d is %q, want %q", f, got, want)
		}
	}
	for f, want := range map[query.Field]int64{query.Status: 200, query.UpstreamStatus: 201, query.Generation: 2, query.Suppressed: 5} {
		if got := e.Number(f); got != want {
			t.Errorf("field %d is %d, want %d", f, got, want)
		}
	}
	for f, want := range map[query.Field][]string{
		query.RequestedScopes: r.RequestedScopes, query.GrantedScopes: r.GrantedScopes, query.AllowedIPs: r.AllowedIPs, query.Clamped: r.Clamped,
	} {
		if diff := cmp.Diff(want, e.List(f)); diff != "" {
			t.Errorf("field %d (-want +got):\n%s", f, diff)
		}
	}
	if time.Since(e.Time()).Abs() > time.Hour {
		t.Errorf("time %v", e.Time())
	}
}

func TestFilter(t *testing.T) {
	line := `{"ts":"2026-11-24T13:21:50.5Z","msg":"audit","phase":"decided","team":"red","client_ip":"::ffff:192.0.2.7","operation":"listMembers"}`
	var e query.Entry
	if ok, err := e.Parse(logfile.Line{Text: []byte(line)}); !ok || err != nil {
		t.Fatal(err)
	}
	at := e.Time()
	networks := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	texts := func(f query.Field, list ...string) map[query.Field][]string { return map[query.Field][]string{f: list} }
	for name, c := range map[string]struct {
		f    query.Filter
		want bool
	}{
		"nothing":              {query.Filter{}, true},
		"a text":               {query.Filter{Texts: texts(query.Team, "red")}, true},
		"one of two":           {query.Filter{Texts: texts(query.Team, "blue", "red")}, true},
		"another":              {query.Filter{Texts: texts(query.Team, "re")}, false},
		"absent":               {query.Filter{Texts: texts(query.Reason, "allowed")}, false},
		"of two fields":        {query.Filter{Texts: map[query.Field][]string{query.Team: {"red"}, query.Operation: {"x"}}}, false},
		"since that moment":    {query.Filter{Since: at}, true},
		"since later":          {query.Filter{Since: at.Add(1)}, false},
		"until that moment":    {query.Filter{Until: at}, false},
		"until later":          {query.Filter{Until: at.Add(1)}, true},
		"from the network":     {query.Filter{From: networks("198.51.100.0/24", "192.0.2.0/24")}, true},
		"from another network": {query.Filter{From: networks("198.51.100.0/24")}, false},
	} {
		if got := c.f.Match(&e); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Damage is told with its exact place, counted, and ends nothing.
func TestScanTellsOfDamage(t *testing.T) {
	record := written(t, audit.Record{Phase: audit.Decided, Team: "red"})
	own := `{"ts":"2026-11-24T13:21:50.5Z","msg":"audit","kind":"segment"}` + "\n"
	text := record + "torn {\n" + own + strings.Repeat("\x00\n", 30) + record + `{"msg":"of another log"}` + "\n" + record[:20]
	for range 2000 {
		text = record + text // more than one block
	}
	var told []string
	n := 0
	totals, err := query.Scan(t.Context(), sources(t, text), func() *int { return new(int) },
		func(n *int, _ *query.Entry) { *n++ }, func(part *int) error { n += *part; return nil },
		logfile.Options{Fault: func(f *logfile.ReadError) { told = append(told, fmt.Sprintf("%d %v", f.Line, f.Err)) }})
	if err != nil {
		t.Fatal(err)
	}
	if n != 2002 || totals.Records != 2002 || totals.Damaged != 33 || totals.Lines != 2036 || totals.Unread != 0 {
		t.Errorf("%d records, %+v", n, totals)
	}
	if totals.First.IsZero() || totals.First.After(totals.Last) || time.Since(totals.Last) > time.Hour {
		t.Errorf("from %v to %v", totals.First, totals.Last)
	}
	if want := "2002 " + query.ErrNotJSON.Error(); len(told) != 20 || told[0] != want || !strings.HasPrefix(told[1], "2004 ") {
		t.Errorf("told %d times: %q", len(told), told)
	}
}

func TestStats(t *testing.T) {
	text := written(t,
		audit.Record{Phase: audit.Decided, Team: "red", Credential: "c1", Operation: "listMembers", Decision: audit.Allow, Reason: "allowed", WouldDeny: "rate_limited", ClientIP: "192.0.2.1"},
		audit.Record{Phase: audit.Ended, Team: "red", Credential: "c1", Operation: "listMembers", Decision: audit.Allow, Reason: "upstream_timeout"},
		audit.Record{Phase: audit.Decided, Team: "red", Credential: "c2", Operation: "listGroups", Decision: audit.Deny, Reason: "insufficient_scope"},
		audit.Record{Phase: audit.Decided, Team: "blue", Credential: "c3", Operation: "listMembers", Decision: audit.Allow, Reason: "allowed"},
		audit.Record{Phase: audit.Decided, Decision: audit.Deny, Reason: "missing_credential"},
		audit.Record{Phase: audit.Decided, Change: "revoke", Team: "red", Decision: audit.Allow},
		audit.Record{Phase: audit.Ended, Change: "revoke", Team: "red", Decision: audit.Allow},
		audit.Record{Phase: audit.Decided, Operator: "scopegate", Team: "red", Operation: "revokeToken", Decision: audit.Allow},
		audit.Record{Phase: audit.Ended, Operator: "scopegate", Team: "red", Operation: "revokeToken", Decision: audit.Allow, Reason: "allowed"},
		audit.Record{Phase: audit.Summary, Suppressed: 7},
	)
	stats := query.NewStats()
	_, err := query.Scan(t.Context(), sources(t, text), query.NewStats, (*query.Stats).Add,
		func(part *query.Stats) error { stats.Merge(part); return nil }, logfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Requests.Allowed != 2 || stats.Requests.Denied != 2 || stats.Changes != 2 || stats.Suppressed != 7 || stats.Records != 10 {
		t.Errorf("%+v", stats)
	}
	for name, c := range map[string]struct{ got, want []query.Count }{
		"teams":       {stats.Teams.Top(0), []query.Count{{Name: "red", Allowed: 1, Denied: 1}, {Name: "-", Denied: 1}, {Name: "blue", Allowed: 1}}},
		"operations":  {stats.Operations.Top(1), []query.Count{{Name: "listMembers", Allowed: 2}}},
		"credentials": {stats.Credentials.Top(0), []query.Count{{Name: "c1", Allowed: 1}, {Name: "c2", Denied: 1}, {Name: "c3", Allowed: 1}}},
		"refused":     {stats.Refused.Top(0), []query.Count{{Name: "insufficient_scope", Denied: 1}, {Name: "missing_credential", Denied: 1}}},
		"would deny":  {stats.WouldDeny.Top(0), []query.Count{{Name: "rate_limited", Allowed: 1}}},
		"ended":       {stats.Ended.Top(0), []query.Count{{Name: "upstream_timeout", Allowed: 1}}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A made-up log must not take the memory of the machine.
func TestStatsAreBounded(t *testing.T) {
	var text strings.Builder
	line := strings.TrimSuffix(written(t, audit.Record{Phase: audit.Decided, Team: "TEAM", Decision: audit.Deny}), "\n")
	for n := range 30_000 {
		text.WriteString(strings.Replace(line, "TEAM", fmt.Sprint(n), 1) + "\n")
	}
	stats := query.NewStats()
	_, err := query.Scan(t.Context(), sources(t, text.String()), query.NewStats, (*query.Stats).Add,
		func(part *query.Stats) error { stats.Merge(part); return nil }, logfile.Options{})
	if top := stats.Teams.Top(1); err != nil || len(stats.Teams) > 10_001 || top[0].Name != query.Others || stats.Requests.Denied != 30_000 {
		t.Errorf("%d names, %v at the top: %v", len(stats.Teams), top, err)
	}
}

// What is shown of a record can neither lead a terminal astray nor be a formula
// of a spreadsheet.
func TestRowsAreHarmless(t *testing.T) {
	line := `{"ts":"2026-11-24T13:21:50.5Z","msg":"audit","phase":"decided","team":"a` + "\u202e" + `\u001b[2J","note":"=HYPERLINK(1)","operator":"@x","change":"revoke","clamped":["-1"]}`
	var e query.Entry
	if ok, err := e.Parse(logfile.Line{Text: []byte(line)}); !ok || err != nil {
		t.Fatal(err)
	}
	var table, sheet bytes.Buffer
	query.TableRow(&table, &e)
	w := csv.NewWriter(&sheet)
	if err := query.CSVHead(w); err != nil {
		t.Fatal(err)
	}
	if err := query.CSVRow(w, &e); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	for _, text := range []string{table.String(), sheet.String(), string(query.Safe([]byte(line)))} {
		if strings.ContainsAny(text, "\u202e\x1b") {
			t.Errorf("%q", text)
		}
	}
	rows, err := csv.NewReader(&sheet).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	got := map[string]string{}
	for i, name := range rows[0] {
		got[name] = rows[1][i]
	}
	if got["note"] != "'=HYPERLINK(1)" || got["operator"] != "'@x" || got["clamped"] != "'-1" || got["change"] != "revoke" {
		t.Errorf("%v", got)
	}
	if !json.Valid(query.Safe([]byte(line))) {
		t.Errorf("%s", query.Safe([]byte(line)))
	}
}
