// Command scale shows what numbers cost: of teams, of stored credentials and of
// upstream tokens in the ledger. It fills SQLite stores with 10 and with 1
// million credentials and as many tokens, runs a gateway on each at the same
// time, the larger one with 1,000 teams, and asks both in turns.
//
//	go run ./bench/scale [-sizes 10,1000000] [-teams 1000] [-rounds 7] [-requests 4000]
//
// It prints for each: the time from the start of the process until it is ready;
// the processor time of a permitted read with a key seen before, of a mint, of
// a look at a token of one's own, of a list and of a deletion (the median of the
// rounds), and of the first request with a key; and the resident memory at the
// start, once each key has been used, and at its most.
//
// Then it loads the largest configuration again and again while callers go on,
// and prints how long that took and how many of their requests failed.
//
// The last lines are the goals. A ratio is the median of what a request costs
// in what it costs with the fewest, in the same round. The exit status is 1
// where one falls short, 2 where nothing was measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/scopegate/scopegate/bench/rig"
)

// settings are how much is measured.
type settings struct {
	sizes    []int // of credentials, and of tokens; the fewest first
	teams    int   // at most
	rounds   int
	requests int // reads in one measurement
	mints    int // and deletions
	conns    int // during reloads
	rate     int // requests a second, then
	reloads  int
}

func main() {
	var s settings
	list := flag.String("sizes", "10,1000000", "how many credentials and tokens, the fewest first")
	flag.IntVar(&s.teams, "teams", 1000, "how many teams there are, but no more than credentials")
	flag.IntVar(&s.rounds, "rounds", 7, "how often each is measured")
	flag.IntVar(&s.requests, "requests", 4000, "reads in one measurement")
	flag.IntVar(&s.mints, "mints", 150, "mints in one measurement")
	flag.IntVar(&s.conns, "conns", 32, "how many callers there are while configurations are reloaded")
	flag.IntVar(&s.rate, "rate", 500, "requests a second while configurations are reloaded")
	flag.IntVar(&s.reloads, "reloads", 10, "how often the configuration is reloaded")
	flag.Parse()
	if err := s.read(*list); err != nil {
		fmt.Fprintf(os.Stderr, "scale: %v\n", err)
		os.Exit(2)
	}
	rig.Main("scale", func(ctx context.Context) (bool, error) { return run(ctx, s) })
}

// read reads the sizes and refuses what could not be measured.
func (s *settings) read(sizes string) error {
	for word := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < leastTeams {
			return fmt.Errorf("-sizes: %q is not a number of %d or more", word, leastTeams)
		}
		s.sizes = append(s.sizes, n)
	}
	if s.teams < leastTeams {
		return fmt.Errorf("-teams: expected %d or more", leastTeams)
	}
	if min(s.rounds, s.requests, s.mints, s.conns, s.rate, s.reloads) < 1 {
		return fmt.Errorf("-rounds, -requests, -mints, -conns, -rate and -reloads: expected 1 or more")
	}
	return nil
}
