package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"github.com/scopegate/scopegate/store"
)

const (
	// lookEvery is how often the queue is looked at that nobody told of.
	lookEvery = time.Second
	// batch is how many rows are dealt with before anything else is looked at.
	batch = 32
	// turn is for how long a replica takes the queue. It is longer than any
	// call that is made in it.
	turn = 2 * time.Minute

	// perDeletion is how many calls a deletion takes: its own, and its proof.
	perDeletion = 2
	// perIdentity is how many it takes to find out whose token an id names.
	perIdentity = 1

	firstPause = time.Second
	longPause  = 10 * time.Minute
)

// The leases by which replicas take turns.
const (
	leaseDebts = "tokens"
	leaseRun   = "reconcile"
	leaseDue   = "reconcile-due"
)

// Run pays what is owed until the context ends. Each replica runs it; one at a
// time does the work.
func (l *Ledger) Run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var next time.Time
	var looks, counts pace
	for {
		if l.API.Ready() {
			if now := time.Now(); !now.Before(next) {
				next = now.Add(sweepEvery)
				l.try("looking for tokens to delete", l.inTurn(ctx, func() error { return l.sweep(ctx, &looks) }))
				if counts.due() {
					l.try("counting tokens", counts.do(func() error { return l.count(ctx) }))
				}
			}
			l.try("deleting tokens", l.settle(ctx))
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-l.wake:
		}
	}
}

// parting bounds what is done when the work has ended.
const parting = 5 * time.Second

func (l *Ledger) try(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		l.Warn(what+" failed; it is tried again", err)
	}
}

// inTurn does what one replica at a time does, and gives the queue back: nobody
// waits for the turn of a replica that dies while it has nothing to do.
func (l *Ledger) inTurn(ctx context.Context, do func() error) error {
	held, err := l.hasTurn(ctx)
	if err != nil || !held {
		return err
	}
	err = do()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	return errors.Join(err, l.Rows.Release(end, leaseDebts, l.Holder))
}

// hasTurn takes the queue, or goes on having it.
func (l *Ledger) hasTurn(ctx context.Context) (bool, error) {
	return l.Rows.Acquire(ctx, leaseDebts, l.Holder, turn)
}

// settle deals with rows that are due. It asks first and takes the queue only
// where there is something in it: most of the time there is nothing.
func (l *Ledger) settle(ctx context.Context) error {
	due, err := l.Rows.DueTokens(ctx, l.payable(), 1)
	if err != nil || len(due) == 0 {
		return err
	}
	return l.inTurn(ctx, func() error { return l.settleBatch(ctx) })
}

// settleBatch asks again what is due, since another replica may just have dealt
// with it. Where there is more, it has itself called again, behind what else is
// to be done.
func (l *Ledger) settleBatch(ctx context.Context) error {
	due, err := l.Rows.DueTokens(ctx, l.payable(), batch)
	if err != nil {
		return err
	}
	for _, t := range due {
		if held, err := l.hasTurn(ctx); err != nil || !held {
			return err
		}
		if err := l.settleOne(ctx, t); err != nil {
			return err
		}
	}
	if len(due) == batch {
		l.poke()
	}
	return nil
}

// payable are the states whose rows can be dealt with now. All others would
// only stand before them in the queue.
func (l *Ledger) payable() []string {
	states := []string{Intent}
	if !l.Skewed() {
		states = append(states, Live)
		if l.budget.open(perIdentity) {
			states = append(states, Unknown)
		}
	}
	if l.budget.open(perDeletion) {
		states = append(states, Revoking)
	}
	return states
}

