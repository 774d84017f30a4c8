// Command crash kills a gateway with SIGKILL while it works, again and again,
// and looks at what is left.
//
//	go run ./bench/crash -what credentials [-kills 50]
//	go run ./bench/crash -what audit [-kills 100]
//	go run ./bench/crash -what mints [-kills 500]
//
// credentials: while four callers of the admin API make credentials without
// pause. After each kill the gateway is started again, and every key that was
// answered, in this round or one before, must work; every credential that the
// store lists must be whole.
//
// audit: while callers read and change. Each change that has arrived upstream
// must have its record in the audit log, every exchange must have an end or be
// told lost, and the log must verify.
//
// mints: at each point on the way of a mint and of a deletion, and at random
// moments while four callers make and delete tokens. Where upstream does not see
// that a point is reached, the process goes on by fractions of a millisecond
// until its store and its audit log say so; where it got past the point
// meanwhile, the kill counts for the one at which it really was. Then the gateway
// is started again and reconciles. Each token at upstream must be live in the
// ledger, each row must say what is so, and what callers were told must hold.
//
// The exit status is 1 where something was lost or half done, 2 where nothing
// could be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/scopegate/scopegate/bench/rig"
)

func main() {
	what := flag.String("what", "credentials", "what the gateway does when it is killed: credentials, audit or mints")
	kills := flag.Int("kills", 50, "how often it is killed")
	flag.Parse()
	measure, ok := map[string]func(context.Context, int) (bool, error){
		"credentials": ofCredentials, "audit": ofAudit, "mints": ofMints,
	}[*what]
	if !ok {
		fmt.Fprintf(os.Stderr, "crash: unknown -what %q; expected credentials, audit or mints\n", *what)
		os.Exit(2)
	}
	rig.Main("crash", func(ctx context.Context) (bool, error) { return measure(ctx, *kills) })
}

func ofCredentials(ctx context.Context, kills int) (bool, error) {
	r, err := credentials(ctx, kills)
	if err == nil {
		fmt.Printf("crash: killed=%d answered=%d unanswered=%d lost=%d half=%d\n", r.killed, r.answered, r.unanswered, r.lost, r.half)
	}
	return r.lost+r.half == 0 && r.answered > 0, err
}

func ofAudit(ctx context.Context, kills int) (bool, error) {
	r, err := audited(ctx, kills)
	if err == nil {
		fmt.Printf("crash: killed=%d changes_seen=%d unrecorded=%d lost=%d open=%d sound=%v\n", r.killed, r.seen, r.unrecorded, r.lost, r.open, r.sound)
	}
	return r.unrecorded+r.open == 0 && r.seen > 0 && r.sound, err
}

func ofMints(ctx context.Context, kills int) (bool, error) {
	r, err := mints(ctx, kills, false)
	if err == nil {
		r.print()
	}
	return r.wrong() == 0 && r.live > 0, err
}
