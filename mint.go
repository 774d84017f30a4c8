package scopegate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

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

	ctx, cancel := q.carriedThrough(storePatience)
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

// mintWithin is how long a mint may take before it is given up: the request
// itself, its proof with all its retries, and what the store takes.
func (g *Gateway) mintWithin() time.Duration {
	return 2*g.Upstream.Patience() + 4*storePatience
}

// mayHaveHappened reports whether a change that failed may have been made
// upstream all the same. Where it is not known, it may.
func mayHaveHappened(err error) bool {
	var e *upstream.Error
	if !errors.As(err, &e) {
		return true
	}
	return !e.Unsent && e.Reason != policy.UpstreamUnauthorized && e.Reason != policy.UpstreamForbidden
}

// drop takes a mint back that upstream certainly did not act on.
func (q *request) drop() {
	ctx, cancel := q.carriedThrough(storePatience)
	defer cancel()
	q.settled(q.owned.mint.Drop(ctx))
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
	ctx, cancel := q.carriedThrough(storePatience)
	defer cancel()
	q.settled(q.owned.mint.Lost(ctx, "the request was broken off"))
}

// answerMint hands a new token out once it is certain that it is as it was
// asked for and that it can be ended.
func (q *request) answerMint(resp *upstream.Response) bool {
	ctx, cancel := q.carriedThrough(q.g.mintWithin())
	defer cancel()
	answer, no := q.minted(ctx, resp)
	if no != nil {
		q.owned.unknown = true
		q.answerFailure(no.of(resp))
		return false
	}
	return q.handOut(answer)
}

// minted takes the new token into the ledger: as made, as proved, and as live,
// each before anything more is done with it.
func (q *request) minted(ctx context.Context, resp *upstream.Response) (*mintAnswer, *refusal) {
	mint := q.owned.mint
	body, err := readWhole(resp)
	q.record.Fingerprints = q.g.fingerprints(body)
	var id string
	if err == nil {
		id, err = q.g.mintedID(body)
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
	if no := q.prove(ctx); no != nil {
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

// mintedID is the id of the token that an answer hands out.
func (g *Gateway) mintedID(body []byte) (string, error) {
	id, err := tokens.MintedID(body)
	if err == nil && g.isMaster(id) {
		err = fmt.Errorf("%w: a new token with the id of the master", tokens.ErrShape)
	}
	return id, err
}

// prove reads a new token back. Where it is wider than what was asked for, or
// that cannot be found out, it is not handed out.
func (q *request) prove(ctx context.Context) *refusal {
	row := q.owned.mint.Row()
	seen, err := q.g.lookAt(ctx, ledger.Call{ID: row.ID, Team: row.Team, Credential: row.Credential, Cause: "to prove " + q.id})
	switch {
	case errors.Is(err, ledger.ErrNone):
		return q.withdraw(ctx, "upstream did not have it when it was read back", refuse(policy.UpstreamShape))
	case err != nil:
		return q.withdraw(ctx, "it could not be read back: "+err.Error(), refuseUnread(err))
	}
	proof := q.shaped.mint.Prove(seen)
	q.g.meter.MintRead(proof.Silent)
	switch {
	case proof.Another:
		q.g.logger.Error("GoodAccess answered a mint with the id of another token; nothing is done about that one",
			zap.String("token", row.ID))
		q.record.TokenID = ""
		q.settled(q.owned.mint.Disown(ctx, "upstream named "+row.ID+", which is another token"))
		return refuse(policy.UpstreamShape)
	case len(proof.Wider) > 0:
		fields := strings.Join(proof.Wider, ", ")
		q.g.meter.MintWidened()
		q.g.logger.Error("GoodAccess made a token that is not as it was asked for; it is deleted if it has the stamp of this mint",
			zap.String("token", row.ID), zap.String("fields", fields))
		return q.withdraw(ctx, "it is not as it was asked for: "+fields, refuse(policy.UpstreamWidened))
	}
	return nil
}

// withdraw has a new token deleted, once the ledger has seen its stamp: nobody
// was given its secret.
func (q *request) withdraw(ctx context.Context, cause string, no *refusal) *refusal {
	q.record.TokenID = ""
	q.settled(q.owned.mint.Revoke(ctx, cause))
	return no
}

// handOut answers with a token.
func (q *request) handOut(answer *mintAnswer) bool {
	if len(answer.Clamped) > 0 {
		q.w.Header().Set("Scopegate-Clamped", strings.Join(answer.Clamped, ", "))
	}
	return q.reply(answer.Status, q.one(answer.ContentType), answer.Body)
}

// countMint counts how a mint ended, by what is on record of it.
func (q *request) countMint() {
	if q.match.Operation == nil || q.match.Operation.ID != scopes.CreateToken || q.caller == nil || q.owned.again.answered() {
		return // an answer given again was counted when it was new
	}
	outcome := metrics.Refused
	switch {
	case q.record.Phase != audit.Ended:
	case q.record.TokenID != "" && len(q.record.Clamped) > 0:
		outcome = metrics.Clamped
	case q.record.TokenID != "":
		outcome = metrics.Minted
	case q.owned.unknown:
		outcome = metrics.Unknown
	default:
		outcome = metrics.Failed
	}
	q.g.meter.Mint(q.caller.Identity.Team.Name, outcome)
}
