package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		name string
		list []float64
		want float64
	}{
		{"none", nil, 0},
		{"one", []float64{3}, 3},
		{"odd, out of order", []float64{9, 1, 4}, 4},
		{"even", []float64{4, 1, 3, 2}, 2.5},
		{"an outlier", []float64{1, 1, 1, 1, 1000}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.list); got != tt.want {
				t.Errorf("median %v, want %v", got, tt.want)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	tests := []struct {
		name   string
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{"of none", nil, 0.99, 0},
		{"of one", []time.Duration{7}, 0.99, 7},
		{"half of two", []time.Duration{1, 2}, 0.50, 1},
		{"p50", hundred, 0.50, 50},
		{"p99", hundred, 0.99, 99},
		{"the least", hundred, 0, 1},
		{"the most", hundred, 1, 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := quantile(tt.sorted, tt.q); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// measured is a measurement of a second with this cost of a request.
func measured(requests int, cost time.Duration) measurement {
	return measurement{
		Requests: requests, Elapsed: time.Second, CPU: time.Duration(requests) * cost,
		P50: 2 * time.Millisecond, P99: 9 * time.Millisecond, Memory: 50 << 20, Opened: 2,
	}
}

// outcomes are those of a run in which the gateway's CPU and memory were these
// times the yardstick's, in the rounds.
func outcomes(cpu float64) []outcome {
	us := func(n float64) time.Duration { return time.Duration(n * float64(time.Microsecond)) }
	get := outcome{Name: "get", Title: "A permitted GET", Load: "32 connections", Entries: []string{bare.name, keyedLog.name, scopegate.name}}
	for _, slow := range []float64{1, 9, 1} { // the machine
		get.Rounds = append(get.Rounds, round{
			measured(1000, us(100*slow)), measured(500, us(200*slow)), measured(1400, us(100*slow*cpu)),
		})
	}
	lists := func(name string, memory int64) outcome {
		m := measured(10, us(1000))
		m.Memory = memory
		return outcome{
			Name: name, Title: "A list", Entries: []string{scopegate.name + ", passed on", scopegate.name + ", filtered"},
			Rounds: []round{{measured(10, us(1000)), m}, {measured(10, us(1000)), m}, {measured(10, us(1000)), m}},
		}
	}
	return []outcome{get, lists("list-10", 50<<20), lists("list-100k", 51<<20)}
}

// The machine that is slow for a round is slow for all: what counts is the ratio
// within it.
func TestRatioIsTakenWithinRounds(t *testing.T) {
	o := outcomes(0.8)[0]
	if cpu, rate := o.ratio(2, measurement.cost), o.ratio(2, measurement.rate); math.Abs(cpu-0.8) > 1e-9 || math.Abs(rate-1.4) > 1e-9 {
		t.Errorf("got %v, %v", cpu, rate)
	}
}

func TestWriteEndsInTheVerdict(t *testing.T) {
	tests := []struct {
		name string
		cpu  float64
		want string
		ok   bool
	}{
		{"cheaper", 0.70, "compare: cpu_ratio=0.700 rps_ratio=1.400 goals=5/5 ok", true},
		{"as dear as may be", 0.75, "compare: cpu_ratio=0.750 rps_ratio=1.400 goals=5/5 ok", true},
		{"dearer", 0.90, "compare: cpu_ratio=0.900 rps_ratio=1.400 goals=4/5 short", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := outcomes(tt.cpu)
			r := result{Outcomes: all, Goals: judge(all)}
			for _, asJSON := range []bool{false, true} {
				var out bytes.Buffer
				if err := r.write(&out, asJSON); err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
				if got := lines[len(lines)-1]; got != tt.want {
					t.Errorf("JSON %v: last line %q, want %q", asJSON, got, tt.want)
				}
			}
			if r.ok() != tt.ok {
				t.Errorf("ok is %v", r.ok())
			}
		})
	}
}

func TestJudgeRejectsWhatWasNotMeasured(t *testing.T) {
	all := outcomes(0.5)
	all[0].Rounds = []round{{{}, {}, {}}}
	for _, v := range judge(all[:1]) {
		if v.OK {
			t.Errorf("a round without requests is ok: %+v", v)
		}
	}
}

// A goal whose scenario or contender was renamed would never be missed.
func TestGoalsAreMeasured(t *testing.T) {
	names := map[string][]string{}
	for _, s := range scenarios() {
		for _, e := range s.entries {
			names[s.name] = append(names[s.name], e.name())
		}
	}
	for _, g := range goals {
		if g.than == "" {
			g.than = g.scenario
		}
		if !slices.Contains(names[g.scenario], g.entry) || !slices.Contains(names[g.than], g.against) {
			t.Errorf("%q compares what is not measured", g.what)
		}
	}
	if n := len(judge(outcomes(1)[:1])); n != 3 {
		t.Errorf("with one scenario there are %d goals, want its 3", n)
	}
}

func TestTables(t *testing.T) {
	all := outcomes(0.75)[:1]
	var out bytes.Buffer
	if err := (result{Conditions: "Caddy, and so on", Outcomes: all, Goals: judge(all)}).tables(&out); err != nil {
		t.Fatal(err)
	}
	want := `Caddy, and so on

get: A permitted GET, 32 connections
                   CPU us  CPU ratio  requests/s  ratio  p50 ms  p99 ms  memory MiB  opened
    reverse_proxy   100.0       1.00        1000   1.00    2.00    9.00          50    20.0
  Caddy, keys+log   200.0       2.00         500   0.50    2.00    9.00          50    40.0
        scopegate    75.0       0.75        1400   1.40    2.00    9.00          50    14.3

permitted GET: CPU, of bare reverse_proxy                     0.75  <= 0.75  ok
permitted GET: requests/s, of bare reverse_proxy              1.40  >= 1.30  ok
permitted GET: CPU, of a Caddyfile with 1,000 keys and a log  0.38  <= 0.50  ok
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONHoldsEveryMeasurement(t *testing.T) {
	all := outcomes(0.75)
	r := result{Conditions: "here", Outcomes: all, Goals: judge(all)}
	var out bytes.Buffer
	if err := r.json(&out); err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
}

func TestMarkdownReplacesItsOwnPart(t *testing.T) {
	all := outcomes(0.75)[:1]
	r := result{Conditions: "Caddy, and so on", Outcomes: all, Goals: judge(all)}
	path := filepath.Join(t.TempDir(), "page.md")
	if err := r.writeMarkdown(path); err != nil { // a new one
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `<!-- compare -->
Caddy, and so on.

| goal | ratio | limit | |
|---|---:|---:|---|
| permitted GET: CPU, of bare reverse_proxy | 0.75 | <= 0.75 | ok |
| permitted GET: requests/s, of bare reverse_proxy | 1.40 | >= 1.30 | ok |
| permitted GET: CPU, of a Caddyfile with 1,000 keys and a log | 0.38 | <= 0.50 | ok |

**A permitted GET** (` + "`get`" + `, 32 connections)

| | CPU us | CPU ratio | requests/s | ratio | p50 ms | p99 ms | memory MiB | opened |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| reverse_proxy | 100.0 | 1.00 | 1000 | 1.00 | 2.00 | 9.00 | 50 | 20.0 |
| Caddy, keys+log | 200.0 | 2.00 | 500 | 0.50 | 2.00 | 9.00 | 50 | 40.0 |
| scopegate | 75.0 | 0.75 | 1400 | 1.40 | 2.00 | 9.00 | 50 | 14.3 |
<!-- /compare -->
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	around := "before\n" + begin + "old\n" + finish + "after\n"
	if got, err := embed([]byte(around), "new\n"); err != nil || string(got) != "before\n"+begin+"new\n"+finish+"after\n" {
		t.Errorf("got %q, %v", got, err)
	}
	// A page that is not made for it must not be lost.
	for _, text := range []string{"my diary\n", begin + "no end\n", "no begin\n" + finish} {
		if got, err := embed([]byte(text), "new\n"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestChart(t *testing.T) {
	all := outcomes(0.75)
	path := filepath.Join(t.TempDir(), "chart.svg")
	if err := (result{Outcomes: all}).writeChart(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var svg struct {
		XMLName xml.Name `xml:"http://www.w3.org/2000/svg svg"`
		Text    []string `xml:"text"`
		Rect    []struct {
			Width string `xml:"width,attr"`
		} `xml:"rect"`
	}
	if err := xml.Unmarshal(text, &svg); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	want := []string{
		"A permitted GET: processor time of a request", "reverse_proxy = 1.00, less is better; 32 connections",
		"scopegate", "0.75", "reverse_proxy", "1.00", "Caddy, keys+log", "2.00",
	}
	if diff := cmp.Diff(want, svg.Text); diff != "" {
		t.Error(diff)
	}
	var widths []string
	for _, r := range svg.Rect {
		widths = append(widths, r.Width)
	}
	if diff := cmp.Diff([]string{"100%", "172", "230", "460"}, widths); diff != "" {
		t.Error(diff)
	}
	if err := (result{}).writeChart(path); err == nil {
		t.Error("a chart of nothing has no error")
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want settings
		fail bool
	}{
		{"defaults", nil, settings{rounds: 5, length: 2 * time.Second, conns: 32, rate: 1000}, false},
		{"all", []string{"--rounds", "3", "--seconds=4", "-conns", "1", "--rate=9", "--only", "get,mint", "--json", "--markdown", "a.md", "--chart", "a.svg"}, settings{
			rounds: 3, length: 4 * time.Second, conns: 1, rate: 9, only: "get,mint", asJSON: true, markdown: "a.md", chart: "a.svg",
		}, false},
		{"no rounds", []string{"--rounds", "0"}, settings{}, true},
		{"no time", []string{"--seconds", "0"}, settings{}, true},
		{"no connection", []string{"--conns", "-1"}, settings{}, true},
		{"no rate", []string{"--rate", "0"}, settings{}, true},
		{"no such scenario", []string{"--only", "get,put"}, settings{}, true},
		{"a stray word", []string{"5"}, settings{}, true},
		{"an unknown option", []string{"--fast"}, settings{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var said bytes.Buffer
			got, err := parse(tt.args, &said)
			if tt.fail {
				if err == nil || !strings.Contains(said.String(), "-rounds") {
					t.Errorf("error %v, said %q", err, &said)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := parse([]string{"--help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// None is always the first, and each has all of its time.
func TestTakeTurnsAlternates(t *testing.T) {
	var order []int
	sums, err := takeTurns(t.Context(), 3, turnLength*5/2, func(i int, length time.Duration) (sample, error) {
		order = append(order, i)
		return sample{Elapsed: length, CPU: time.Duration(i), Took: []time.Duration{3, 1}, Memory: int64(len(order)), Opened: 1}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 2, 1, 0, 0, 1, 2}, order); diff != "" {
		t.Error(diff)
	}
	for i, s := range sums {
		want := measurement{Requests: 6, Elapsed: turnLength * 5 / 2, CPU: time.Duration(3 * i), P50: 1, P99: 3, Memory: int64(7 + i), Opened: 3}
		if got := s.measurement(); got != want {
			t.Errorf("%d: got %+v, want %+v", i, got, want)
		}
	}
	broken := errors.New("broken")
	if _, err := takeTurns(t.Context(), 1, time.Second, func(int, time.Duration) (sample, error) { return sample{}, broken }); !errors.Is(err, broken) {
		t.Errorf("a failed turn: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := takeTurns(ctx, 1, time.Second, func(int, time.Duration) (sample, error) { return sample{}, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestPresentNamesWhatIsNotInstalled(t *testing.T) {
	entries := every(permitted, bare, contender{name: "sh", program: "sh"}, contender{name: "ghost", program: "no-such-program-anywhere"})
	list, absent := present(entries)
	if len(list) != 2 || list[1].name() != "sh" || len(absent) != 1 || absent[0] != "ghost" {
		t.Errorf("%d left, without %v", len(list), absent)
	}
}

func TestCheckOwnRejectsOtherLists(t *testing.T) {
	w := &world{own: []string{"b", "a"}}
	for list, good := range map[string]bool{
		`[{"id":"a"},{"id":"b"}]`: true, `[{"id":"a"}]`: false, `[{"id":"a"},{"id":"b"},{"id":"c"}]`: false, `[{"id":"a"},{"id":"a"}]`: false, `{}`: false, ``: false,
	} {
		if err := w.checkOwn([]byte(list)); (err == nil) != good {
			t.Errorf("%s: %v", list, err)
		}
	}
}
