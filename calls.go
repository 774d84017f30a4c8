package scopegate

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

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

// ledgerCalls are what the ledger asks of upstream, in the name of the gateway
// that runs now.
type ledgerCalls struct{ gateway string }

// with runs something under the configuration that runs now.
func (l ledgerCalls) with(do func(*Gateway) error) error {
	g, ok := gateway(l.gateway)
	if !ok || !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	return do(g)
}

// Ready reports whether there is a configuration to act under.
func (l ledgerCalls) Ready() bool {
	_, ok := gateway(l.gateway)
	return ok
}

// Delete asks upstream to delete a token. The master is never asked for, not
// even if a row of the ledger had its id.
func (l ledgerCalls) Delete(ctx context.Context, c ledger.Call) error {
	return l.with(func(g *Gateway) error {
		if g.isMaster(c.ID) || !scopes.IsUUID(c.ID) {
			return errors.New("it is the master token, or none; it is never deleted")
		}
		return g.call(ctx, scopes.RevokeToken, c, statusError)
	})
}

// Read asks upstream for one token.
func (l ledgerCalls) Read(ctx context.Context, c ledger.Call) (seen ledger.Seen, err error) {
	err = l.with(func(g *Gateway) error {
		got, err := g.lookAt(ctx, c)
		seen = g.seen(got)
		return err
	})
	return seen, err
}

// List asks upstream for all tokens.
func (l ledgerCalls) List(ctx context.Context, cause string, each func(ledger.Seen) error) error {
	return l.with(func(g *Gateway) error {
		return g.call(ctx, scopes.ListTokens, ledger.Call{Cause: cause}, func(resp *upstream.Response) error {
			if err := statusError(resp); err != nil {
				return err
			}
			return tokens.Each(resp.Body, func(t tokens.Seen) error { return each(g.seen(t)) })
		})
	})
}

// Note records what is no request.
func (l ledgerCalls) Note(c ledger.Call) error {
	return l.with(func(g *Gateway) error {
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
func (l ledgerCalls) Ended(now time.Time) (ids []string) {
	_ = l.with(func(g *Gateway) error {
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
