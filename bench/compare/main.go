// Command compare measures what the gateway costs beside other ways to put a
// proxy before an API: the proxy that it is built on, that proxy as its users
// configure it today, what a programmer would write, and two that are written in
// C. All stand before the same upstream and get the same requests, in turns, so
// that whatever else the machine does meets all of them.
//
//	go run ./bench/compare [--rounds 5] [--seconds 2] [--conns 32] [--rate 1000]
//	    [--only get,list-100k,...] [--json] [--markdown FILE] [--chart FILE]
//
// The contenders:
//
//	reverse_proxy      Caddy's, with its defaults: the yardstick
//	reverse_proxy+log  the same with an access log in a file, and metrics
//	Caddy, 1,000 keys  the same with the check of keys that a Caddyfile can do
//	Caddy, keys+log    with both, and the team in the log
//	net/http           httputil.ReverseProxy, and a map of 1,000 keys
//	nginx, HAProxy     with a map of 1,000 keys, where they are installed
//	scopegate          1,000 keys, limits, a store, the audit log in a file, metrics
//
// The scenarios, each of which is measured with the contenders that can do it:
//
//	get           a permitted GET, on --conns connections that are kept busy
//	get-1         the same on one
//	get-rate      the same at --rate requests a second
//	denied-key    a key that nobody knows
//	denied-scope  a known key that may not do what it asks for
//	mint          a new upstream token
//	list-10, list-10k, list-100k
//	              the caller's 5 tokens among so many, beside lists of the same
//	              bytes that are passed on
//	http2         a permitted GET over HTTP/2 and TLS on both sides
//
// What counts is the processor time that a proxy's processes take for a request,
// user and system together. Absolute figures are worth little on a machine that
// others share; the ratio of two contenders in one round is worth more, and the
// median of such ratios is the result.
//
// At a fixed rate a request that has to wait, since the one before it has no
// answer yet, is counted from when it was due: a proxy that stops for a while
// cannot hide how many it kept waiting (coordinated omission).
//
// It prints each goal with ok or short. The last line is `compare: cpu_ratio=…
// rps_ratio=… goals=…/… ok|short`, and the exit status is 1 where a goal was
// missed, 2 where nothing was measured. --markdown writes the tables into the
// file, between the lines `<!-- compare -->` and `<!-- /compare -->` if it has
// these; --chart draws the processor time of a permitted GET.
//
// It decides nothing about the gateway and tests nothing of it beyond this: each
// answer that counts is the one that is wanted, byte for byte where it is always
// the same, and the gateway's audit log holds both records of every GET.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// settings is what a run can be told.
type settings struct {
	rounds   int
	length   time.Duration // of one measurement
	conns    int
	rate     int
	only     string // scenarios, divided by commas; all if empty
	asJSON   bool
	markdown string // files, none if empty
	chart    string
}

func main() {
	if len(os.Args) == 2 {
		if role, ok := roles[os.Args[1]]; ok {
			if err := role(os.Stdin, os.Stdout); err != nil {
				fmt.Fprintf(os.Stderr, "compare %s: %v\n", os.Args[1], err)
				os.Exit(2)
			}
			return
		}
	}
	s, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2) // parse has said why
	}
	rig.Main("compare", func(ctx context.Context) (bool, error) { return compare(ctx, s) })
}

// compare runs and reports, and says whether the goals were met.
func compare(ctx context.Context, s settings) (ok bool, err error) {
	r, err := run(ctx, s)
	if err != nil {
		return false, err
	}
	if s.markdown != "" {
		if err := r.writeMarkdown(s.markdown); err != nil {
			return false, err
		}
	}
	if s.chart != "" {
		if err := r.writeChart(s.chart); err != nil {
			return false, err
		}
	}
	return r.ok(), r.write(os.Stdout, s.asJSON)
}

// roles are what this program is to itself: the load generator, the upstream and
// the proxy in plain Go are processes of their own, so that the time they take
// is nobody else's.
var roles = map[string]func(in io.Reader, out io.Writer) error{
	loadRole:     generate,
	upstreamRole: serveUpstream,
	plainRole:    servePlain,
}

// parse reads the command line and says on out what is wrong with it.
func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&s.rounds, "rounds", 5, "how often each contender is measured")
	seconds := f.Int("seconds", 2, "how long one measurement takes, in seconds")
	f.IntVar(&s.conns, "conns", 32, "how many connections are kept busy")
	f.IntVar(&s.rate, "rate", 1000, "requests a second, of the scenario with a fixed rate")
	f.StringVar(&s.only, "only", "", "scenarios to measure, divided by commas: "+strings.Join(scenarioNames(), ", "))
	f.BoolVar(&s.asJSON, "json", false, "print every measurement as JSON instead of the tables")
	f.StringVar(&s.markdown, "markdown", "", "`file` to write the tables into")
	f.StringVar(&s.chart, "chart", "", "`file` to draw the chart into, as SVG")
	if err := f.Parse(args); err != nil {
		return settings{}, err
	}
	s.length = time.Duration(*seconds) * time.Second
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.rounds < 1, *seconds < 1, s.conns < 1, s.rate < 1:
		err = errors.New("--rounds, --seconds, --conns and --rate must be 1 or more")
	case s.only != "":
		for name := range strings.SplitSeq(s.only, ",") {
			if !slices.Contains(scenarioNames(), name) {
				err = fmt.Errorf("--only: no scenario %q", name)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(out, err)
		f.Usage()
	}
	return s, err
}

// wants says whether a scenario is to be measured.
func (s settings) wants(scenario string) bool {
	return s.only == "" || slices.Contains(strings.Split(s.only, ","), scenario)
}

// say tells of progress, which is not part of the result.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
