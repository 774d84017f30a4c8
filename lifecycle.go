package scopegate

import (
	"context"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// byGateway is who made a change that no operator asked for.
const byGateway = "scopegate"

var (
	errNoStore   = errors.New("this gateway has no store (`store none`): its credentials stand in its configuration; change them there and reload")
	errStoreAway = errors.New("the store cannot be reached; nothing was changed")
)

// change makes one change of a credential, in this order: its record, the
// change itself, the end of what this process remembered of the credential,
// and the record of how it ended. A change that cannot be recorded is not made.
func (g *Gateway) change(do func(*credential.Registry) (store.Credential, error)) (store.Credential, error) {
	if g.room == nil {
		return store.Credential{}, errNoStore
	}
	if !g.inside.enter() {
		return store.Credential{}, errRetired
	}
	defer g.inside.leave()
	if !g.room.member.Reachable() {
		return store.Credential{}, errStoreAway
	}
	return recorded(g.log, g.registry, do, func(c credential.Change, err error) {
		// Also where it failed: the store may have taken it and the answer got lost.
		g.room.cache.Forget(c.ID)
		if err == nil {
			g.meter.CredentialChanged(c.Kind)
			g.cascadeRevoked(c)
		}
	})
}

// cascadeRevoked owes the end of what a revoked credential has made. Where that fails
// the ledger's next sweep does it: what is revoked stands in the store.
func (g *Gateway) cascadeRevoked(c credential.Change) {
	if c.Kind != credential.KindRevoke {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storePatience)
	defer cancel()
	if _, err := g.cascade(ctx, c.ID, "its credential was revoked"); err != nil {
		g.logger.Warn("the tokens of a revoked credential could not be marked for deletion; that is tried again", zap.Error(err))
	}
}

// registry judges by this configuration's policy.
func (g *Gateway) registry(record func(credential.Change) error) *credential.Registry {
	return credential.NewRegistry(g.room.rows, g.rules.static, g.rules.lives, record, time.Now)
}

// recorded makes a change between its two records. made is told of it before
// the second, with what came of it; nobody is told of what was refused or would
// have changed nothing.
func recorded(
	log *audit.Log, registry func(func(credential.Change) error) *credential.Registry,
	do func(*credential.Registry) (store.Credential, error), made func(credential.Change, error),
) (store.Credential, error) {
	started := time.Now()
	var change credential.Change
	var rec *audit.Record
	write := log.Write // of the second record
	row, err := do(registry(func(c credential.Change) error {
		change, rec = c, changeRecord(c)
		if takes(c.Kind) {
			write = log.WriteRevocation
			return write(rec)
		}
		return log.WriteChange(rec)
	}))
	if rec == nil {
		return row, err
	}
	made(change, err)
	rec.Phase, rec.Complete, rec.Duration = audit.Ended, err == nil, time.Since(started)
	if logErr := write(rec); logErr != nil && err == nil {
		caddy.Log().Named("scopegate").Error("how a change of a credential ended could not be recorded; that it was asked for is")
	}
	return row, err
}

// takes reports whether a change takes rights away. It is recorded in the
// audit log's reserve where the disk is full.
func takes(kind string) bool {
	switch kind {
	case credential.KindRevoke, credential.KindSuspend, credential.KindLock, credential.KindEnd, changeRestored:
		return true
	}
	return false
}

func changeRecord(c credential.Change) *audit.Record {
	rec := &audit.Record{
		UUID: newID(), Phase: audit.Decided, Decision: audit.Allow, Reason: policy.Allowed.String(),
		Team: c.Team, Credential: c.ID, Change: c.Kind, Operator: c.By, Generation: c.Generation, Note: c.Note,
		GrantedScopes: c.Scopes, AllowedIPs: c.AllowedIPs,
	}
	if !c.Expires.IsZero() {
		rec.ExpiresAt = c.Expires.UTC().Format(time.RFC3339)
	}
	return rec
}
