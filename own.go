package scopegate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
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

// intend writes a mint down before it is asked for, unless this is one whose
// answer is known already.
func (q *request) intend() *refusal {
	if no := q.mayMint(); no != nil {
		return no
	}
	id, m := &q.caller.Identity, q.shaped.mint
	var no *refusal
	if q.owned.again, no = q.idempotency(); no != nil || q.owned.again.answered() {
		return no
	}
	nonce := tokens.NewNonce()
	m.Sent = q.g.stamper.Stamp(id.Team.Name, nonce, m.Name)
	q.shaped.body = m.Body()

	ctx, cancel := q.carriedThrough()
	defer cancel()
	var err error
	q.owned.mint, err = q.g.room.ledger.Begin(ctx, ledger.Asked{
		Nonce: nonce, Team: id.Team.Name, Credential: id.Credential,
		Name: m.Name, Scopes: m.Scopes.Names(), AllowedIPs: m.AllowedIPs,
		ExpiresAt: m.ExpiresAt, Expires: m.Expires, Within: q.g.mintWithin(),
		Bounds: store.TokenBounds{
			Live:   q.g.rules.quota[id.Team.Name],
			Day:    q.g.room.member.Now().UTC().Format(time.DateOnly),
			PerDay: q.g.rules.mintsADay[id.Team.Name],
		},
		Answer: q.owned.again.row(nonce),
	})
	switch {
	case errors.Is(err, store.ErrFull):
		return refuse(policy.MintQuota)
	case errors.Is(err, store.ErrSpent):
		return refuse(policy.MintDailyQuota)
	case errors.Is(err, store.ErrExists):
		return refuseWith(policy.IdempotencyConflict, "A request with this key is under way.")
	case err != nil:
		return refuse(policy.StoreUnavailable)
	}
	return nil
}

// mayMint asks what has to hold before any token is made: somewhere to keep
// what was made, and a clock by which its end is right.
func (q *request) mayMint() *refusal {
	switch {
	case q.g.room == nil:
		return refuse(policy.NoLedger)
	case !q.g.room.member.Reachable():
		return refuse(policy.StoreUnavailable)
	case q.g.room.member.Skewed():
		return refuse(policy.ClockSkew)
	}
	return nil
}

// mintWithin is how long a mint may take before it is given up: the request
// itself, its proof with all its retries, and what the store takes.
func (g *Gateway) mintWithin() time.Duration {
	return 2*g.Upstream.Patience() + 4*storePatience
}

// carriedThrough is a context for what must not end half-way because a caller
// hangs up.
func (q *request) carriedThrough() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(q.r.Context()), storePatience)
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
	ctx, cancel := q.carriedThrough()
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

// unsettled says what became of a mint of which nothing else did: its request
// never left, or this goroutine broke off, in a panic, before it knew.
func (q *request) unsettled() {
	if q.owned.mint == nil {
		return
	}
	if !q.owned.left {
		q.drop()
		return
	}
	ctx, cancel := q.carriedThrough()
	defer cancel()
	q.settled(q.owned.mint.Lost(ctx, "the request was broken off"))
}

// drop takes a mint back that upstream certainly did not act on.
func (q *request) drop() {
	ctx, cancel := q.carriedThrough()
	defer cancel()
	q.settled(q.owned.mint.Drop(ctx))
}

// unanswered says what became of the token of a request that got no answer.
func (q *request) unanswered(err error) {
	ctx, cancel := q.carriedThrough()
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

// answerToken answers for one token: what upstream said of it is passed on, but
// for its own way of saying that there is none.
func (q *request) answerToken(resp *upstream.Response) bool {
	err := statusError(resp)
	if q.match.Operation.ID == scopes.RevokeToken {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(q.r.Context()), q.g.mintWithin())
		defer cancel()
		_, stored := q.g.room.ledger.Deleted(ctx, q.owned.token, err)
		q.settled(stored)
	}
	switch {
	case errors.Is(err, ledger.ErrNone):
		if q.match.Operation.ID == scopes.GetToken && q.owned.token.Nonce != "" {
			ctx, cancel := q.carriedThrough()
			defer cancel()
			q.settled(q.g.room.ledger.Vanished(ctx, q.owned.token))
		}
		no := refuse(policy.TokenNotFound)
		q.answerFailure(no)
		return false
	case resp.Status == http.StatusNotFound:
		q.answerFailure(refuse(policy.UpstreamShape).of(resp))
		return false
	case err == nil && q.match.Operation.ID == scopes.GetToken:
		body, err := readWhole(resp)
		if err == nil {
			body, err = tokens.Object(body, q.match.Params[0])
		}
		return q.rebuilt(resp, body, err)
	}
	return q.relay(resp)
}

