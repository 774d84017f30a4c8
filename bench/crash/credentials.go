package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

type result struct {
	killed     int
	answered   int // keys that were answered
	unanswered int // credentials whose answer the kill cut off
	lost       int // keys that were answered and do not work
	half       int // credentials without a key, or listed and not to be shown
}

type made struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

func credentials(ctx context.Context, times int) (r result, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	g, err := w.Gateway(ctx, "gateway", "store sqlite {$DIR}/store.db")
	if err != nil {
		return r, err
	}
	defer func() { g.Stop() }()

	known := map[string]string{} // id to key
	for r.killed < times {
		round := createUntilKilled(ctx, g, r.killed)
		r.killed++
		if err := g.Restart(ctx); err != nil {
			return r, fmt.Errorf("starting again after kill %d: %w", r.killed, err)
		}
		for _, c := range round {
			known[c.ID] = c.Key
			if status, err := g.Get(ctx, c.Key, rig.Path); err != nil || status != http.StatusOK {
				r.lost++
				fmt.Printf("lost after kill %d: %s answers %d %v\n", r.killed, c.ID, status, err)
			}
		}
		fmt.Fprintf(os.Stderr, "\rkilled %d of %d, %d keys answered ", r.killed, times, len(known))
	}
	fmt.Fprintln(os.Stderr)
	r.answered = len(known)
	return r, inspect(ctx, g, known, &r)
}

// createUntilKilled makes credentials on several connections, kills the gateway
// at a random moment of that, and returns those that were answered.
func createUntilKilled(ctx context.Context, g *rig.Gateway, round int) []made {
	var mu sync.Mutex
	var list []made
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for n := 0; ; n++ {
				var c made
				name := fmt.Sprintf("r%d-%d-%d", round, i, n)
				if g.Call(ctx, http.MethodPost, "default/credentials", map[string]string{"team": "billing", "name": name}, &c) != nil {
					return // killed
				}
				mu.Lock()
				list = append(list, c)
				mu.Unlock()
			}
		})
	}
	select {
	case <-time.After(time.Duration(20+rand.IntN(200)) * time.Millisecond): //nolint:gosec // any moment will do
	case <-ctx.Done():
	}
	g.Kill()
	callers.Wait()
	return list
}

// inspect reads the whole list and each credential of it.
func inspect(ctx context.Context, g *rig.Gateway, known map[string]string, r *result) error {
	listed := map[string]bool{}
	for after := ""; ; {
		var page struct {
			Credentials []struct {
				ID          string     `json:"id"`
				State       string     `json:"state"`
				Generations []struct{} `json:"generations"`
			} `json:"credentials"`
			Next string `json:"next"`
		}
		if err := g.Call(ctx, http.MethodGet, "default/credentials?limit=500&after="+after, nil, &page); err != nil {
			return err
		}
		for _, c := range page.Credentials {
			listed[c.ID] = true
			if known[c.ID] == "" {
				r.unanswered++
			}
			if len(c.Generations) != 1 || c.State != "active" {
				r.half++
				fmt.Printf("half done: %s is %s with %d keys\n", c.ID, c.State, len(c.Generations))
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	for id, key := range known {
		status, err := g.Get(ctx, key, rig.Path)
		if err != nil || status != http.StatusOK || !listed[id] {
			r.lost++
			fmt.Printf("lost in the end: %s, listed %v, answers %d %v\n", id, listed[id], status, err)
		}
	}
	return nil
}
