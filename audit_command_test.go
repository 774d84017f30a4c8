package scopegate

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
)

// askLog runs an audit command and returns what it printed to either stream and
// its exit code.
func askLog(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "scopegate", SilenceUsage: true}
	root.AddCommand(Commands()...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{"audit"}, args...))
	err := root.ExecuteContext(t.Context())
	if err != nil {
		code = 1
		_, _ = fmt.Sscanf(err.Error(), "exiting with status %d", &code)
	}
	return out.String(), errs.String(), code
}

// logged is a log as the gateway writes one, a second between records. Each
// change of the record stands for one.
func logged(t *testing.T, records ...audit.Record) string {
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
	var text strings.Builder
	at := loggedFrom
	for line := range strings.Lines(b.String()) {
		_, rest, _ := strings.Cut(line, `","msg"`)
		text.WriteString(`{"ts":"` + at.Format(time.RFC3339Nano) + `","msg"` + rest)
		at = at.Add(time.Second)
	}
	return text.String()
}

var loggedFrom = time.Date(2026, 11, 24, 13, 0, 0, 500_000_000, time.UTC)

func allowed(team, operation, scope string) audit.Record {
	return audit.Record{
		UUID: "u-" + team + "-" + operation, Phase: audit.Decided, Team: team, Credential: "c-" + team, ClientIP: "192.0.2.7",
		Operation: operation, Scope: scope, Decision: audit.Allow, Reason: "allowed",
	}
}

func denied(team, operation, scope, reason string) audit.Record {
	r := allowed(team, operation, scope)
	r.Decision, r.Reason, r.Status = audit.Deny, reason, 403
	return r
}

func endOf(r audit.Record) audit.Record {
	r.Phase, r.Status, r.Complete = audit.Ended, 200, true
	return r
}

// someLog has, in its order, a read of red, its end, a refusal of blue, a
// mint's end, a change, and a summary.
func someLog(t *testing.T) string {
	t.Helper()
	read := allowed("red", "listMembers", "members.read-all")
	read.WouldDeny = "rate_limited"
	mint := endOf(allowed("red", "createToken", "token.create"))
	mint.TokenID = "t1"
	return logged(
		t, read, endOf(read), denied("blue", "listGroups", "groups.read-all", "insufficient_scope"), mint,
		audit.Record{UUID: "u-change", Phase: audit.Decided, Team: "red", Change: "revoke", Operator: "bob", Decision: audit.Allow},
		audit.Record{Phase: audit.Summary, Suppressed: 7},
	)
}

func TestAuditSearch(t *testing.T) {
	log := write(t, "audit.jsonl", someLog(t))
	for _, c := range []struct {
		name string
		args []string
		want string // numbers of lines
	}{
		{"everything", nil, "1 2 3 4 5 6"},
		{"a team", []string{"--team", "red"}, "1 2 4 5"},
		{"one of two", []string{"--team", "blue,none", "--team", "green"}, "3"},
		{"two flags", []string{"--team", "red", "--operation", "createToken"}, "4"},
		{"credential", []string{"--credential", "c-blue"}, "3"},
		{"decision", []string{"--decision", "deny"}, "3"},
		{"reason", []string{"--reason", "insufficient_scope"}, "3"},
		{"would deny", []string{"--would-deny", "rate_limited"}, "1 2"},
		{"phase", []string{"--phase", "ended"}, "2 4"},
		{"token", []string{"--token", "t1"}, "4"},
		{"change", []string{"--change", "revoke"}, "5"},
		{"operator", []string{"--operator", "bob"}, "5"},
		{"id", []string{"--id", "u-red-listMembers"}, "1 2"},
		{"network", []string{"--from", "192.0.2.0/24"}, "1 2 3 4"},
		{"address", []string{"--from", "192.0.2.8", "--from", "192.0.2.7"}, "1 2 3 4"},
		{"gateway", []string{"--gateway", "default", "--team", "blue"}, "3"},
		{"since", []string{"--since", "2026-11-24T13:00:03Z"}, "4 5 6"},
		{"until", []string{"--until", "2026-11-24 13:00:02"}, "1 2"},
		{"a date", []string{"--since", "2026-11-24", "--until", "2026-11-25"}, "1 2 3 4 5 6"},
		{"ago", []string{"--until", "1s", "--since", "36500d"}, "1 2 3 4 5 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs, code := askLog(t, "", append([]string{"search", log, "--json"}, c.args...)...)
			lines := strings.SplitAfter(someLog(t), "\n")
			var got []string
			for line := range strings.Lines(out) {
				for i := range lines {
					if line == lines[i] {
						got = append(got, fmt.Sprint(i+1))
					}
				}
			}
			if strings.Join(got, " ") != c.want || code != 0 || errs != "" {
				t.Errorf("lines %v, want %s; %d %s", got, c.want, code, errs)
			}
		})
	}
}

