// Command scale shows what stored credentials cost by their number. It fills
// SQLite stores with 10, 10 thousand and 1 million of them, runs a gateway on
// each at the same time, and asks all of them in turns, each with up to 10
// thousand keys.
//
//	go run ./bench/scale [-sizes 10,10000,1000000] [-rounds 7] [-requests 6000]
//
// It prints for each: the time from the start of the process until it is
// ready, the processor time of a request with a key seen before (median of the
// rounds, and the median of its ratio to the smallest in the same round) and
// of the first request with a key, and the resident memory.
//
// The exit status is 1 where a request costs more than 1.1 times what it does
// with the fewest, 2 where nothing was measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// goal is the most that a request may cost, in what it costs with the fewest.
const goal = 1.1

func main() {
	list := flag.String("sizes", "10,10000,1000000", "how many credentials, the fewest first")
	rounds := flag.Int("rounds", 7, "how often each is measured")
	requests := flag.Int("requests", 6000, "requests in one measurement")
	flag.Parse()
	var sizes []int
	for word := range strings.SplitSeq(*list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "scale: -sizes: %q is not a number above zero\n", word)
			os.Exit(2)
		}
		sizes = append(sizes, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, sizes, *rounds, *requests)
	if err != nil {
		fmt.Fprintf(os.Stderr, "scale: %v\n", err)
		os.Exit(2) //nolint:gocritic // nothing is left to stop
	}
	if !ok {
		os.Exit(1)
	}
}
