package scopegate

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

// errand is a change of a credential that a request found due and does not
// wait for.
type errand struct {
	kind       string // credential.KindEnd or KindLock
	id         string
	generation int // that is to end, or was used again

	from, team string
	lock       bool
}

// errands are done one after another, by one writer. Each is due again at the
// next request that finds it so: one that is dropped or fails is not lost.
type errands struct {
	gateway string
	queue   chan errand

	mu      sync.Mutex
	pending map[errand]bool

	warned map[string]time.Time // by credential; of the writer alone
}

const (
	maxErrands = 1024
	// warnEvery bounds what one forgotten machine writes into the log.
	warnEvery = time.Minute
)

func newErrands(gateway string) *errands {
	return &errands{
		gateway: gateway, queue: make(chan errand, maxErrands),
		pending: map[errand]bool{}, warned: map[string]time.Time{},
	}
}

// add never waits. An errand that waits already is not added again.
func (e *errands) add(one errand) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending[one] {
		return
	}
	select {
	case e.queue <- one:
		e.pending[one] = true
	default:
	}
}

func (e *errands) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-e.queue:
			e.do(ctx, one)
			e.mu.Lock()
			delete(e.pending, one)
			e.mu.Unlock()
		}
	}
}

// do does an errand in the name of the gateway that runs now, under its policy
// and into its audit log.
func (e *errands) do(ctx context.Context, one errand) {
	g, ok := gateway(e.gateway)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	log := caddy.Log().Named("scopegate").With(zap.String("gateway", e.gateway), zap.String("credential", one.id))
	var err error
	switch one.kind {
	case credential.KindEnd:
		_, err = g.change(func(r *credential.Registry) (store.Credential, error) {
			return r.End(ctx, one.id, one.generation, byGateway)
		})
	case credential.KindLock:
		if e.warn(one.id, time.Now()) {
			log.Warn("a key was used that another has replaced: a thief may have it, or a machine was forgotten",
				zap.String("team", one.team), zap.Int("generation", one.generation), zap.String("client_ip", one.from))
		}
		if one.lock {
			_, err = g.change(func(r *credential.Registry) (store.Credential, error) {
				return r.Lock(ctx, one.id, "a key that was replaced was used again from "+one.from)
			})
		}
	}
	if err != nil {
		log.Error("a due change of a credential was not made; it is tried again when the key is used", zap.String("change", one.kind), zap.Error(err))
	}
}

// warn reports whether it is time to warn of a credential again.
func (e *errands) warn(id string, now time.Time) bool {
	if last, ok := e.warned[id]; ok && now.Sub(last) < warnEvery {
		return false
	}
	if len(e.warned) >= maxErrands {
		clear(e.warned) // warning too often is better than remembering without bound
	}
	e.warned[id] = now
	return true
}
