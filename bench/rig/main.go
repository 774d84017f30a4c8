package rig

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a bench until it is done or interrupted, and ends the process as
// each bench does: with 1 where something is not as it must be, with 2 where
// nothing could be measured.
func Main(name string, bench func(context.Context) (good bool, err error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	good, err := bench(ctx)
	stop()
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	case !good:
		os.Exit(1)
	}
}
