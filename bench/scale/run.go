package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// maxKeys is how many different keys ask, at most.
const maxKeys = 10_000

// contender is a gateway on a store of one size.
type contender struct {
	size    int
	keys    []string
	gateway *rig.Gateway
	start   time.Duration
	empty   int64           // memory after the start
	first   time.Duration   // processor time of a request with a new key
	rounds  []time.Duration // of one with a known key
}

func run(ctx context.Context, sizes []int, rounds, requests int) (ok bool, err error) {
	progress("building the gateway")
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()

	var list []*contender
	for _, size := range sizes {
		progress("making %d credentials", size)
		c := &contender{size: size}
		home := filepath.Join(w.Dir, strconv.Itoa(size))
		if err := os.Mkdir(home, 0o700); err != nil {
			return false, err
		}
		if c.keys, err = fill(ctx, filepath.Join(home, "store.db"), size, maxKeys); err != nil {
			return false, err
		}
		started := time.Now()
		if c.gateway, err = w.Gateway(ctx, strconv.Itoa(size), "store sqlite {$DIR}/store.db"); err != nil {
			return false, err
		}
		defer c.gateway.Stop()
		c.start = time.Since(started)
		if c.empty, err = c.gateway.Memory(); err != nil {
			return false, err
		}
		list = append(list, c)
	}
	for _, c := range list {
		progress("asking with each key of %d", c.size)
		if c.first, err = c.ask(ctx, len(c.keys)); err != nil {
			return false, err
		}
	}
	for i := range rounds {
		progress("round %d of %d", i+1, rounds)
		for _, c := range list {
			took, err := c.ask(ctx, requests)
			if err != nil {
				return false, err
			}
			c.rounds = append(c.rounds, took)
		}
	}
	return report(list)
}

// ask makes requests with one key after another, and returns the processor
// time that the gateway took for each.
func (c *contender) ask(ctx context.Context, requests int) (time.Duration, error) {
	before, err := rig.CPUTime(c.gateway.PID)
	if err != nil {
		return 0, err
	}
	const callers = 16
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := i; n < requests && errs[i] == nil; n += callers {
				status, err := c.gateway.Get(ctx, c.keys[n%len(c.keys)], rig.Path)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("answered %d", status)
				}
				errs[i] = err
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	after, err := rig.CPUTime(c.gateway.PID)
	return (after - before) / time.Duration(requests), err
}

func report(list []*contender) (ok bool, err error) {
	ok = true
	fmt.Printf("%12s %10s %14s %14s %8s %14s %14s\n", "credentials", "ready in", "CPU/request", "CPU/new key", "ratio", "memory, idle", "memory, used")
	for _, c := range list {
		var ratios []float64
		for i, took := range c.rounds {
			ratios = append(ratios, float64(took)/float64(list[0].rounds[i]))
		}
		slices.Sort(ratios)
		ratio := ratios[len(ratios)/2]
		ok = ok && ratio <= goal
		used, err := c.gateway.Memory()
		if err != nil {
			return false, err
		}
		slices.Sort(c.rounds)
		fmt.Printf("%12d %10s %14s %14s %8.3f %10.1f MiB %10.1f MiB\n", c.size, c.start.Round(time.Millisecond),
			c.rounds[len(c.rounds)/2].Round(100*time.Nanosecond), c.first.Round(100*time.Nanosecond), ratio,
			float64(c.empty)/(1<<20), float64(used)/(1<<20))
	}
	word := "ok"
	if !ok {
		word = "MISSED"
	}
	fmt.Printf("scale: goal=%.2f %s\n", goal, word)
	return ok, nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
