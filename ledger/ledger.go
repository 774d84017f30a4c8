// Package ledger knows which upstream tokens the gateway caused, whose they
// are, and which of them it still owes the end of. It decides what may become
// of a token's row, and sees to it that what is owed is paid; it reaches
// GoodAccess only through an API that it is given, which records every call,
// and it never holds a secret.
//
// A row is written before the request for its token leaves, and from then on
// there is no way out of the ledger but proof: a row is gone once upstream has
// said of its very id that there is no such token, or once the token has
// expired. That a list does not have it proves nothing, since how GoodAccess
// pages its lists is not documented.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/store"
)

// The states of a row.
const (
	// Intent is a token that is being asked for. Its row has an id from when
	// upstream has answered with one.
	Intent = "intent"
	// Live is a token that its team was given.
	Live = store.TokenLive
	// Unknown is one whose reply was lost, or came to nothing: it may have been
	// made or not, and its secret is known to nobody. An id that its row has is
	// what upstream named, and may be somebody else's token.
	Unknown = "unknown"
	// Revoking is one that is to be deleted, until upstream no longer has it.
	// What comes here has been live, or upstream has shown its stamp: a row in
	// this state is enough to delete what has its id.
	Revoking = "revoking"
	// Gone is one that upstream has no longer.
	Gone = store.TokenGone
)

// moves are all ways from one state to another. An intent of which it is
// certain that upstream never acted on it is dropped, which is no state.
var moves = map[string][]string{
	Intent:   {Live, Unknown},
	Unknown:  {Live, Revoking, Gone},
	Live:     {Revoking, Gone},
	Revoking: {Gone},
}

// slack is how long after its expiry a token is taken to live: upstream's clock
// may differ, and a request whose reply was lost may be carried out late.
const slack = time.Hour

var (
	// ErrMove says that a row does not go from the one state to the other, or
	// not without an id.
	ErrMove = errors.New("no such transition")

	// ErrOvertaken says that a mint took so long that it was given up: its
	// token is deleted, or will be.
	ErrOvertaken = errors.New("the mint was given up in the meantime")

	// ErrNone is what an API answers of a token that upstream says it does not
	// have, in words that can be nothing else.
	ErrNone = errors.New("upstream has no such token")
)

// Rows is the slice of a store that a ledger uses.
type Rows interface {
	InsertToken(ctx context.Context, t store.Token, b store.TokenBounds, a *store.Answer) (store.Token, error)
	UpdateToken(ctx context.Context, t store.Token, sealed []byte) (store.Token, error)
	DropToken(ctx context.Context, nonce string, version int64, day string) error
	Credential(ctx context.Context, id string) (store.Credential, error)
	Token(ctx context.Context, id string) (store.Token, error)
	TokenByNonce(ctx context.Context, nonce string) (store.Token, error)
	FindTokens(ctx context.Context, ids, nonces []string) ([]store.Token, error)
	Tokens(ctx context.Context, f store.TokenFilter) (page []store.Token, next string, err error)
	TeamTokenIDs(ctx context.Context, team string) ([]string, error)
	DueTokens(ctx context.Context, states []string, limit int) ([]store.Token, error)
	MoveTokens(ctx context.Context, f store.TokenFilter, from, to, cause string) (int, error)
	StrandedTokens(ctx context.Context, limit int) ([]store.Token, error)
	TokenCounts(ctx context.Context, aged string) ([]store.TokenCount, error)
	Restoration(ctx context.Context) (time.Time, error)
	EndRestoration(ctx context.Context) error
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// API is GoodAccess as a ledger sees it. Each call is recorded before it
// leaves, and fails if that cannot be done.
type API interface {
	// Delete asks upstream to delete a token. No error means that upstream
	// says it did, which is no proof yet.
	Delete(ctx context.Context, c Call) error
	// Read asks for one token.
	Read(ctx context.Context, c Call) (Seen, error)
	// List calls each with every token that upstream lists.
	List(ctx context.Context, cause string, each func(Seen) error) error
	// Note records something that was found or decided and sends nothing.
	Note(c Call) error
	// Ended are the credentials of the configuration that are revoked or have
	// expired.
	Ended(now time.Time) []string
	// Ready reports whether there is a configuration to act under.
	Ready() bool
}

// Call is one token and why upstream is asked about it.
type Call struct {
	ID               string
	Team, Credential string
	Cause            string
}

// Wait is the error of an API that upstream asked to come back later.
//
//nolint:errname // it says what to do, as much as what went wrong
type Wait struct {
	For   time.Duration // 0 where upstream did not say
	Cause error
}

func (w *Wait) Error() string { return w.Cause.Error() }

func (w *Wait) Unwrap() error { return w.Cause }

// Seen is a token as upstream shows it.
type Seen struct {
	ID   string // in lower case
	Name string // without the stamp

	// Nonce is that of a genuine stamp of this gateway; "" is none.
	Nonce string

	// Differs tells which fields are not as a row has them.
	Differs func(store.Token) []string
}

// Events is told what the gateway should count.
type Events interface {
	Tokens([]store.TokenCount)
	Reconciled(*Report)
}

// Options are what a ledger is made of.
type Options struct {
	Rows   Rows
	API    API
	Events Events
	Now    func() time.Time // the store's clock, as well as it is known
	Holder string           // this process, among those that take turns
	Warn   func(msg string, err error)

	// Skewed reports whether the store's clock and this machine's differ too
	// much. Then nothing is taken to have expired: one of them is wrong, and
	// whose token is taken to be gone would never be ended.
	Skewed func() bool
}

// Ledger keeps the rows of one gateway. It is safe for concurrent use.
type Ledger struct {
	Options
	wake   chan struct{}
	budget *budget
	lost   atomic.Bool   // a reply, since the last reconciliation
	turns  atomic.Uint64 // names of turns

	changes changes // of credentials, since the last sweep

	seenTo map[string]bool // ended credentials of the configuration; Run's alone
}

// New returns a ledger. Run has to run for what is owed to be paid.
func New(o Options) *Ledger {
	return &Ledger{Options: o, wake: make(chan struct{}, 1), budget: newBudget()}
}

// turn is a name that no other turn has, nor this one at another time.
func (l *Ledger) turn() string { return fmt.Sprintf("%s %d", l.Holder, l.turns.Add(1)) }

// move takes a row from its state to another. Whoever changed it first wins:
// the error is then store.ErrChanged.
func (l *Ledger) move(ctx context.Context, t store.Token, to, cause string, sealed []byte) (store.Token, error) {
	if !slices.Contains(moves[t.State], to) {
		return t, fmt.Errorf("%w: from %s to %s", ErrMove, t.State, to)
	}
	if t.ID == "" && (to == Live || to == Revoking) {
		// It could not be asked for, nor would it be found by its stamp any more.
		return t, fmt.Errorf("%w: from %s to %s without an id", ErrMove, t.State, to)
	}
	t.State, t.Cause = to, cause
	switch to {
	case Gone:
		t.Due, t.Failure = time.Time{}, ""
	case Live:
		t.Due = lastsUntil(t)
	case Unknown:
		t.Due = l.foundOut(t)
	case Revoking:
		t.Attempts, t.Failure = 0, ""
	}
	moved, err := l.Rows.UpdateToken(ctx, t, sealed)
	if err != nil {
		return t, fmt.Errorf("moving a token to %s: %w", to, err)
	}
	return moved, nil
}

// lastsUntil is when a token is certain to have expired; zero is never.
func lastsUntil(t store.Token) time.Time {
	if t.Expires.IsZero() {
		return time.Time{}
	}
	return t.Expires.Add(slack)
}

// expired reports whether a token is certain to have expired.
func (l *Ledger) expired(t store.Token) bool {
	until := lastsUntil(t)
	return !until.IsZero() && !l.Now().Before(until) && !l.Skewed()
}

// Find returns the token with an id, if it is the team's and visible to it. A
// token of another team is looked for in the same way as one that does not
// exist, and the answer is the same: store.ErrNotFound.
func (l *Ledger) Find(ctx context.Context, team, id string) (store.Token, error) {
	t, err := l.Rows.Token(ctx, id)
	if err == nil && (t.Team != team || t.State != Live && t.State != Revoking) {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Token{}, err
	}
	return t, nil
}

// Nonce returns the token with a nonce.
func (l *Ledger) Nonce(ctx context.Context, nonce string) (store.Token, error) {
	return l.Rows.TokenByNonce(ctx, nonce)
}

// Vanished says that upstream, asked for a live token, has it no longer.
func (l *Ledger) Vanished(ctx context.Context, t store.Token) error {
	_, err := l.move(ctx, t, Gone, "it vanished", nil)
	if errors.Is(err, store.ErrChanged) {
		return nil
	}
	return err
}

// IDs returns the ids of the team's live tokens.
func (l *Ledger) IDs(ctx context.Context, team string) (map[string]struct{}, error) {
	list, err := l.Rows.TeamTokenIDs(ctx, team)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]struct{}, len(list))
	for _, id := range list {
		ids[id] = struct{}{}
	}
	return ids, nil
}

