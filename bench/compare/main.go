// Command compare measures what the gateway costs beside the proxy that it is
// built on. One binary, ./cmd/scopegate, runs twice: once with a Caddyfile that
// has a gateway and everything on (a key, limits, the audit log in a file,
// metrics), once with one that has Caddy's reverse_proxy and nothing else. Both
// stand before the same upstream and get the same requests, in turns, so that
// whatever else the machine does meets both.
//
// What counts is the processor time that a proxy's process takes for a request,
// user and system together. Absolute figures are worth little on a machine that
// others share; the ratio of two contenders in one round is worth more, and the
// median of such ratios is the result.
//
//	go run ./bench/compare [--rounds 5] [--seconds 6] [--conns 32] [--json]
//
// The last line is `compare: cpu_ratio=… rps_ratio=… goal=… ok|short`, and the
// exit status is 1 where the goal was missed, 2 where nothing was measured.
//
// It decides nothing about the gateway and tests nothing of it beyond this: in
// each exchange that counts, the upstream's answer came through byte for byte,
// and the gateway's audit log holds both records of every one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// goal is the most processor time that the gateway may take for a request, in
// that of the bare proxy.
const goal = 1.00

// settings is what a run can be told.
type settings struct {
	rounds int
	length time.Duration // of one measurement
	conns  int
	asJSON bool
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "compare: %v\n", err)
		os.Exit(2) //nolint:gocritic // nothing is left to stop
	}
	if err := r.write(os.Stdout, s.asJSON); err != nil {
		fmt.Fprintf(os.Stderr, "compare: %v\n", err)
		os.Exit(2)
	}
	if !r.OK {
		os.Exit(1)
	}
}

// roles are what this program is to itself: the load generator and the upstream
// are processes of their own, so that the time they take is nobody else's.
var roles = map[string]func(in io.Reader, out io.Writer) error{
	loadRole:     generate,
	upstreamRole: serveUpstream,
}

// parse reads the command line and says on out what is wrong with it.
func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&s.rounds, "rounds", 5, "how often each contender is measured")
	seconds := f.Int("seconds", 6, "how long one measurement takes, in seconds")
	f.IntVar(&s.conns, "conns", 32, "how many connections are kept busy")
	f.BoolVar(&s.asJSON, "json", false, "print every measurement as JSON instead of the table")
	if err := f.Parse(args); err != nil {
		return settings{}, err
	}
	s.length = time.Duration(*seconds) * time.Second
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.rounds < 1, *seconds < 1, s.conns < 1:
		err = errors.New("--rounds, --seconds and --conns must be 1 or more")
	}
	if err != nil {
		fmt.Fprintln(out, err)
		f.Usage()
	}
	return s, err
}

// say tells of progress, which is not part of the result.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
