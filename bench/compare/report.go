package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// sample is what was seen of one contender while it was under load.
type sample struct {
	Elapsed time.Duration
	CPU     time.Duration   // of the proxy's process, user and system
	Took    []time.Duration // each exchange, in any order
}

func (s *sample) add(more sample) {
	s.Elapsed += more.Elapsed
	s.CPU += more.CPU
	s.Took = append(s.Took, more.Took...)
}

// measurement sums a sample up.
func (s sample) measurement() measurement {
	sorted := slices.Sorted(slices.Values(s.Took))
	return measurement{
		Requests: len(sorted), Elapsed: s.Elapsed, CPU: s.CPU,
		P50: quantile(sorted, 0.50), P99: quantile(sorted, 0.99),
	}
}

// measurement is what one contender did in one round.
type measurement struct {
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	CPU      time.Duration `json:"cpu_ns"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
}

// cost is the processor time of one request, in nanoseconds.
func (m measurement) cost() float64 { return float64(m.CPU) / float64(m.Requests) }

// rate is the requests of one second.
func (m measurement) rate() float64 { return float64(m.Requests) / m.Elapsed.Seconds() }

// round is one turn of every contender.
type round struct {
	Bare    measurement `json:"bare"`
	Gateway measurement `json:"gateway"`
}

// String is the round in a line.
func (r round) String() string {
	return fmt.Sprintf("CPU %.1f / %.1f us, %.0f / %.0f requests/s",
		r.Gateway.cost()/1e3, r.Bare.cost()/1e3, r.Gateway.rate(), r.Bare.rate())
}

// result is what a run found out. Its ratios are the gateway's figure in the
// bare proxy's: below 1 is good for the processor, above 1 for the rate.
type result struct {
	Conditions string  `json:"conditions"`
	Rounds     []round `json:"rounds"`
	CPURatio   float64 `json:"cpu_ratio"`
	RateRatio  float64 `json:"rps_ratio"`
	Goal       float64 `json:"goal"`
	OK         bool    `json:"ok"`
}

// judge makes a result of the rounds. The ratio is taken within each round
// first: what slows the machine for a minute then slows both of its halves.
func judge(conditions string, rounds []round) result {
	r := result{Conditions: conditions, Rounds: rounds, Goal: goal}
	r.CPURatio = medianOf(rounds, func(r round) float64 { return r.Gateway.cost() / r.Bare.cost() })
	r.RateRatio = medianOf(rounds, func(r round) float64 { return r.Gateway.rate() / r.Bare.rate() })
	r.OK = r.CPURatio <= r.Goal // false for NaN: what was not measured is not good
	return r
}

// write prints the table or all of it as JSON, and in any case the last line.
func (r result) write(w io.Writer, asJSON bool) error {
	show := r.table
	if asJSON {
		show = r.json
	}
	if err := show(w); err != nil {
		return err
	}
	verdict := "short"
	if r.OK {
		verdict = "ok"
	}
	_, err := fmt.Fprintf(w, "compare: cpu_ratio=%.3f rps_ratio=%.3f goal=%.2f %s\n", r.CPURatio, r.RateRatio, r.Goal, verdict)
	return err
}

func (r result) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r result) table(w io.Writer) error {
	fmt.Fprintln(w, r.Conditions)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "median\tCPU us/request\trequests/s\tp50 ms\tp99 ms\t")
	for _, c := range []struct {
		name string
		of   func(round) measurement
	}{
		{"reverse_proxy", func(r round) measurement { return r.Bare }},
		{"scopegate", func(r round) measurement { return r.Gateway }},
	} {
		fmt.Fprintf(t, "%s\t%.1f\t%.0f\t%.2f\t%.2f\t\n", c.name,
			medianOf(r.Rounds, func(r round) float64 { return c.of(r).cost() / 1e3 }),
			medianOf(r.Rounds, func(r round) float64 { return c.of(r).rate() }),
			medianOf(r.Rounds, func(r round) float64 { return float64(c.of(r).P50) / 1e6 }),
			medianOf(r.Rounds, func(r round) float64 { return float64(c.of(r).P99) / 1e6 }))
	}
	fmt.Fprintf(t, "ratio\t%.2f\t%.2f\t\t\t\n", r.CPURatio, r.RateRatio)
	return t.Flush()
}

// medianOf is the median of one figure over the rounds.
func medianOf(rounds []round, figure func(round) float64) float64 {
	list := make([]float64, len(rounds))
	for i, r := range rounds {
		list[i] = figure(r)
	}
	return median(list)
}

// median sorts the list. Of an even number of values it is the mean of the two
// in the middle; of none, 0.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// quantile is the value of a sorted list which the share q of it does not
// exceed (the nearest rank); of an empty list, 0.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