// settleOne does what is due about a row. That somebody else changed it in the
// meantime is no failure: then nothing is due of what was read.
func (l *Ledger) settleOne(ctx context.Context, t store.Token) error {
	err := l.dueNow(ctx, t)
	if errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (l *Ledger) dueNow(ctx context.Context, t store.Token) error {
	switch {
	case t.State == Intent:
		_, err := l.lose(ctx, t, "the mint was not finished")
		return err
	case l.expired(t):
		_, err := l.move(ctx, t, Gone, "it has expired", nil)
		return err
	case t.State == Revoking:
		return l.pay(ctx, t)
	case t.State == Unknown && t.ID != "":
		return l.identify(ctx, t)
	}
	return nil
}

// lose gives a mint up whose reply did not come, or came to nothing, since
// nobody has the secret of its token. That is looked for: under the id that
// upstream named, or else by its stamp.
func (l *Ledger) lose(ctx context.Context, t store.Token, cause string) (lost store.Token, err error) {
	cause = told(cause)
	if t.State == Unknown {
		t.Cause, t.Due = cause, l.foundOut(t)
		lost, err = l.Rows.UpdateToken(ctx, t, nil)
	} else {
		lost, err = l.move(ctx, t, Unknown, cause, nil)
	}
	switch {
	case err != nil:
	case t.ID != "":
		l.poke()
	default:
		l.lost.Store(true)
	}
	return lost, err
}

// foundOut is when something is to be done about a token that may be there or
// not: at once where there is an id to ask for; without one, when it must have
// expired.
func (l *Ledger) foundOut(t store.Token) time.Time {
	if t.ID == "" {
		return lastsUntil(t)
	}
	return l.Now()
}

// identify asks upstream whose token it named for a mint of which nothing else
// is known, and has it deleted if it is this mint's. Upstream may have named
// another one: somebody else's must not be deleted for that. Nothing but the
// stamp is proof, and a row that says so is written before the token is
// deleted, so that no later process has to ask again.
func (l *Ledger) identify(ctx context.Context, t store.Token) error {
	restored, err := l.Rows.Restoration(ctx)
	if err != nil {
		return err
	}
	if !restored.IsZero() {
		// A backup may be from just before the token went live, which it has
		// forgotten. Whether it is deleted is for the operator to say.
		t.Due = l.Now().Add(longPause)
		_, err := l.Rows.UpdateToken(ctx, t, nil)
		return err
	}
	if !l.budget.take(perIdentity) {
		return nil
	}
	call := Call{ID: t.ID, Team: t.Team, Credential: t.Credential, Cause: "whether it is ours: " + t.Cause}
	seen, err := l.API.Read(ctx, call)
	switch {
	case errors.Is(err, ErrNone):
		// No proof of anything: it may be there only later, or under another id.
		return l.disown(ctx, t, "upstream does not have "+t.ID+", which it named")
	case err != nil:
		_, err = l.later(ctx, t, err)
		return err
	case seen.Nonce == t.Nonce:
		t.Due = l.Now()
		if _, err = l.move(ctx, t, Revoking, t.Cause, nil); err == nil {
			l.poke() // it is paid in a turn of its own
		}
		return err
	case seen.Name == "" && seen.Nonce == "":
		// It may be ours, and would not be found again without its id.
		_, err = l.later(ctx, t, errNameless)
		return err
	}
	call.Cause = "upstream named it for a mint that did not make it; it is left alone"
	if err := l.API.Note(call); err != nil {
		_, err = l.later(ctx, t, err)
		return err
	}
	l.Warn("GoodAccess answered a mint with the id of another token; nothing is done about that one", fmt.Errorf("token %s", t.ID))
	return l.disown(ctx, t, "upstream named "+t.ID+", which is another token")
}

var errNameless = errors.New("upstream does not show its name, so that it may be anybody's: it is not deleted")

// disown forgets the id that upstream named. The mint's own token, if there is
// one, is looked for by its stamp.
func (l *Ledger) disown(ctx context.Context, t store.Token, cause string) error {
	t.ID, t.Attempts, t.Failure = "", 0, ""
	_, err := l.lose(ctx, t, cause)
	return err
}

// pay tries to delete a token for good.
func (l *Ledger) pay(ctx context.Context, t store.Token) error {
	if !l.budget.take(perDeletion) {
		return nil
	}
	call := Call{ID: t.ID, Team: t.Team, Credential: t.Credential, Cause: t.Cause}
	err := l.API.Delete(ctx, call)
	if err == nil {
		err = l.prove(ctx, call)
	}
	_, err = l.Deleted(ctx, t, err)
	return err
}

// errStillThere is an answer to a deletion that turned out not to be true.
var errStillThere = errors.New("upstream said that it deleted the token, and still has it")

// prove asks for a token that upstream says is deleted. No answer but that
// there is none will do.
func (l *Ledger) prove(ctx context.Context, c Call) error {
	_, err := l.API.Read(ctx, c)
	if err == nil {
		return errStillThere
	}
	return err
}

// Deleted says how an attempt to delete a token ended: with ErrNone, which is
// proof that it is gone, or with any other error, after which it is tried
// again. Without an error upstream has said that it did, and is asked.
func (l *Ledger) Deleted(ctx context.Context, t store.Token, outcome error) (store.Token, error) {
	if outcome == nil {
		outcome = l.prove(ctx, Call{ID: t.ID, Team: t.Team, Credential: t.Credential, Cause: "to prove its deletion"})
	}
	if errors.Is(outcome, ErrNone) {
		return l.move(ctx, t, Gone, t.Cause, nil)
	}
	if t.State != Revoking {
		return t, fmt.Errorf("%w: a deletion of a token that is %s", ErrMove, t.State)
	}
	return l.later(ctx, t, outcome)
}

// later tries again what has failed, after a pause.
func (l *Ledger) later(ctx context.Context, t store.Token, outcome error) (store.Token, error) {
	t.Attempts++
	t.Failure = told(outcome.Error())
	next := pause(t.Attempts)
	if wait, ok := errors.AsType[*Wait](outcome); ok {
		next = max(next, l.budget.hold(wait.For))
	}
	t.Due = l.Now().Add(next)
	return l.Rows.UpdateToken(ctx, t, nil)
}

// told makes of what was said somewhere what every store can keep and a terminal
// can show: a proxy on the way to upstream, for one, has its own bytes in the
// error of a call. A row that could not be stored for that would stay due, and
// upstream be asked about it again without a pause, before all other rows.
func told(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	return clipped(text)
}

// clipped is as much of a text as is told.
func clipped(text string) string {
	if len(text) <= longestText {
		return text
	}
	return strings.ToValidUTF8(text[:longestText], "") + "…"
}

// pause is how long to wait after so many attempts: doubled each time, up to
// a bound, and never the same for all that failed at one time.
func pause(attempts int) time.Duration {
	d := longPause
	if attempts < 11 {
		d = min(firstPause<<(attempts-1), longPause)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // it spreads retries, nobody gains by guessing it
}
