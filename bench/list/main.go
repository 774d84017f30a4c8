// Command list measures what it costs to find a team's tokens among everyone's.
// GoodAccess lists the tokens of the whole account; the gateway reads that list
// to its end and answers with the caller's own.
//
//	go run ./bench/list [-tokens 100000] [-own 10] [-rounds 7]
//
// A gateway with a store makes the caller's tokens. Then upstream lists them
// among so many others, in each of the three shapes that the gateway knows. For
// each it prints:
//
//	step    the filter by itself, from memory, in this process
//	list    the whole request, as the gateway's process takes it: read from a
//	        connection, searched for the master token, filtered, answered
//	copy    another request of the same gateway, which upstream answers with
//	        the same bytes and the gateway passes on
//	growth  how far the gateway's resident memory ever was, while it answered
//	        one or the other, above the most that it was with short lists
//
// Speeds are of the list's bytes by processor time, user and system together:
// the medians of rounds in which each has its turn.
//
// The exit status is 1 where the step is slower than 300 MB/s in a shape or a
// list takes 2 MB or more, 2 where nothing was measured, and so where an answer
// was not the caller's tokens and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/scopegate/scopegate/bench/rig"
)

const (
	goalSpeed  = 300e6 // bytes of a list in a second of processor time
	goalMemory = 2e6   // bytes
)

func main() {
	var s settings
	flag.IntVar(&s.tokens, "tokens", 100_000, "how many tokens upstream lists")
	flag.IntVar(&s.own, "own", 10, "how many of them are the caller's")
	flag.IntVar(&s.rounds, "rounds", 7, "how often each is measured")
	flag.Parse()
	if s.own < 1 || s.tokens < s.own || s.rounds < 1 {
		fmt.Fprintln(os.Stderr, "list: expected at least one round and one own token, and no fewer tokens than own ones")
		os.Exit(2)
	}
	rig.Main("list", func(ctx context.Context) (bool, error) { return run(ctx, s) })
}

type settings struct{ tokens, own, rounds int }