// answerMint hands a new token out once it is certain that it is as it was
// asked for and that it can be ended.
func (q *request) answerMint(resp *upstream.Response) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.r.Context()), q.g.mintWithin())
	defer cancel()
	answer, no := q.minted(ctx, resp)
	if no != nil {
		q.owned.unknown = true
		q.answerFailure(no.of(resp))
		return false
	}
	return q.handOut(answer)
}

// handOut answers with a token.
func (q *request) handOut(answer *mintAnswer) bool {
	if len(answer.Clamped) > 0 {
		q.w.Header().Set("Scopegate-Clamped", strings.Join(answer.Clamped, ", "))
	}
	return q.reply(answer.Status, q.one(answer.ContentType), answer.Body)
}

func (q *request) minted(ctx context.Context, resp *upstream.Response) (*mintAnswer, *refusal) {
	mint := q.owned.mint
	body, err := readWhole(resp)
	q.record.Fingerprints = q.g.fingerprints(body)
	var id string
	if err == nil {
		id, err = tokens.MintedID(body)
	}
	if err == nil && q.g.isMaster(id) {
		err = fmt.Errorf("%w: a new token with the id of the master", tokens.ErrShape)
	}
	if err != nil {
		q.settled(mint.Lost(ctx, "the reply was not understood"))
		return nil, refuseUnread(err)
	}
	if err := mint.Made(ctx, id); err != nil {
		// The id may be another token's, so nothing is done about it. Its own
		// is found by the stamp.
		if errors.Is(err, store.ErrExists) {
			q.settled(mint.Lost(ctx, "the reply named a token that the ledger knows"))
			return nil, refuse(policy.UpstreamShape)
		}
		q.settled(err)
		return nil, refuse(policy.StoreUnavailable)
	}
	q.record.TokenID = mint.Row().ID
	if no := q.prove(ctx, mint); no != nil {
		return nil, no
	}
	answer := &mintAnswer{resp.Status, contentType(resp), q.shaped.mint.Clamped, body}
	err = mint.Live(ctx, q.owned.again.seal(answer))
	q.settled(err)
	if err != nil {
		q.record.TokenID = ""
		return nil, refuse(policy.StoreUnavailable)
	}
	return answer, nil
}

// prove reads a new token back. Where it is wider than what was asked for, or
// that cannot be found out, it is deleted, once the ledger has seen its stamp:
// nobody was given its secret.
func (q *request) prove(ctx context.Context, mint *ledger.Mint) *refusal {
	row := mint.Row()
	seen, err := q.g.lookAt(ctx, ledger.Call{ID: row.ID, Team: row.Team, Credential: row.Credential, Cause: "to prove " + q.id})
	cause, no := "", (*refusal)(nil)
	switch {
	case errors.Is(err, ledger.ErrNone):
		cause, no = "upstream did not have it when it was read back", refuse(policy.UpstreamShape)
	case err != nil:
		cause, no = "it could not be read back: "+err.Error(), refuseUnread(err)
	default:
		proof := q.shaped.mint.Prove(seen)
		q.g.meter.MintRead(proof.Silent)
		if proof.Another {
			q.g.logger.Error("GoodAccess answered a mint with the id of another token; nothing is done about that one",
				zap.String("token", row.ID))
			q.record.TokenID = ""
			q.settled(mint.Disown(ctx, "the reply named another token"))
			return refuse(policy.UpstreamShape)
		}
		if len(proof.Wider) > 0 {
			q.g.meter.MintWidened()
			q.g.logger.Error("GoodAccess made a token that is not as it was asked for; it is deleted if it has the stamp of this mint",
				zap.String("token", row.ID), zap.String("fields", strings.Join(proof.Wider, ", ")))
			cause, no = "it is not as it was asked for: "+strings.Join(proof.Wider, ", "), refuse(policy.UpstreamWidened)
		}
	}
	if no == nil {
		return nil
	}
	q.record.TokenID = ""
	q.settled(mint.Revoke(ctx, cause))
	return no
}
