package scopegate

import (
	"errors"
	"time"

	"github.com/google/uuid"

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
	started := time.Now()
	var rec *audit.Record
	registry := g.registry(func(c credential.Change) error {
		rec = changeRecord(c)
		return g.log.Write(rec)
	})
	row, err := do(registry)
	if rec == nil {
		return row, err // refused, or nothing to change
	}
	// Also where it failed: the store may have taken it and the answer got lost.
	g.room.cache.Forget(rec.Credential)
	rec.Phase, rec.Complete, rec.Duration = audit.Ended, err == nil, time.Since(started)
	if logErr := g.log.Write(rec); logErr != nil && err == nil {
		g.logger.Error("how a change of a credential ended could not be recorded; that it was asked for is")
	}
	if err == nil {
		g.meter.CredentialChanged(rec.Change)
	}
	return row, err
}

// registry judges by this configuration's policy.
func (g *Gateway) registry(record func(credential.Change) error) *credential.Registry {
	return credential.NewRegistry(g.room.rows, g.rules.static, g.rules.lives, record, time.Now)
}

func changeRecord(c credential.Change) *audit.Record {
	rec := &audit.Record{
		UUID: uuid.NewString(), Phase: audit.Decided, Decision: audit.Allow, Reason: policy.Allowed.String(),
		Team: c.Team, Credential: c.ID, Change: c.Kind, Operator: c.By, Generation: c.Generation, Note: c.Note,
		GrantedScopes: c.Scopes, AllowedIPs: c.AllowedIPs,
	}
	if !c.Expires.IsZero() {
		rec.ExpiresAt = c.Expires.UTC().Format(time.RFC3339)
	}
	return rec
}
