// Command isolation shows that no team can tell that another one has tokens,
// with a private PostgreSQL, two processes of the real binary on it, and a
// simulated API that fails now and then: a tenth of the changes are carried out
// and their connections reset, one request in twenty is answered 500, all are
// late by a little, and some callers hang up.
//
//	go run ./bench/isolation [-operations 1000]
//
// Eight clients of two teams make, list, read and delete tokens through both
// replicas. Each list must have what its team was given before and nobody has
// asked to delete, nothing that the team was told is deleted, and nothing of the
// other team's. Whoever asks for another team's id, for one of its own that is
// deleted or for a random one gets the same bytes each time, but for the id of
// the decision and the date.
//
// The exit status is 1 where a team saw something else, 2 where nothing could be
// measured.
package main

import (
	"context"
	"flag"

	"github.com/scopegate/scopegate/bench/rig"
)

func main() {
	operations := flag.Int("operations", 1000, "how many mints, lists, reads and deletions")
	flag.Parse()
	rig.Main("isolation", func(ctx context.Context) (bool, error) {
		r, err := run(ctx, *operations)
		if err != nil {
			return false, err
		}
		r.print()
		return r.good(), nil
	})
}
