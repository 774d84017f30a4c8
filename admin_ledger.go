package scopegate

import (
	"context"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// The changes that operators make to the ledger, as records name them.
const (
	changeTokenRevoke = "token-revoke"
	changeTokenAdopt  = "token-adopt"
	changeTeamDrain   = "team-drain"
	changeReconcile   = "reconcile"
)

// keeper is the running gateway, where it has a ledger.
func (c *call) keeper() (*Gateway, error) {
	g, err := c.running()
	if err == nil && g.room == nil {
		err = errNoStore
	}
	return g, err
}

// recorded makes a change of the ledger between its two records. All that
// operators change there but an adoption takes rights away, so it is recorded
// even where the disk is full.
func (c *call) recorded(g *Gateway, rec audit.Record, do func(ctx context.Context, by string) error) error {
	by, err := c.operator()
	if err != nil {
		return err
	}
	if err := credential.CheckText("note", rec.Note); err != nil {
		return err
	}
	if !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	ctx, cancel := c.lasting()
	defer cancel()
	write := g.log.WriteRevocation
	if rec.Change == changeTokenAdopt {
		write = g.log.WriteChange
	}
	started := time.Now()
	rec.UUID, rec.Operator = newID(), by
	rec.Phase, rec.Decision, rec.Reason = audit.Decided, audit.Allow, policy.Allowed.String()
	if err := write(&rec); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	err = do(ctx, by)
	rec.Phase, rec.Complete, rec.Duration = audit.Ended, err == nil, time.Since(started)
	_ = write(&rec) // that it was asked for is recorded
	return err
}

// ledgerRows asks the store about the ledger.
func (g *Gateway) ledgerRows(do func(rows) error) error {
	if g.room == nil {
		return errNoStore
	}
	if !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	return do(g.room.rows)
}

func (s *stockroom) ledgerRows(do func(rows) error) error { return do(s.rows) }

func (g *Gateway) cascade(ctx context.Context, credential, cause string) (int, error) {
	return g.room.ledger.Cascade(ctx, credential, cause)
}

// cascade marks the tokens; the queue of a gateway that runs deletes them.
func (s *stockroom) cascade(ctx context.Context, credential, cause string) (int, error) {
	return s.rows.MoveTokens(ctx, store.TokenFilter{Credential: credential}, ledger.Live, ledger.Revoking, cause)
}
