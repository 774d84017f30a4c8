// Command crash kills a gateway with SIGKILL while it works, again and again,
// and looks at what is left.
//
//	go run ./bench/crash -what credentials [-times 50]
//
// credentials: while four callers of the admin API make credentials without
// pause. After each kill the gateway is started again, and every key that was
// answered, in this round or one before, must work; every credential that the
// store lists must be whole.
//
// The exit status is 1 where something was lost or half done, 2 where nothing
// could be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	what := flag.String("what", "credentials", "what the gateway does when it is killed: credentials")
	times := flag.Int("times", 50, "how often it is killed")
	flag.Parse()
	if *what != "credentials" {
		fmt.Fprintf(os.Stderr, "crash: unknown -what %q; expected credentials\n", *what)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := credentials(ctx, *times)
	if err != nil {
		fmt.Fprintf(os.Stderr, "crash: %v\n", err)
		os.Exit(2) //nolint:gocritic // nothing is left to stop
	}
	fmt.Printf("crash: killed=%d answered=%d unanswered=%d lost=%d half=%d\n", r.killed, r.answered, r.unanswered, r.lost, r.half)
	if r.lost+r.half > 0 || r.answered == 0 {
		os.Exit(1)
	}
}
