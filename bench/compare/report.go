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
	CPU     time.Duration   // of the proxy's processes, user and system
	Took    []time.Duration // each exchange, in any order
	Memory  int64           // the most that was resident, bytes
	Opened  int             // connections to the upstream
}

func (s *sample) add(more sample) {
	s.Elapsed += more.Elapsed
	s.CPU += more.CPU
	s.Took = append(s.Took, more.Took...)
	s.Memory = max(s.Memory, more.Memory)
	s.Opened += more.Opened
}

// measurement sums a sample up.
func (s sample) measurement() measurement {
	sorted := slices.Sorted(slices.Values(s.Took))
	return measurement{
		Requests: len(sorted), Elapsed: s.Elapsed, CPU: s.CPU, Memory: s.Memory, Opened: s.Opened,
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
	Memory   int64         `json:"memory_bytes"`
	Opened   int           `json:"upstream_connections"`
}

// cost is the processor time of one request, in nanoseconds.
func (m measurement) cost() float64 { return float64(m.CPU) / float64(m.Requests) }

// rate is the requests of one second.
func (m measurement) rate() float64 { return float64(m.Requests) / m.Elapsed.Seconds() }

func (m measurement) p50() float64    { return float64(m.P50) }
func (m measurement) p99() float64    { return float64(m.P99) }
func (m measurement) memory() float64 { return float64(m.Memory) }

// opened is the connections that were opened for 10,000 requests.
func (m measurement) opened() float64 { return 1e4 * float64(m.Opened) / float64(m.Requests) }

// round is one turn of every entry of a scenario.
type round []measurement

// outcome is what was found out in one scenario.
type outcome struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Load    string   `json:"load"`
	Entries []string `json:"entries"` // the first is the yardstick
	Rounds  []round  `json:"rounds"`
}

// median is that of one entry's figure.
func (o outcome) median(entry int, figure func(measurement) float64) float64 {
	var list []float64
	for _, r := range o.Rounds {
		list = append(list, figure(r[entry]))
	}
	return median(list)
}

// ratio is an entry's figure in the yardstick's.
func (o outcome) ratio(entry int, figure func(measurement) float64) float64 {
	return ratio(o, entry, o, 0, figure)
}

// ratio is the median of what one entry's figure is in another's of the same
// round: what slows the machine for a minute then slows both.
func ratio(o outcome, entry int, p outcome, against int, figure func(measurement) float64) float64 {
	var list []float64
	for i := range o.Rounds {
		list = append(list, figure(o.Rounds[i][entry])/figure(p.Rounds[i][against]))
	}
	return median(list)
}

// result is what a run found out.
type result struct {
	Conditions string    `json:"conditions"`
	Outcomes   []outcome `json:"scenarios"`
	Goals      []verdict `json:"goals"`
}

// goal is a ratio that has a limit.
type goal struct {
	what     string
	figure   func(measurement) float64
	scenario string
	entry    string
	than     string // another scenario whose entry it is compared with, "" for the same
	against  string
	limit    float64
	least    bool // the ratio is to be no less than the limit; else no more
}

var goals = []goal{
	{what: "permitted GET: CPU, of bare reverse_proxy", figure: measurement.cost, scenario: "get", entry: scopegate.name, against: bare.name, limit: 0.75},
	{what: "permitted GET: requests/s, of bare reverse_proxy", figure: measurement.rate, scenario: "get", entry: scopegate.name, against: bare.name, limit: 1.3, least: true},
	{what: "permitted GET: CPU, of a Caddyfile with 1,000 keys and a log", figure: measurement.cost, scenario: "get", entry: scopegate.name, against: keyedLog.name, limit: 0.5},
	{what: "permitted GET, 1 connection: p99, of bare reverse_proxy", figure: measurement.p99, scenario: "get-1", entry: scopegate.name, against: bare.name, limit: 1},
	{what: "unknown key: CPU, of a permitted GET of bare reverse_proxy", figure: measurement.cost, scenario: "denied-key", entry: scopegate.name, against: bare.name + ", permitted", limit: 0.4},
	{what: "lacking scope: CPU, of a permitted GET of bare reverse_proxy", figure: measurement.cost, scenario: "denied-scope", entry: scopegate.name, against: bare.name + ", permitted", limit: 0.4},
	{what: "filtered list of 100,000: CPU, of the same list passed on", figure: measurement.cost, scenario: "list-100k", entry: scopegate.name + ", filtered", against: scopegate.name + ", passed on", limit: 4},
	{what: "filtered list of 100,000: memory, of a list of 10", figure: measurement.memory, scenario: "list-100k", entry: scopegate.name + ", filtered", than: "list-10", against: scopegate.name + ", filtered", limit: 1.1},
}

