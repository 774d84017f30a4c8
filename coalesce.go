package scopegate

import (
	"context"
	"errors"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/flights"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

// maxShared bounds the answer that a flight holds in memory for those who share
// it, in bytes. Of a larger one nothing is shared.
const maxShared = 1 << 20

// changes are those of all gateways of the process: two may stand before one
// account, and while a reload is under way the old and the new one do.
var changes flights.Changes

// send carries a request upstream, or gives a read what another one brings.
func (g *Gateway) send(ctx context.Context, rec *audit.Record, op *scopes.Operation, out upstream.Request) (*upstream.Response, error) {
	switch {
	case !op.Reads():
		// Whoever made it, and whether it succeeds or not: from here on, and
		// once more from its answer on, nobody is given what was read before.
		changes.Mark()
		defer changes.Mark()
	case g.flights != nil && !op.OfTokens():
		return g.share(ctx, rec, out)
	}
	return g.carry(ctx, rec.Operation, out)
}

// carry carries a request upstream.
func (g *Gateway) carry(ctx context.Context, operation string, out upstream.Request) (*upstream.Response, error) {
	before := time.Now()
	resp, err := g.forward.Do(ctx, out)
	g.meter.Upstream(operation, time.Since(before))
	return resp, err
}

// share lets the reads that a team has under way at once, and that are the same
// to the byte as upstream sees them, share one exchange. It takes one of the
// team's slots, and ends when nobody waits for it any more. Who is told
// flights.ErrAlone has waited, and has nothing.
func (g *Gateway) share(ctx context.Context, rec *audit.Record, out upstream.Request) (*upstream.Response, error) {
	key := flights.Key{Team: out.Team, Method: out.Method, Path: out.Path, Body: string(out.Body)}
	var large *upstream.Response // the leader's alone
	kept, whose, err := g.flights.Fly(ctx, key, rec.UUID, func(ctx context.Context) (*upstream.Kept, error) {
		resp, err := g.carry(ctx, rec.Operation, out)
		if err != nil {
			return nil, err
		}
		var kept *upstream.Kept
		if kept, large, err = resp.Keep(maxShared); large != nil {
			err = flights.ErrAlone
		}
		return kept, err
	})
	rec.SharedWith = whose
	switch {
	case ctx.Err() != nil: // which Fly has seen, or not yet
		if large != nil {
			_ = large.Body.Close() // for nobody
		}
		return nil, &upstream.Error{Reason: policy.ClientGone, Err: ctx.Err()}
	case large != nil:
		return large, nil
	case errors.Is(err, flights.ErrAlone):
		rec.SharedWith = ""
		return nil, err
	}
	if whose != "" {
		g.meter.Coalesced(rec.Team)
	}
	if err != nil {
		return nil, err
	}
	return kept.Response(), nil
}
