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

func reads(ctx context.Context, rounds int, length time.Duration, clients int) (ratio float64, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	key := credential.Generate()
	var measure [2]func() (float64, error)
	for i, output := range []string{"{$DIR}/audit.jsonl {\n roll_uncompressed\n}", "/dev/null"} {
		g, err := w.Audited(ctx, fmt.Sprint("gateway", i), "output file "+output, key)
		if err != nil {
			return 0, err
		}
		defer g.Stop()
		measure[i] = func() (float64, error) { return ask(ctx, g, key.Reveal(), length, clients) }
	}
	return turns(ctx, "reads", rounds, measure)
}

// ask makes requests for a time and returns how many a second.
func ask(ctx context.Context, g *rig.Gateway, key string, length time.Duration, clients int) (float64, error) {
	var n atomic.Int64
	failed := make(chan error, clients)
	end := time.Now().Add(length)
	var callers sync.WaitGroup
	for range clients {
		callers.Go(func() {
			for time.Now().Before(end) {
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
		return float64(n.Load()) / length.Seconds(), nil
	}
}