func TestAuditSearchPrints(t *testing.T) {
	log := write(t, "audit.jsonl", someLog(t))
	table, _, _ := askLog(t, "", "search", log, "--team", "red")
	for _, want := range []string{"TIME ", "2026-11-24 13:00:00.500", "listMembers", "revoke by bob", "u-red-createToken\n", " 200 "} {
		if strings.Count(table, "\n") != 5 || !strings.Contains(table, want) {
			t.Errorf("missing %q in\n%s", want, table)
		}
	}
	sheet, _, _ := askLog(t, "", "search", log, "--phase", "ended", "--csv")
	rows, err := csv.NewReader(strings.NewReader(sheet)).ReadAll()
	if err != nil || len(rows) != 3 || rows[0][0] != "ts" || rows[1][0] != "2026-11-24T13:00:01.5Z" {
		t.Errorf("%v %v", rows, err)
	}
}

// Scripts tell what was found by the exit code, and so whether they may trust
// that nothing was.
func TestAuditSearchTellsByItsExitCode(t *testing.T) {
	log := write(t, "audit.jsonl", someLog(t))
	damaged := write(t, "audit.jsonl", "{torn\n"+strings.Repeat("\x00\x1b[2J\n", 30)+someLog(t))
	cut := write(t, "audit.jsonl", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xff")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing found", []string{log, "--team", "green"}, 3, "6 records were looked at, from 2026-11-24T13:00:00Z to 2026-11-24T13:00:05Z"},
		{"a word misspelt", []string{log, "--reason", "insuficient_scope"}, 3, `did you mean "insufficient_scope"?`},
		{"an empty log", []string{write(t, "audit.jsonl", "")}, 3, "the log holds no records"},
		{"damaged lines", []string{damaged, "--team", "blue"}, 0, damaged + ":1: " + query.ErrNotJSON.Error()},
		{"more of them", []string{damaged, "--team", "blue"}, 0, "and 11 more lines that are no records"},
		{"a file that cannot be read", []string{log, cut, "--team", "blue"}, 1, cut + ":1: unpacking it: "},
		{"no file", []string{log, log + ".none"}, 1, "no such file"},
		{"which log", nil, 2, "which log?"},
		{"bad time", []string{log, "--since", "yesterday"}, 2, "expected a time such as"},
		{"the wrong way round", []string{log, "--since", "1d", "--until", "2d"}, 2, "is not before --until"},
		{"bad network", []string{log, "--from", "10.1.2.3/8"}, 2, "did you mean 10.0.0.0/8?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs, code := askLog(t, "", append([]string{"search"}, c.args...)...)
			if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs, "\x1b") {
				t.Errorf("%d %q, want %d and %q", code, errs, c.code, c.want)
			}
		})
	}
}

// The log is where the configuration says, with what was rolled from it, and
// with the records of commands that worked without the gateway.
func TestAuditSearchFindsTheLogByTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	config := write(t, "Caddyfile", strings.Replace(explained, "\t\tteam red {", "\t\taudit {\n\t\t\toutput file {env.AUDIT_FOLDER}/audit.jsonl\n\t\t}\n\t\tteam red {", 1))
	t.Setenv("AUDIT_FOLDER", dir)
	lines := strings.SplitAfter(someLog(t), "\n")
	for name, text := range map[string]string{
		"audit-2026-11-24T13-00-02.000-size.jsonl": lines[0] + lines[1],
		"audit.jsonl":     lines[2],
		"audit.cli.jsonl": lines[4],
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := lines[0] + lines[1] + lines[2] + lines[4]
	if out, errs, code := askLog(t, "", "search", "--config", config, "--json"); out != want || code != 0 {
		t.Errorf("%d %s\n%s", code, out, errs)
	}
	if _, errs, code := askLog(t, "", "search", "--config", config, "--team", "rde"); code != 3 || !strings.Contains(errs, `No team "rde" is known; did you mean "red"?`) {
		t.Errorf("no such team: %d %s", code, errs)
	}
	if out, _, _ := askLog(t, lines[3], "search", "--config", config, "--json", "-"); out != lines[3] {
		t.Errorf("standard input: %s", out)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := askLog(t, "", "search", "--config", config); code != 1 || !strings.Contains(errs, path) {
		t.Errorf("%d %s", code, errs)
	}
}

func TestAuditStats(t *testing.T) {
	log := write(t, "audit.jsonl", someLog(t)+"torn\n")
	out, errs, code := askLog(t, "", "stats", log, "--json")
	var s stats
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 || !strings.Contains(errs, log+":7: ") {
		t.Fatal(code, out, errs, err)
	}
	if s.Requests.Allowed != 1 || s.Requests.Denied != 1 || s.Changes != 1 || s.Suppressed != 7 || s.Damaged != 1 || len(s.Teams) != 2 {
		t.Errorf("%+v", s)
	}
	out, _, code = askLog(t, "", "stats", log)
	for _, want := range []string{"requests    2: 1 allowed, 1 denied", "TEAM ", "insufficient_scope  1", "rate_limited                1", "allowed", "from 2026-11-24T13:00:00Z"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
	if _, _, code := askLog(t, "", "stats", log, "--team", "green"); code != 3 {
		t.Errorf("exit code %d where there is nothing", code)
	}
}
