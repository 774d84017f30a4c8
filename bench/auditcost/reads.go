package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
)

// turn is how long one gateway is asked before the other's turn comes: short,
// so that a machine that others use is the same for both.
const turn = 250 * time.Millisecond

// reads returns the requests a second with the log in a file against those with
// it in /dev/null, over all turns; and prints what each takes of a processor.
func reads(ctx context.Context, length time.Duration, clients int) (ratio float64, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	key := credential.Generate()
	var gateways [2]*rig.Gateway
	for i, output := range []string{"{$DIR}/audit.jsonl {\n roll_uncompressed\n}", "/dev/null"} {
		if gateways[i], err = w.Audited(ctx, fmt.Sprint("gateway", i), "output file "+output, key); err != nil {
			return 0, err
		}
		defer gateways[i].Stop()
	}
	var served, cpu [2]float64
	order := [4]int{0, 1, 1, 0}
	for n, began := 0, time.Now(); time.Since(began) < 2*length || n%len(order) != 0; n++ {
		i := order[n%len(order)]
		before, err := rig.CPUTime(gateways[i].PID)
		if err != nil {
			return 0, err
		}
		rate, err := ask(ctx, gateways[i], key.Reveal(), turn, clients)
		if err != nil {
			return 0, err
		}
		after, err := rig.CPUTime(gateways[i].PID)
		if err != nil {
			return 0, err
		}
		if n < len(order) {
			continue // they warm up
		}
		served[i] += rate * turn.Seconds()
		cpu[i] += (after - before).Seconds()
	}
	fmt.Printf("  reads: %.0f with a file, %.0f without; processor time a request %.1f us and %.1f us (%.3f)\n",
		served[0], served[1], 1e6*cpu[0]/served[0], 1e6*cpu[1]/served[1], (cpu[1]/served[1])/(cpu[0]/served[0]))
	return served[0] / served[1], nil
}

// ask makes requests for a time and returns how many a second.
func ask(ctx context.Context, g *rig.Gateway, key string, length time.Duration, clients int) (float64, error) {
	var n atomic.Int64
	failed := make(chan error, clients)
	began := time.Now()
	var callers sync.WaitGroup
	for range clients {
		callers.Go(func() {
			for time.Since(began) < length {
				if status, err := g.Get(ctx, key, rig.Path); err != nil || status != http.StatusOK {
					failed <- fmt.Errorf("a request answered %d, %w", status, err)
					return
				}
				n.Add(1)
			}
		})
	}
	callers.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(n.Load()) / time.Since(began).Seconds(), nil
	}
}
