package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// The most that each may come to.
const (
	goalRatio  = 1.1 // of a request's cost, in what it costs with the fewest
	goalBytes  = 250 // that memory grows by for each credential
	goalMiB    = 400 // of memory under load
	goalReload = 1.0 // seconds
)

// enough is how many credentials it takes for the memory of one to be told from
// that of the requests.
const enough = 100_000

// goal is something that was measured, and the most that it may be.
type goal struct {
	name      string
	got, most float64
	unit      string
}

// ok is false for what is not a number: what was not measured is not good.
func (g goal) ok() bool { return g.got <= g.most }

// goals compares the last contender with the first.
func goals(list []*contender, r reloaded) []goal {
	few, many := list[0], list[len(list)-1]
	var all []goal
	for i, work := range works {
		all = append(all, goal{work.name + ": processor time, in that with the fewest", ratio(many.costs[i], few.costs[i]), goalRatio, ""})
	}
	if many.size >= enough {
		all = append(all, goal{"memory for each credential that was used", float64(many.used-many.idle) / float64(many.size), goalBytes, " bytes"})
	}
	return append(
		all,
		goal{"memory at its most under load", float64(many.peak) / (1 << 20), goalMiB, " MiB"},
		goal{"reload", median(r.took).Seconds(), goalReload, " s"},
		goal{"requests that failed during reloads", float64(r.failed), 0, ""},
	)
}

// ratio is the median of what was measured in the same rounds.
func ratio(of, in []time.Duration) float64 {
	var list []float64
	for i := range of {
		list = append(list, float64(of[i])/float64(in[i]))
	}
	return median(list)
}

func median[T float64 | time.Duration](list []T) T {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// verdict prints each goal, and reports whether all were met.
func verdict(w io.Writer, all []goal) (ok bool) {
	ok = true
	for _, g := range all {
		word := "ok"
		if !g.ok() {
			word, ok = "short", false
		}
		fmt.Fprintf(w, "scale: %s: %.3g%s, goal %.3g%[3]s %[5]s\n", g.name, g.got, g.unit, g.most, word)
	}
	return ok
}

func table(out io.Writer, list []*contender, r reloaded) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "credentials and tokens\tteams\tready in\tidle\tall keys used\tat most\tfirst use\t")
	for _, work := range works {
		fmt.Fprint(w, work.name, "\t")
	}
	fmt.Fprintln(w)
	for _, c := range list {
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t", c.size, c.teams, c.start.Round(time.Millisecond), mib(c.idle), mib(c.used), mib(c.peak), brief(c.first))
		for _, took := range c.costs {
			fmt.Fprint(w, brief(median(took)), "\t")
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // what it writes to keeps the error
	fmt.Fprintf(out, "%d reloads: median %s, longest %s, %d requests meanwhile, %d of them asked again since Caddy closed their connection unanswered\n",
		len(r.took), median(r.took).Round(time.Millisecond), slices.Max(r.took).Round(time.Millisecond), r.sent, r.again)
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func brief(d time.Duration) string { return fmt.Sprintf("%.0f us", float64(d)/1e3) }