// Revoke says that a token is to be deleted. Whoever calls it tries that now,
// and tells of the outcome by Deleted; where it does not, the queue takes over
// after the given time.
func (l *Ledger) Revoke(ctx context.Context, t store.Token, cause string, after time.Duration) (store.Token, error) {
	due := l.Now().Add(after)
	if t.State == Revoking {
		// It is tried out of turn; the queue lets it be for as long.
		t.Due = due
		return l.Rows.UpdateToken(ctx, t, nil)
	}
	if t.State == Unknown {
		return t, fmt.Errorf("%w: from %s to %s before it is known whose it is", ErrMove, t.State, Revoking)
	}
	t.Due = due
	moved, err := l.move(ctx, t, Revoking, cause, nil)
	if err == nil && after <= 0 {
		l.poke()
	}
	return moved, err
}

// Adopt makes a token that was there before the ledger the team's. What may be
// adopted is for the caller to judge.
func (l *Ledger) Adopt(ctx context.Context, t store.Token, maxLive int) (store.Token, error) {
	t.State, t.Adopted, t.Due = Live, true, lastsUntil(t)
	return l.Rows.InsertToken(ctx, t, store.TokenBounds{Live: maxLive}, nil)
}

// Cascade owes the end of all that a credential has made.
func (l *Ledger) Cascade(ctx context.Context, credential, cause string) (int, error) {
	return l.revokeAll(ctx, store.TokenFilter{Credential: credential}, cause)
}

// Drain owes the end of all tokens of a team.
func (l *Ledger) Drain(ctx context.Context, team, cause string) (int, error) {
	return l.revokeAll(ctx, store.TokenFilter{Team: team}, cause)
}

func (l *Ledger) revokeAll(ctx context.Context, f store.TokenFilter, cause string) (int, error) {
	n, err := l.Rows.MoveTokens(ctx, f, Live, Revoking, cause)
	if n > 0 {
		l.poke()
	}
	return n, err
}

// Changed says that a credential may have been revoked, by this process or
// another.
func (l *Ledger) Changed(credential string) { l.changes.add(credential) }

// AnyChanged says that any credential may have been.
func (l *Ledger) AnyChanged() { l.changes.addAll() }

// poke has the queue looked at now.
func (l *Ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
