// Command auditcost measures what the audit log costs.
//
//	go run ./bench/auditcost [-rounds 7] [-for 2s] [-clients 64]
//
// Reads: two gateways with `durability changes` before one simulated API, the
// one with its log in a file, the other with it going to /dev/null, are asked in
// turns. The first is to keep 0.95 of the second's requests a second.
//
// Mints: the log of a gateway takes the records of mints from so many clients at
// once, who wait until each is on the disk; once together, as it does, and once
// with one fdatasync for each, one behind another. The first is to take five
// times as many a second, on the same disk. This is the log by itself: on a
// machine with a fast disk and few processors a gateway has other limits.
//
// The exit status is 1 where a goal is missed, 2 where nothing could be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

const (
	readsGoal = 0.95
	mintsGoal = 5.0
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds, of which the median counts")
	length := flag.Duration("for", 2*time.Second, "length of a turn")
	clients := flag.Int("clients", 64, "clients at once")
	flag.Parse()
	rig.Main("auditcost", func(ctx context.Context) (bool, error) { return run(ctx, *rounds, *length, *clients) })
}

func run(ctx context.Context, rounds int, length time.Duration, clients int) (bool, error) {
	reads, err := reads(ctx, 10*length, clients)
	if err != nil {
		return false, err
	}
	fmt.Printf("auditcost: reads with the log in a file / in /dev/null: %.3f (goal: at least %.2f)\n", reads, readsGoal)
	mints, err := mints(ctx, rounds, length, clients)
	if err != nil {
		return false, err
	}
	fmt.Printf("auditcost: mints together / one fdatasync each: %.1f (goal: at least %.0f)\n", mints, mintsGoal)
	return reads >= readsGoal && mints >= mintsGoal, nil
}

// turns measures two things in turns, forth and back, and returns the median of
// the ratios of the first to the second.
func turns(ctx context.Context, what string, rounds int, measure [2]func() (float64, error)) (float64, error) {
	var ratios []float64
	for i := range rounds + 1 {
		var got [2]float64
		order := [2]int{i % 2, 1 - i%2}
		for _, which := range order {
			n, err := measure[which]()
			if err != nil {
				return 0, err
			}
			got[which] = n
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if i == 0 {
			continue // the first one warms up
		}
		fmt.Printf("  %s: %8.0f/s  %8.0f/s  %.3f\n", what, got[0], got[1], got[0]/got[1])
		ratios = append(ratios, got[0]/got[1])
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], nil
}
