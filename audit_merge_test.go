package scopegate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
)

// replica is a log of n records, each a while after the one before.
func replica(name string, n int, from time.Time, step time.Duration) []string {
	var lines []string
	for i := range n {
		at := from.Add(time.Duration(i) * step)
		lines = append(lines, fmt.Sprintf(`{"ts":%q,"msg":"audit","gateway":%q,"uuid":"%s-%d","phase":"decided","team":"red","decision":"allow","reason":"allowed"}`+"\n",
			at.Format(time.RFC3339Nano), name, name, i))
	}
	return lines
}

// byTime puts lines in the order of their times, those of one time as they are.
func byTime(lines []string) []string {
	list := slices.Clone(lines)
	slices.SortStableFunc(list, func(a, b string) int {
		at := func(line string) time.Time {
			t, _ := time.Parse(time.RFC3339Nano, strings.Split(line, `"`)[3])
			return t
		}
		return at(a).Compare(at(b))
	})
	return list
}

// What several replicas have recorded is printed as it happened, and nothing of
// it is lost, whatever is wrong with one of the files.
func TestSearchPutsLogsInOrder(t *testing.T) {
	a, b := replica("a", 9000, loggedFrom, time.Second), replica("b", 4000, loggedFrom.Add(500*time.Millisecond), 3*time.Second)
	c := replica("c", 2, loggedFrom.Add(time.Hour), time.Second)
	paths := []string{
		write(t, "audit.jsonl", strings.Join(a, "")), write(t, "audit.jsonl", strings.Join(b, "")),
		write(t, "audit.jsonl", "torn\n"+strings.Join(c, "")), write(t, "audit.jsonl", ""),
	}
	want := strings.Join(byTime(slices.Concat(a, b, c)), "")
	out, errs, code := askLog(t, "", append([]string{"search", "--json"}, paths...)...)
	if out != want || code != 0 || !strings.HasPrefix(errs, paths[2]+":1: ") {
		t.Errorf("%d %s: %d bytes, want %d in another order", code, errs, len(out), len(want))
	}
	for _, form := range [][]string{nil, {"--csv"}} {
		out, _, code := askLog(t, "", slices.Concat([]string{"search"}, form, paths)...)
		rows := strings.Split(out, "\n")
		if len(rows) != 1+len(a)+len(b)+len(c)+1 || code != 0 || !strings.Contains(rows[1], "a-0") || !strings.Contains(rows[2], "b-0") || !strings.Contains(rows[3], "a-1") {
			t.Errorf("%v: %d, %d rows: %q", form, code, len(rows), rows[:min(len(rows), 5)])
		}
	}
	if out, errs, code := askLog(t, "", append([]string{"search", "--id", "b-7,c-1,a-3", "--json"}, paths...)...); out != a[3]+b[7]+c[1] || code != 0 {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if _, errs, code := askLog(t, "", append([]string{"search", "--team", "green"}, paths...)...); code != 3 || !strings.Contains(errs, "13002 records were looked at") {
		t.Errorf("%d %s", code, errs)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errClosedPipe }

var errClosedPipe = errors.New("broken pipe")

// Whoever reads no more ends a search over several logs, too.
func TestSearchEndsWithItsReader(t *testing.T) {
	text := strings.Join(replica("a", 20000, loggedFrom, time.Second), "")
	var logs [][]logfile.Source
	for _, log := range logfile.Logs(nil, write(t, "audit.jsonl", text), write(t, "audit.jsonl", text)) {
		sources, err := log.Sources()
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, sources)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	p := &printed{match: func(*query.Entry) bool { return true }, out: closedPipe{}}
	if _, err := p.search(cmd, logs); !errors.Is(err, errClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestTailPutsLogsInOrder(t *testing.T) {
	a, b := replica("a", 30, loggedFrom, time.Second), replica("b", 5, loggedFrom.Add(27500*time.Millisecond), time.Second)
	out, errs, code := askLog(t, "", "tail", "-n", "5", "--json",
		write(t, "audit.jsonl", strings.Join(b, "")), write(t, "audit.jsonl", strings.Join(a, "")))
	all := byTime(slices.Concat(b, a))
	if want := strings.Join(all[len(all)-5:], ""); out != want || code != 0 {
		t.Errorf("%d %s%s, want %s", code, out, errs, want)
	}
}

// Of several logs it does not matter which comes first.
func TestReplaySpansLogs(t *testing.T) {
	early, late := loggedFrom, loggedFrom.Add(time.Hour)
	for _, order := range [][]time.Time{{early, late}, {late, early}} {
		p := newReplayed()
		for _, at := range order {
			p.put(changeKey{team: "red"}, &verdictChange{Team: "red", Count: 1, First: at, Last: at})
		}
		if c := p.list()[0]; c.Count != 2 || !c.First.Equal(early) || !c.Last.Equal(late) {
			t.Errorf("%v: %+v", order, c)
		}
	}
}
