package scopegate

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// owned is what a request has to do with upstream tokens.
type owned struct {
	ids     map[string]struct{} // of the team's live tokens, for a list
	token   store.Token         // the one that is read or revoked; none with `tokens all`
	mint    *ledger.Mint        // the one that is made, until it is settled
	left    bool                // its request may have reached upstream
	unknown bool                // it failed, and may have happened upstream
	again   *idempotent         // the mint's key and sealed answer; nil without a key
}

// own asks whose upstream token the request is about, and writes down the one
// that is about to be made: step 5. A token that is not the caller's does not
// exist for them: it takes the same steps as an id that nothing has.
func (q *request) own() *refusal {
	switch q.match.Operation.ID {
	case scopes.ListTokens:
		return q.ownAll()
	case scopes.GetToken, scopes.RevokeToken:
		// Upstream is asked for the id as the ledger has it. Were it asked in
		// the caller's spelling, and took that for another id, its 404 would
		// prove that a token is gone which is not.
		id := strings.ToLower(q.match.Params[0])
		q.match.Params[0], q.record.TokenID = id, id
		return q.ownOne(id)
	case scopes.CreateToken:
		return q.intend()
	}
	return nil
}

func (q *request) seesAll() bool {
	return q.caller.Identity.Team.AllTokens && q.match.Operation.ID != scopes.RevokeToken
}

func (q *request) ownAll() *refusal {
	if q.g.room == nil || q.seesAll() {
		return nil
	}
	var err error
	if q.owned.ids, err = q.g.room.ledger.IDs(q.r.Context(), q.caller.Identity.Team.Name); err != nil {
		return refuse(policy.StoreUnavailable)
	}
	return nil
}

// owns reports whether a listed token is the caller's. The master is nobody's,
// whatever anyone has written down.
func (q *request) owns(id []byte) bool {
	if q.seesAll() {
		return true
	}
	_, ok := q.owned.ids[string(id)]
	return ok && !q.g.isMaster(string(id))
}

func (g *Gateway) isMaster(id string) bool { return strings.EqualFold(id, g.MasterTokenID) }

func (q *request) ownOne(id string) *refusal {
	if q.g.room == nil {
		if q.seesAll() {
			return nil
		}
		return refuse(policy.TokenNotFound)
	}
	t, err := q.g.room.ledger.Find(q.r.Context(), q.caller.Identity.Team.Name, id)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return refuse(policy.StoreUnavailable)
	case q.seesAll():
	case err != nil, q.g.isMaster(id), t.State != ledger.Live && q.match.Operation.ID == scopes.GetToken:
		return refuse(policy.TokenNotFound)
	}
	q.owned.token = t
	return nil
}

// leave is the last step before a request leaves. A token that is to be
// revoked is written down as owed first, so that its end comes even if this
// process does.
func (q *request) leave() *refusal {
	if no := q.stands(); no != nil {
		return no
	}
	if q.match.Operation.ID != scopes.RevokeToken {
		q.owned.left = true
		return nil
	}
	ctx, cancel := q.carriedThrough(storePatience)
	defer cancel()
	owe := func() (store.Token, error) {
		return q.g.room.ledger.Revoke(ctx, q.owned.token, "its team asked", q.g.mintWithin())
	}
	t, err := owe()
	if errors.Is(err, store.ErrChanged) {
		// Somebody else deletes it too.
		if no := q.ownOne(q.owned.token.ID); no != nil {
			return no
		}
		t, err = owe()
	}
	if err != nil {
		return refuse(policy.StoreUnavailable)
	}
	q.owned.token = t
	return nil
}

// unanswered says what became of the token of a request that got no answer.
func (q *request) unanswered(err error) {
	ctx, cancel := q.carriedThrough(storePatience)
	defer cancel()
	switch q.match.Operation.ID {
	case scopes.CreateToken:
		if q.owned.unknown = mayHaveHappened(err); q.owned.unknown {
			q.settled(q.owned.mint.Lost(ctx, "the reply was lost: "+err.Error()))
		} else {
			q.drop()
		}
	case scopes.RevokeToken:
		_, err = q.g.room.ledger.Deleted(ctx, q.owned.token, waiting(err))
		q.settled(err)
	}
}

// settled notes that nothing more is to be done about the token. What could
// not be written is not lost: the row says that something is owed, and when
// the queue sees to it.
func (q *request) settled(err error) {
	q.owned.mint = nil
	if err != nil {
		q.g.logger.Warn("the ledger could not be told how a request ended; it finds out by itself", zap.Error(err))
	}
}

// carriedThrough is a context for what must not end half-way because a caller
// hangs up.
func (q *request) carriedThrough(within time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(q.r.Context()), within)
}