// verdict is what became of a goal.
type verdict struct {
	What  string  `json:"what"`
	Ratio float64 `json:"ratio"`
	Least bool    `json:"at_least"`
	Limit float64 `json:"limit"`
	OK    bool    `json:"ok"`
}

// judge holds the goals against what was measured, and leaves out those of
// scenarios that were not.
func judge(outcomes []outcome) (list []verdict) {
	find := func(scenario, entry string) (outcome, int) {
		for _, o := range outcomes {
			if i := slices.Index(o.Entries, entry); o.Name == scenario && i >= 0 {
				return o, i
			}
		}
		return outcome{}, -1
	}
	for _, g := range goals {
		than := g.than
		if than == "" {
			than = g.scenario
		}
		o, entry := find(g.scenario, g.entry)
		p, against := find(than, g.against)
		if entry < 0 || against < 0 {
			continue
		}
		v := verdict{What: g.what, Ratio: ratio(o, entry, p, against, g.figure), Least: g.least, Limit: g.limit}
		v.OK = v.Ratio <= v.Limit // false for NaN: what was not measured is not good
		if g.least {
			v.OK = v.Ratio >= v.Limit
		}
		list = append(list, v)
	}
	return list
}

func (v verdict) word() string {
	if v.OK {
		return "ok"
	}
	return "short"
}

func (v verdict) bound() string {
	if v.Least {
		return fmt.Sprintf(">= %.2f", v.Limit)
	}
	return fmt.Sprintf("<= %.2f", v.Limit)
}

// met is how many goals were.
func (r result) met() (n int) {
	for _, v := range r.Goals {
		if v.OK {
			n++
		}
	}
	return n
}

func (r result) ok() bool { return r.met() == len(r.Goals) }

// write prints the tables or all of it as JSON, and in any case the last line.
func (r result) write(w io.Writer, asJSON bool) error {
	show := r.tables
	if asJSON {
		show = r.json
	}
	if err := show(w); err != nil {
		return err
	}
	fmt.Fprint(w, "compare:")
	for _, o := range r.Outcomes {
		if i := slices.Index(o.Entries, scopegate.name); o.Name == "get" && i >= 0 {
			fmt.Fprintf(w, " cpu_ratio=%.3f rps_ratio=%.3f", o.ratio(i, measurement.cost), o.ratio(i, measurement.rate))
		}
	}
	_, err := fmt.Fprintf(w, " goals=%d/%d %s\n", r.met(), len(r.Goals), verdict{OK: r.ok()}.word())
	return err
}

func (r result) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// columns are those of every table.
var columns = []string{"CPU us", "CPU ratio", "requests/s", "ratio", "p50 ms", "p99 ms", "memory MiB", "opened"}

// cells are an entry's, in the order of the columns.
func (o outcome) cells(entry int) []string {
	return []string{
		fmt.Sprintf("%.1f", o.median(entry, measurement.cost)/1e3),
		fmt.Sprintf("%.2f", o.ratio(entry, measurement.cost)),
		fmt.Sprintf("%.0f", o.median(entry, measurement.rate)),
		fmt.Sprintf("%.2f", o.ratio(entry, measurement.rate)),
		fmt.Sprintf("%.2f", o.median(entry, measurement.p50)/1e6),
		fmt.Sprintf("%.2f", o.median(entry, measurement.p99)/1e6),
		fmt.Sprintf("%.0f", o.median(entry, measurement.memory)/(1<<20)),
		fmt.Sprintf("%.1f", o.median(entry, measurement.opened)),
	}
}

func (r result) tables(w io.Writer) error {
	fmt.Fprintln(w, r.Conditions)
	for _, o := range r.Outcomes {
		fmt.Fprintf(w, "\n%s: %s, %s\n", o.Name, o.Title, o.Load)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		row(t, "", columns)
		for i, name := range o.Entries {
			row(t, name, o.cells(i))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.Goals {
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%s\n", v.What, v.Ratio, v.bound(), v.word())
	}
	return t.Flush()
}

func row(w io.Writer, name string, cells []string) {
	fmt.Fprint(w, name, "\t")
	for _, cell := range cells {
		fmt.Fprint(w, cell, "\t")
	}
	fmt.Fprintln(w)
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
