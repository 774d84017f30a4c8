package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// reloaded is what was seen while a configuration was loaded again and again.
type reloaded struct {
	took                []time.Duration
	sent, again, failed int64
}

// reload loads the gateway's configuration again and again, as `caddy reload`
// does, while callers ask at a rate.
func (c *contender) reload(ctx context.Context, s settings) (r reloaded, err error) {
	ticks, end := time.NewTicker(time.Second/time.Duration(s.rate)), make(chan struct{})
	defer ticks.Stop()
	var sent, again, failed atomic.Int64
	var all sync.WaitGroup
	for i := range s.conns {
		all.Go(func() {
			for n := i; ; n += s.conns {
				select {
				case <-end:
					return
				case <-ticks.C:
				}
				status, twice, err := c.gateway.GetAgain(ctx, c.keys[n%len(c.keys)], rig.Path)
				sent.Add(1)
				if twice {
					again.Add(1)
				}
				if err != nil || status != http.StatusOK {
					if failed.Add(1) <= 5 {
						progress("while reloading: status %d, %v", status, err)
					}
				}
			}
		})
	}
	for range s.reloads {
		begun := time.Now()
		if err = c.gateway.Reload(ctx); err != nil {
			break
		}
		r.took = append(r.took, time.Since(begun))
	}
	close(end)
	all.Wait()
	r.sent, r.again, r.failed = sent.Load(), again.Load(), failed.Load()
	return r, err
}
