package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
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
		P50: 2 * time.Millisecond, P99: 9 * time.Millisecond,
	}
}

// The machine that is slow for a round is slow for both: what counts is the
// ratio within it.
func TestJudgeTakesRatiosWithinRounds(t *testing.T) {
	rounds := []round{
		{Bare: measured(1000, 100*time.Microsecond), Gateway: measured(1300, 80*time.Microsecond)},
		{Bare: measured(100, 900*time.Microsecond), Gateway: measured(130, 720*time.Microsecond)},
		{Bare: measured(1000, 100*time.Microsecond), Gateway: measured(700, 140*time.Microsecond)},
	}
	r := judge("as it was", rounds)
	if math.Abs(r.CPURatio-0.8) > 1e-9 || math.Abs(r.RateRatio-1.3) > 1e-9 || !r.OK {
		t.Errorf("got %v, %v, %v", r.CPURatio, r.RateRatio, r.OK)
	}
}

func TestWriteEndsInTheVerdict(t *testing.T) {
	tests := []struct {
		name string
		cost time.Duration // of the gateway; the bare proxy's is 100 us
		want string
	}{
		{"cheaper", 75 * time.Microsecond, "compare: cpu_ratio=0.750 rps_ratio=2.000 goal=1.00 ok"},
		{"as dear", 100 * time.Microsecond, "compare: cpu_ratio=1.000 rps_ratio=2.000 goal=1.00 ok"},
		{"dearer", 120 * time.Microsecond, "compare: cpu_ratio=1.200 rps_ratio=2.000 goal=1.00 short"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := judge("", []round{{Bare: measured(10, 100*time.Microsecond), Gateway: measured(20, tt.cost)}})
			for _, asJSON := range []bool{false, true} {
				var out bytes.Buffer
				if err := r.write(&out, asJSON); err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
				if got := lines[len(lines)-1]; got != tt.want {
					t.Errorf("JSON %v: last line %q, want %q", asJSON, got, tt.want)
				}
				if r.OK != strings.HasSuffix(tt.want, "ok") {
					t.Errorf("OK is %v", r.OK)
				}
			}
		})
	}
}

func TestJudgeRejectsWhatWasNotMeasured(t *testing.T) {
	if r := judge("", []round{{}}); r.OK {
		t.Errorf("a round without requests is ok: %+v", r)
	}
}

func TestTable(t *testing.T) {
	r := judge("Caddy, and so on", []round{
		{Bare: measured(8000, 100*time.Microsecond), Gateway: measured(10000, 75*time.Microsecond)},
	})
	var out bytes.Buffer
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	want := `Caddy, and so on
          median   CPU us/request   requests/s   p50 ms   p99 ms
   reverse_proxy            100.0         8000     2.00     9.00
       scopegate             75.0        10000     2.00     9.00
           ratio             0.75         1.25                  
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONHoldsEveryMeasurement(t *testing.T) {
	r := judge("here", []round{{Bare: measured(10, time.Microsecond), Gateway: measured(20, time.Microsecond)}})
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

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want settings
		fail bool
	}{
		{"defaults", nil, settings{rounds: 5, length: 6 * time.Second, conns: 32}, false},
		{"all", []string{"--rounds", "3", "--seconds=2", "-conns", "1", "--json"}, settings{rounds: 3, length: 2 * time.Second, conns: 1, asJSON: true}, false},
		{"no rounds", []string{"--rounds", "0"}, settings{}, true},
		{"no time", []string{"--seconds", "0"}, settings{}, true},
		{"no connection", []string{"--conns", "-1"}, settings{}, true},
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

// Neither of the two is always the first, and each has all of its time.
func TestTakeTurnsAlternates(t *testing.T) {
	var order []int
	sums, err := takeTurns(2500*time.Millisecond, func(i int, length time.Duration) (sample, error) {
		order = append(order, i)
		return sample{Elapsed: length, CPU: time.Duration(i), Took: []time.Duration{3, 1}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 1, 0, 0, 1}, order); diff != "" {
		t.Error(diff)
	}
	for i, s := range sums {
		want := measurement{Requests: 6, Elapsed: 2500 * time.Millisecond, CPU: time.Duration(3 * i), P50: 1, P99: 3}
		if got := s.measurement(); got != want {
			t.Errorf("%d: got %+v, want %+v", i, got, want)
		}
	}
	broken := errors.New("broken")
	if _, err := takeTurns(time.Second, func(int, time.Duration) (sample, error) { return sample{}, broken }); !errors.Is(err, broken) {
		t.Errorf("a failed turn: %v", err)
	}
}
