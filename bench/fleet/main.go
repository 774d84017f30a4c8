// Command fleet shows what a fleet of two gateways on one PostgreSQL does, with
// a private cluster of its own, two processes of the real binary and a
// simulated API:
//
//   - a key that one gateway made works on the other;
//   - how long a revocation takes to arrive at the other one, over many of
//     them: as its own histogram counts, and as a caller sees it;
//   - after `wait` has returned, under load, no request with the revoked key
//     succeeds on either;
//   - no request fails while keys are rotated and configurations reloaded.
//
// It does that with notifications, and then with the listener cut off.
//
//	go run ./bench/fleet [--revocations 200] [--rate 500]
//
// The exit status is 1 where a goal was missed, 2 where nothing was measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// The most that a revocation may take to arrive, at the 99th percentile.
const (
	goalNotified = 50 * time.Millisecond
	goalPolled   = 1500 * time.Millisecond
)

func main() {
	revocations := flag.Int("revocations", 200, "how many credentials to revoke in each mode")
	rate := flag.Int("rate", 500, "requests a second while keys are rotated and configurations reloaded")
	flag.Parse()
	rig.Main("fleet", func(ctx context.Context) (bool, error) { return run(ctx, *revocations, *rate) })
}

func run(ctx context.Context, revocations, rate int) (good bool, err error) {
	w, err := newWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	good = true
	for _, mode := range []struct {
		name, option string
		goal         time.Duration
	}{
		{"notified", "", goalNotified},
		{"polled", " poll", goalPolled},
	} {
		ok, err := w.measure(ctx, mode.name, mode.option, mode.goal, revocations, rate)
		if err != nil {
			return false, fmt.Errorf("%s: %w", mode.name, err)
		}
		good = good && ok
	}
	return good, nil
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
