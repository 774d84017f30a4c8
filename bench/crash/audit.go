package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
)

type auditResult struct {
	killed     int
	seen       int // changes that arrived upstream
	unrecorded int // of them, those without a record
	lost       int // exchanges that a start closed
	open       int // exchanges that nothing closed
	sound      bool
}

// audited kills a gateway while it changes and reads, and looks whether its
// audit log knew of each change before it arrived upstream.
func audited(ctx context.Context, times int) (r auditResult, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	key := credential.Generate()
	g, err := w.Audited(ctx, "gateway", "output file {$DIR}/audit.jsonl {\n roll_size 1MiB\n}\nanchor file {$DIR}/anchors\ncheckpoint 100 1s", key)
	if err != nil {
		return r, err
	}
	defer func() { g.Stop() }()

	var seen []int64
	size := new(atomic.Int64)
	size.Store(64)
	for r.killed < times {
		changeUntilKilled(ctx, g, key, size)
		r.killed++
		seen = append(seen, w.Changes()...)
		if err := g.Restart(ctx); err != nil {
			return r, fmt.Errorf("starting again after kill %d: %w", r.killed, err)
		}
		fmt.Fprintf(os.Stderr, "\rkilled %d of %d, %d changes arrived ", r.killed, times, len(seen))
		if size.Load() > 900_000 { // bodies have a bound
			size.Store(64)
		}
	}
	fmt.Fprintln(os.Stderr)
	g.Stop()
	log := filepath.Join(g.Dir, "audit.jsonl")
	recorded, err := g.Recorded(ctx, log)
	if err != nil {
		return r, err
	}
	r.seen, r.lost, r.open = len(seen), recorded.Lost, recorded.Open
	for _, size := range seen {
		if !recorded.Decided[size] {
			r.unrecorded++
			fmt.Printf("unrecorded: the change of %d bytes\n", size)
		}
	}
	said, err := g.Run(ctx, "audit", "verify", log, "--anchors", filepath.Join(g.Dir, "anchors"))
	fmt.Print(said)
	r.sound = err == nil
	return r, nil
}

// changeUntilKilled changes and reads on several connections, and kills the
// gateway at a random moment of that.
func changeUntilKilled(ctx context.Context, g *rig.Gateway, key credential.Key, size *atomic.Int64) {
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for {
				var status int
				var err error
				if i%4 == 0 {
					status, err = g.Get(ctx, key.Reveal(), rig.Path)
				} else {
					status, err = g.Change(ctx, key.Reveal(), int(size.Add(1)))
				}
				if err != nil || status >= http.StatusInternalServerError {
					return // killed
				}
			}
		})
	}
	select {
	case <-time.After(time.Duration(10+rand.IntN(150)) * time.Millisecond): //nolint:gosec // any moment will do
	case <-ctx.Done():
	}
	g.Kill()
	callers.Wait()
}
