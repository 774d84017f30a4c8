package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// measure runs every measurement against a fleet of two, and reports whether
// the goals were met.
func (w *world) measure(ctx context.Context, mode, option string, goal time.Duration, revocations, rate int) (bool, error) {
	one, two, err := w.gateways(ctx, mode, option)
	if err != nil {
		return false, err
	}
	defer one.Stop()
	defer two.Stop()

	if err := shared(ctx, one, two, mode); err != nil {
		return false, err
	}
	say("%s: a key made through one gateway works on both", mode)

	lags, err := lags(ctx, one, two, mode, revocations)
	if err != nil {
		return false, err
	}
	slices.Sort(lags)
	p50, p99 := lags[len(lags)/2], lags[len(lags)*99/100]
	ok := p99 < goal
	say("%s: revocation lag over %d, from before the call to the first refusal on the other gateway: p50=%s p99=%s max=%s goal p99<%s %s",
		mode, len(lags), round(p50), round(p99), round(lags[len(lags)-1]), goal, verdict(ok))

	after, during, err := waited(ctx, one, two, mode)
	if err != nil {
		return false, err
	}
	say("%s: revoke and wait under load, 20 times: %d requests were answered 200 before, %d began after it returned and were answered 200: %s",
		mode, during, after, verdict(after == 0))
	ok = ok && after == 0

	sent, bad, again, err := rotations(ctx, one, two, mode, rate)
	if err != nil {
		return false, err
	}
	say("%s: 20 rotations and 20 reloads at %d requests/s: %d requests, %d of them asked again since Caddy closed their connection unanswered, %d failed: %s",
		mode, rate, sent, again, bad, verdict(bad == 0))
	return ok && bad == 0, nil
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSED"
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// shared makes a credential through one gateway and uses it on both.
func shared(ctx context.Context, one, two *rig.Gateway, mode string) error {
	c, err := create(ctx, one, mode+"-shared")
	if err != nil {
		return err
	}
	return errors.Join(expect(ctx, one, c.Key, http.StatusOK), expect(ctx, two, c.Key, http.StatusOK))
}

// lags revokes credentials through one gateway, one after another, while the
// other is asked with each without pause, and returns how long it went on to
// answer 200 after the revocation was asked for.
func lags(ctx context.Context, one, two *rig.Gateway, mode string, n int) ([]time.Duration, error) {
	var list []time.Duration
	for i := range n {
		c, err := create(ctx, one, fmt.Sprintf("%s-lag-%d", mode, i))
		if err != nil {
			return nil, err
		}
		if err := expect(ctx, two, c.Key, http.StatusOK); err != nil {
			return nil, err
		}
		revoked := make(chan error, 1)
		begin := time.Now()
		go func() { revoked <- one.Call(ctx, http.MethodPost, "default/credentials/"+c.ID+"/revoke", nil, nil) }()
		for {
			status, err := two.Get(ctx, c.Key, rig.Path)
			if err != nil {
				return nil, err
			}
			if status == http.StatusUnauthorized {
				break
			}
		}
		list = append(list, time.Since(begin))
		if err := <-revoked; err != nil {
			return nil, err
		}
		if err := expect(ctx, one, c.Key, http.StatusUnauthorized); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// waited revokes credentials that are in use on both gateways, waits for every
// replica, and counts the requests that began after that and succeeded, and
// those that succeeded before.
func waited(ctx context.Context, one, two *rig.Gateway, mode string) (after, during int64, err error) {
	for i := range 20 {
		c, err := create(ctx, one, fmt.Sprintf("%s-wait-%d", mode, i))
		if err != nil {
			return 0, 0, err
		}
		var returned atomic.Bool
		var good, late atomic.Int64
		var callers sync.WaitGroup
		end := make(chan struct{})
		for j := range 8 {
			g := []*rig.Gateway{one, two}[j%2]
			callers.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
					}
					began := returned.Load()
					status, err := g.Get(ctx, c.Key, rig.Path)
					switch {
					case err != nil || status != http.StatusOK:
					case began:
						late.Add(1)
					default:
						good.Add(1)
					}
				}
			})
		}
		for good.Load() < 50 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		var revoked made
		err = one.Call(ctx, http.MethodPost, "default/credentials/"+c.ID+"/revoke", nil, &revoked)
		if err == nil {
			err = wait(ctx, one, revoked.Revision)
		}
		returned.Store(true)
		time.Sleep(50 * time.Millisecond)
		close(end)
		callers.Wait()
		if err != nil {
			return 0, 0, err
		}
		after, during = after+late.Load(), during+good.Load()
	}
	return after, during, nil
}

// rotations sends requests at a rate to both gateways while keys are rotated
// and configurations reloaded. Callers take the new key as soon as every replica
// knows it, as `scopegate key rotate` prints it; the old one has its overlap.
func rotations(ctx context.Context, one, two *rig.Gateway, mode string, rate int) (sent, bad, again int64, err error) {
	c, err := create(ctx, one, mode+"-rotated")
	if err != nil {
		return 0, 0, 0, err
	}
	var key atomic.Pointer[string]
	key.Store(&c.Key)
	var all, failed, repeated atomic.Int64
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		var requests sync.WaitGroup
		defer requests.Wait()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			g := []*rig.Gateway{one, two}[i%2]
			requests.Go(func() {
				all.Add(1)
				status, twice, err := g.GetAgain(ctx, *key.Load(), rig.Path)
				if twice {
					repeated.Add(1)
				}
				if err != nil || status != http.StatusOK {
					if failed.Add(1) <= 5 {
						say("failed: %d %v", status, err)
					}
				}
			})
		}
	})
	for i := range 20 {
		var next made
		if err = one.Call(ctx, http.MethodPost, "default/credentials/"+c.ID+"/rotate", map[string]string{"overlap": "2s"}, &next); err != nil {
			break
		}
		if err = wait(ctx, one, next.Revision); err != nil {
			break
		}
		key.Store(&next.Key)
		if err = []*rig.Gateway{one, two}[i%2].Reload(ctx); err != nil {
			break
		}
		// A rotation is refused while two keys are in use: the overlap ends.
		select {
		case <-time.After(2*time.Second + 100*time.Millisecond):
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			break
		}
	}
	close(end)
	running.Wait()
	return all.Load(), failed.Load(), repeated.Load(), err
}

// wait returns once every replica has seen a revision.
func wait(ctx context.Context, g *rig.Gateway, revision int64) error {
	return g.Call(ctx, http.MethodPost, "default/wait", map[string]int64{"revision": revision}, nil)
}
