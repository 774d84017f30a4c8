package query

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Safe returns a line of JSON that says the same and shows what is in it: what
// moves a terminal's cursor or turns a text round is escaped. A record has no
// such thing; a file that somebody else wrote may.
func Safe(line []byte) []byte {
	harmless := true
	for _, b := range line {
		harmless = harmless && b >= ' ' && b <= '~'
	}
	if harmless {
		return line
	}
	var safe []byte
	for _, r := range string(line) {
		switch {
		case r == '\t' || r == '\r': // white space between members
			safe = append(safe, ' ')
		case unicode.IsPrint(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			r -= 0x10000
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	return safe
}

// Shown returns a text as it may go to a terminal.
func Shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// row is the layout of a table, whose rows are written as they are found: the
// columns cannot wait for the longest text.
const row = "%-23.23s  %-9s %-16s %-12s %-15s %-24s %-8s %-22s %-3s  %s\n"

// TableHead writes the head of a table of records.
func TableHead(w io.Writer) {
	fmt.Fprintf(w, row, "TIME (UTC)", "PHASE", "TEAM", "CREDENTIAL", "FROM", "OPERATION", "DECISION", "REASON", "ST.", "DECISION ID")
}

// TableRow writes a record for people.
func TableRow(w io.Writer, e *Entry) {
	cell := func(f Field) string {
		if !e.Has(f) {
			return "-"
		}
		return Shown(e.Text(f))
	}
	operation := cell(Operation)
	if e.Has(Change) {
		operation = cell(Change) + " by " + cell(Operator)
	}
	status := "-"
	if n := e.Number(Status); n != 0 {
		status = strconv.FormatInt(n, 10)
	}
	reason := cell(Reason)
	if e.Has(WouldDeny) {
		reason += " (" + cell(WouldDeny) + ")"
	}
	ts := Shown(e.Text(TS))
	if t := e.Time(); !t.IsZero() {
		ts = t.Format("2006-01-02 15:04:05.000")
	}
	fmt.Fprintf(w, row, ts, cell(Phase), cell(Team), cell(Credential), cell(ClientIP), operation, cell(Decision), reason, status, cell(UUID))
}

// columns of CSV.
var columns = []struct {
	name  string
	field Field
}{
	{"ts", TS},
	{"gateway", Gateway},
	{"uuid", UUID},
	{"phase", Phase},
	{"team", Team},
	{"credential", Credential},
	{"client_ip", ClientIP},
	{"change", Change},
	{"operator", Operator},
	{"note", Note},
	{"operation", Operation},
	{"scope", Scope},
	{"decision", Decision},
	{"reason", Reason},
	{"would_deny", WouldDeny},
	{"status", Status},
	{"upstream_status", UpstreamStatus},
	{"shared_with", SharedWith},
	{"token_id", TokenID},
	{"requested_scopes", RequestedScopes},
	{"granted_scopes", GrantedScopes},
	{"expires_at", ExpiresAt},
	{"allowed_ips", AllowedIPs},
	{"clamped", Clamped},
}

// CSVHead writes the names of the columns.
func CSVHead(w *csv.Writer) error {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	return w.Write(names)
}

// CSVRow writes a record. A text that a spreadsheet would take for a formula
// gets an apostrophe before it: notes and names of operators are anybody's.
func CSVRow(w *csv.Writer, e *Entry) error {
	var cells []string
	for _, c := range columns {
		var text string
		switch {
		case c.field < texts:
			text = Shown(e.Text(c.field))
		case c.field < numbers:
			text = string(e.raw[c.field])
		default:
			text = Shown(strings.Join(e.List(c.field), " "))
		}
		if text != "" && strings.ContainsRune("=+-@", rune(text[0])) {
			text = "'" + text
		}
		cells = append(cells, text)
	}
	return w.Write(cells)
}
