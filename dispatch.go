package scopegate

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/strictjson"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

// dispatch records that a request is about to leave, and sends it: steps 6 and
// 7. Nothing reaches upstream in any other way, neither a caller's request nor
// what the gateway asks by itself. No record, no request. last is asked between
// the two. The operation says how out is sent.
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

// call asks something of upstream that no caller asked for.
func (g *Gateway) call(ctx context.Context, operation string, c ledger.Call, answer func(*upstream.Response) error) (err error) {
	op := scopes.Find(operation)
	rec := audit.Record{
		UUID: newID(), Operation: op.ID, Scope: op.ScopeName(),
		Team: c.Team, Credential: c.Credential, TokenID: c.ID, Operator: byGateway, Note: c.Cause,
	}
	started := time.Now()
	out := upstream.Request{Path: strings.Replace(op.Path, "{tokenId}", c.ID, 1)}
	resp, _, err := g.dispatch(ctx, &rec, op, out, func() *refusal { return nil })
	if errors.Is(err, errUnrecorded) {
		return err
	}
	reason := policy.Allowed
	if err == nil {
		defer resp.Body.Close()
		rec.UpstreamStatus = resp.Status
		err = answer(resp)
	}
	if err != nil && !errors.Is(err, ledger.ErrNone) {
		no := refuseUnread(err)
		reason = no.reason
		if no.upstreamStatus != 0 {
			rec.UpstreamStatus = no.upstreamStatus
		}
	}
	rec.Phase, rec.Complete, rec.Reason, rec.Duration = audit.Ended, err == nil, reason.String(), time.Since(started)
	g.recordEnd(op, &rec)
	return waiting(err)
}

// statusError tells what upstream says of one token: nothing, which is well,
// that there is none, or anything else.
func statusError(resp *upstream.Response) error {
	switch {
	case resp.Status >= 200 && resp.Status < 300:
		return nil
	case resp.Status == http.StatusNotFound && saysNone(resp):
		return ledger.ErrNone
	}
	err := &upstream.Error{Reason: policy.UpstreamStatus, UpstreamStatus: resp.Status}
	if resp.Status == http.StatusTooManyRequests {
		return &ledger.Wait{For: retryAfter(resp.RetryAfter), Cause: err}
	}
	return err
}

// saysNone reports whether a 404 is GoodAccess's own word that there is no such
// token. What it looks like is a guess: its other errors are JSON objects, and
// the page of a proxy on the way that knows no such path is none.
func saysNone(resp *upstream.Response) bool {
	if !isJSON([]string{resp.ContentType}, false) {
		return false
	}
	body, err := readWhole(resp)
	if err != nil {
		return false
	}
	value, err := strictjson.Parse(body)
	return err == nil && value.Kind() == strictjson.Object
}

// retryAfter reads seconds or an HTTP date; 0 where it can read neither.
func retryAfter(text string) time.Duration {
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	d, err := time.ParseDuration(text + "s")
	if err != nil || d < 0 {
		return 0
	}
	return d
}

// waiting says of an error that upstream wants to be left alone for a while.
func waiting(err error) error {
	var e *upstream.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return &ledger.Wait{For: e.RetryAfter, Cause: err}
	}
	return err
}

// lookAt asks upstream for one token.
func (g *Gateway) lookAt(ctx context.Context, c ledger.Call) (seen tokens.Seen, err error) {
	err = g.call(ctx, scopes.GetToken, c, func(resp *upstream.Response) error {
		if err := statusError(resp); err != nil {
			return err
		}
		body, err := readWhole(resp)
		if err == nil {
			seen, err = tokens.Read(body, c.ID)
		}
		return err
	})
	return seen, err
}

// ownCalls are what the ledger asks of upstream, in the name of the gateway
// that runs now.
type ownCalls struct{ gateway string }

// with runs something under the configuration that runs now.
func (o ownCalls) with(do func(*Gateway) error) error {
	g, ok := gateway(o.gateway)
	if !ok || !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	return do(g)
}

// Ready reports whether there is a configuration to act under.
func (o ownCalls) Ready() bool {
	_, ok := gateway(o.gateway)
	return ok
}

// Delete asks upstream to delete a token. The master is never asked for, not
// even if a row of the ledger had its id.
func (o ownCalls) Delete(ctx context.Context, c ledger.Call) error {
	return o.with(func(g *Gateway) error {
		if g.isMaster(c.ID) || !scopes.IsUUID(c.ID) {
			return errors.New("it is the master token, or none; it is never deleted")
		}
		return g.call(ctx, scopes.RevokeToken, c, statusError)
	})
}

// Read asks upstream for one token.
func (o ownCalls) Read(ctx context.Context, c ledger.Call) (seen ledger.Seen, err error) {
	err = o.with(func(g *Gateway) error {
		got, err := g.lookAt(ctx, c)
		seen = g.seen(got)
		return err
	})
	return seen, err
}

// List asks upstream for all tokens.
func (o ownCalls) List(ctx context.Context, cause string, each func(ledger.Seen) error) error {
	return o.with(func(g *Gateway) error {
		return g.call(ctx, scopes.ListTokens, ledger.Call{Cause: cause}, func(resp *upstream.Response) error {
			if err := statusError(resp); err != nil {
				return err
			}
			return tokens.Each(resp.Body, func(t tokens.Seen) error { return each(g.seen(t)) })
		})
	})
}

// Note records what is no request.
func (o ownCalls) Note(c ledger.Call) error {
	return o.with(func(g *Gateway) error {
		rec := audit.Record{
			UUID: newID(), Phase: audit.Decided, Decision: audit.Allow, Reason: policy.Allowed.String(),
			Team: c.Team, Credential: c.Credential, TokenID: c.ID, Operator: byGateway, Change: "ledger", Note: c.Cause,
		}
		if err := g.log.Write(&rec); err != nil {
			return err
		}
		rec.Phase, rec.Complete = audit.Ended, true // or it would look as though the process had died
		return g.log.Write(&rec)
	})
}

// Ended are the credentials of the configuration that no longer work.
func (o ownCalls) Ended(now time.Time) (ids []string) {
	_ = o.with(func(g *Gateway) error {
		ids = g.rules.static.Ended(now)
		return nil
	})
	return ids
}

// seen tells the ledger of a token what it wants to know.
func (g *Gateway) seen(t tokens.Seen) ledger.Seen {
	s := ledger.Seen{ID: strings.ToLower(t.ID), Name: tokens.Unstamped(t.Name)}
	if stamp, genuine := g.stamper.Read(t.Name); genuine {
		s.Nonce = stamp.Nonce
	}
	s.Differs = func(row store.Token) []string {
		return tokens.Differs(t, tokens.Made{
			Name: g.sentName(row), Scopes: row.Scopes, AllowedIPs: row.AllowedIPs, ExpiresAt: row.ExpiresAt,
		})
	}
	return s
}

// sentName is the name that upstream was sent, or had when it was adopted.
func (g *Gateway) sentName(row store.Token) string {
	if row.Adopted {
		return row.Name
	}
	return g.stamper.Stamp(row.Team, row.Nonce, row.Name)
}
