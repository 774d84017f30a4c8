package scopegate

import (
	"context"
	"errors"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/flights"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

// dispatch records that a request is about to leave, and sends it: steps 6 and
// 7. Nothing reaches upstream in any other way, neither a caller's request nor
// what the gateway asks by itself. No record, no request. last is asked whenever
// it is about to leave. The operation says how out is sent.
func (g *Gateway) dispatch(ctx context.Context, rec *audit.Record, op *scopes.Operation, out upstream.Request, last func() *refusal) (*upstream.Response, *refusal, error) {
	rec.Phase, rec.Decision, rec.Reason = audit.Decided, audit.Allow, policy.Allowed.String()
	if err := g.recordStart(op, rec); err != nil {
		return nil, nil, errUnrecorded
	}
	if no := last(); no != nil {
		return nil, no, nil
	}
	out.Method, out.Revokes = op.Method, op.ID == scopes.RevokeToken
	resp, err := g.send(ctx, rec, op, out)
	if errors.Is(err, flights.ErrAlone) {
		// It has waited for another's answer, which is not for it, and leaves
		// only now.
		if no := last(); no != nil {
			return nil, no, nil
		}
		resp, err = g.carry(ctx, op.ID, out)
	}
	return resp, nil, err
}

// recordStart writes the decision to forward a request: what changes something
// must be on the disk first, and what takes a right away is recorded even where
// the disk is full, which must not keep a leaked token alive.
func (g *Gateway) recordStart(op *scopes.Operation, rec *audit.Record) error {
	switch {
	case op.ID == scopes.RevokeToken:
		return g.log.WriteRevocation(rec)
	case op.Reads():
		return g.log.Write(rec)
	}
	return g.log.WriteChange(rec)
}

// recordEnd writes the record of how an exchange ended. Nothing is left to
// refuse if that fails; the log's own metrics tell of it.
func (g *Gateway) recordEnd(op *scopes.Operation, rec *audit.Record) {
	write := g.log.Write
	if op.ID == scopes.RevokeToken {
		write = g.log.WriteRevocation
	}
	_ = write(rec)
}

// errUnrecorded says that the log could not be written, so that nothing left.
var errUnrecorded = errors.New("the audit log cannot be written")
