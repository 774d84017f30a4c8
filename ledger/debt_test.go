package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/scopegate/scopegate/store"
)

func TestPause(t *testing.T) {
	want := firstPause
	for attempts := 1; attempts < 100; attempts++ {
		least, most := time.Duration(1<<62), time.Duration(0)
		for range 200 {
			d := pause(attempts)
			least, most = min(least, d), max(most, d)
		}
		if least < want/2 || most >= want || most-least < want/8 {
			t.Errorf("after %d attempts: from %s to %s, want between %s and %s", attempts, least, most, want/2, want)
		}
		want = min(2*want, longPause)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget()
		taken := 0
		for b.take(1) {
			taken++
		}
		if taken != perMinute || b.open(1) {
			t.Errorf("%d at once", taken)
		}
		// A reconciliation leaves half of what there is, and waits for its own.
		if wait := b.takeSpare(); wait < 30*time.Second || wait > 31*time.Second {
			t.Errorf("it waits %s", wait)
		}
		time.Sleep(time.Second)
		if !b.open(5) || b.open(6) || !b.take(5) || b.take(1) {
			t.Error("a second is not worth five calls")
		}
		time.Sleep(time.Hour)
		for taken = 0; b.takeSpare() == 0; taken++ {
		}
		if taken != perMinute-spare || !b.take(spare) || b.take(1) {
			t.Errorf("a reconciliation took %d", taken)
		}
		time.Sleep(time.Hour)
		for asked, held := range map[time.Duration]time.Duration{0: time.Minute, -1: time.Minute, 5 * time.Second: 5 * time.Second, day: time.Hour} {
			if got := b.hold(asked); got != held {
				t.Errorf("asked for %s, holds for %s", asked, got)
			}
			if again := b.hold(time.Second); again != held {
				t.Errorf("a shorter wait makes it %s", again)
			}
			if b.open(1) || b.take(1) || b.takeSpare() < held || b.heldFor() != held {
				t.Error("calls are made while it holds")
			}
			time.Sleep(held)
			if !b.open(1) || b.heldFor() != 0 {
				t.Errorf("it holds on after %s", held)
			}
		}
	})
}

func TestDeletion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.owes(t)
		if _, err := w.Find(t.Context(), team, row.ID); err != nil {
			t.Errorf("its team cannot ask for its end again: %v", err)
		}
		if ids, _ := w.IDs(t.Context(), team); len(ids) != 0 {
			t.Errorf("its team is still shown it: %v", ids)
		}
		w.runs(t, 2*time.Second)
		w.is(t, row.Nonce, Gone)
		if want := []string{"delete " + row.ID, "read " + row.ID}; !slices.Equal(w.up.calls, want) {
			t.Errorf("upstream was asked %v", w.up.calls)
		}
		w.runs(t, time.Minute)
		if len(w.up.calls) != 2 {
			t.Errorf("it was asked on: %v", w.up.calls)
		}
	})
}

// What fails is tried again with growing pauses, and forgotten never.
func TestDeletionFails(t *testing.T) {
	for name, err := range map[string]error{
		"it is refused":             errors.New("GoodAccess answered 500"),
		"the reply is lost":         errReset,
		"upstream lies that it did": nil,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				row := w.owes(t)
				var at []time.Time
				w.up.before = func(operation, _ string) error {
					if operation == "delete" {
						at = append(at, time.Now())
						return err
					}
					return nil
				}
				w.up.after = func(operation, id string) error {
					if operation == "delete" {
						w.up.add(id, row.Nonce)
					}
					return nil
				}
				w.runs(t, 2*time.Minute)
				now := w.is(t, row.Nonce, Revoking)
				if now.Attempts != len(at) || now.Failure == "" || now.Attempts < 6 || now.Attempts > 10 {
					t.Errorf("%d attempts: %+v", len(at), now)
				}
				for i := 1; i < len(at); i++ {
					full := firstPause << (i - 1)
					if gap := at[i].Sub(at[i-1]); gap < full/2 || gap > full+lookEvery {
						t.Errorf("the pause before attempt %d was %s, of %s", i+1, gap, full)
					}
				}
				w.up.heal()
				w.runs(t, 3*time.Minute)
				w.is(t, row.Nonce, Gone)
				if w.up.has(row.ID) {
					t.Error("upstream still has it")
				}
			})
		})
	}
}

// Where upstream asks to be left alone, no call at all is made, and all are
// made afterwards.
func TestQueueHonoursWait(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var rows []store.Token
		for range 5 {
			rows = append(rows, w.owes(t))
		}
		w.up.faults(&Wait{For: 10 * time.Minute, Cause: errors.New("GoodAccess answered 429")}, "delete")
		w.runs(t, 2*time.Second)
		if n := w.up.asked("delete"); n != 1 {
			t.Fatalf("%d calls", n)
		}
		w.up.heal()
		w.runs(t, 9*time.Minute)
		if _, err := w.Reconcile(t.Context(), Reconciliation{}); err == nil {
			t.Error("a reconciliation does not care")
		}
		if n := len(w.up.calls); n != 1 {
			t.Errorf("%d calls while it should have waited", n)
		}
		w.runs(t, 2*time.Minute)
		for _, row := range rows {
			w.is(t, row.Nonce, Gone)
		}
	})
}

// A deletion that a caller tried holds the queue back too.
func TestCallersDeletion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row, err := w.Revoke(t.Context(), w.mint(t), "its team asked", 30*time.Second)
		ok(t, err)
		w.runs(t, 20*time.Second)
		if len(w.up.calls) != 0 {
			t.Errorf("the queue does not let the caller try: %v", w.up.calls)
		}
		if _, err := w.Deleted(t.Context(), row, &Wait{Cause: errReset}); err != nil {
			t.Error(err)
		}
		w.runs(t, patient-time.Second)
		if len(w.up.calls) != 0 {
			t.Errorf("no minute was waited: %v", w.up.calls)
		}
		w.runs(t, 3*time.Second)
		w.is(t, row.Nonce, Gone)

		// That upstream says it did is proved; that it says there is none is proof.
		row = w.owes(t)
		w.up.remove(row.ID)
		row, err = w.Deleted(t.Context(), row, nil)
		if err != nil || row.State != Gone {
			t.Errorf("%+v, %v", row, err)
		}
		row = w.owes(t)
		if row, err = w.Deleted(t.Context(), row, nil); err != nil || row.State != Revoking || row.Attempts != 1 {
			t.Errorf("upstream still has it: %+v, %v", row, err)
		}
		again, err := w.Revoke(t.Context(), row, "once more", time.Minute)
		if err != nil || again.Cause != row.Cause || !again.Due.Equal(time.Now().Add(time.Minute)) || again.Attempts != 1 {
			t.Errorf("tried out of turn: %+v, %v", again, err)
		}
		live := w.mint(t)
		if _, err := w.Deleted(t.Context(), live, errReset); !errors.Is(err, ErrMove) {
			t.Errorf("a failed deletion of a live token: %v", err)
		}
	})
}

// The ledger asks no more of upstream than it says, proofs included.
func TestQueueKeepsToItsBudget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const many = 250
		for range many {
			w.mint(t)
		}
		n, err := w.Drain(t.Context(), team, "drained")
		if err != nil || n != many {
			t.Fatalf("%d, %v", n, err)
		}
		w.runs(t, 30*time.Second)
		if n := len(w.up.calls); n < perMinute || n > perMinute*3/2+2 {
			t.Errorf("%d calls in half a minute", n)
		}
		w.runs(t, 40*time.Second)
		if n := len(w.up.all()); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// Two replicas share a queue: each token is deleted once, and the one that has
// nothing to do does not keep asking the store.
func TestQueueOfTwoReplicas(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for range 3 * batch {
			w.owes(t)
		}
		var under atomic.Int32
		w.up.before = func(string, string) error {
			if under.Add(1) > 1 {
				t.Error("both are at it")
			}
			time.Sleep(200 * time.Millisecond)
			under.Add(-1)
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var running sync.WaitGroup
		for _, l := range []*Ledger{w.Ledger, w.replica("two").Ledger} {
			running.Go(func() { l.Run(ctx) })
		}
		running.Wait()
		if n := w.rows.called("due"); n > 150 {
			t.Errorf("the store was asked %d times in a minute", n)
		}
		seen := map[string]bool{}
		for _, call := range w.up.calls {
			if seen[call] {
				t.Errorf("twice: %s", call)
			}
			seen[call] = true
		}
		if n := len(w.up.all()); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// A replica that ends or dies while it has nothing to do holds nobody up; one
// that dies at work does for no longer than a turn.
func TestQueueIsTakenOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.owes(t)
		w.runs(t, time.Second)
		w.is(t, row.Nonce, Gone)
		two := w.replica("two")
		row = w.owes(t)
		two.runs(t, time.Second)
		w.is(t, row.Nonce, Gone)

		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { two.Run(ctx) })
		synctest.Wait()
		if held, err := w.rows.Acquire(t.Context(), leaseDebts, "three", turn); err != nil || !held {
			t.Errorf("a replica that has nothing to do has the queue: %v", err)
		}
		ok(t, w.rows.Release(t.Context(), leaseDebts, "three"))
		end()
		running.Wait()

		row = w.owes(t)
		if held, err := w.rows.Acquire(t.Context(), leaseDebts, "dead", turn); err != nil || !held {
			t.Fatal(held, err)
		}
		two.runs(t, turn-2*time.Second)
		w.is(t, row.Nonce, Revoking)
		two.runs(t, 4*time.Second)
		w.is(t, row.Nonce, Gone)
	})
}

// Whatever instant a deletion is broken off at, it is done in the end.
func TestDeletionBrokenOff(t *testing.T) {
	for _, at := range []string{"before delete", "after delete", "before read", "storing"} {
		t.Run(at, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				row := w.owes(t)
				ctx, die := context.WithCancel(t.Context())
				defer die()
				switch at {
				case "before delete", "before read":
					w.up.before = func(operation, _ string) error {
						if "before "+operation == at {
							die()
							return ctx.Err()
						}
						return nil
					}
				case "after delete":
					w.up.after = func(string, string) error {
						die()
						return ctx.Err()
					}
				default:
					w.rows.fault = func(call string) error {
						if call == "update" {
							die()
							return ctx.Err()
						}
						return nil
					}
				}
				w.Run(ctx)
				w.is(t, row.Nonce, Revoking)
				w.up.heal()
				w.rows.fault = nil
				w.replica("two").runs(t, 3*time.Second)
				w.is(t, row.Nonce, Gone)
				if w.up.has(row.ID) {
					t.Error("upstream still has it")
				}
			})
		})
	}
}

// A store that fails makes nothing of what upstream did untrue.
func TestQueueWithoutItsStore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.owes(t)
		w.rows.fault = func(string) error { return errReset }
		w.runs(t, 5*time.Second)
		if len(w.up.calls) != 0 {
			t.Errorf("%v", w.up.calls)
		}
		w.rows.fault = nil
		w.up.away = true
		w.runs(t, 5*time.Second)
		if len(w.up.calls) != 0 {
			t.Errorf("without a configuration: %v", w.up.calls)
		}
		w.up.away = false
		w.runs(t, 2*time.Second)
		w.is(t, row.Nonce, Gone)
	})
}

// What a credential has made is owed once it is revoked or has expired, in the
// store or in the configuration, also what goes live only afterwards.
func TestSweep(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for id, c := range map[string]store.Credential{
			"revoked": {State: store.Revoked}, "active": {State: "active"}, "suspended": {State: "suspended"},
			"expired": {State: "active", Expires: time.Now().Add(-time.Second)},
			"expires": {State: "active", Expires: time.Now().Add(20 * time.Second)},
		} {
			c.ID, c.Team, c.Name = id, team, id
			_, err := w.rows.Insert(t.Context(), c, 0)
			ok(t, err)
		}
		mintBy := func(credential string) *Mint {
			id, nonce := w.next()
			a := w.asks(nonce)
			a.Credential = credential
			m, err := w.Begin(t.Context(), a)
			ok(t, err)
			w.up.add(id, nonce)
			ok(t, m.Made(t.Context(), id))
			return m
		}
		rows := map[string]string{}
		for _, credential := range []string{"revoked", "active", "suspended", "expired", "expires", "static", "static-ended"} {
			m := mintBy(credential)
			ok(t, m.Live(t.Context(), nil))
			rows[credential] = m.Row().Nonce
		}
		w.up.ended = []string{"static-ended", "without tokens"}
		late := mintBy("revoked")
		w.runs(t, 2*time.Second)
		states := func() map[string]string {
			found := map[string]string{}
			for credential, nonce := range rows {
				found[credential] = w.row(t, nonce).State
			}
			return found
		}
		for credential, state := range states() {
			ends := slices.Contains([]string{"revoked", "expired", "static-ended"}, credential)
			if ends != (state == Gone) || !ends && state != Live {
				t.Errorf("%s: %s", credential, state)
			}
		}
		ok(t, late.Live(t.Context(), nil))
		w.runs(t, 40*time.Second)
		w.is(t, late.Row().Nonce, Gone)
		w.is(t, rows["expires"], Gone)
		w.is(t, rows["suspended"], Live)
	})
}

// However slow a look among all tokens is: of a credential that is known to have
// changed, and of one that makes a token late, it is seen within seconds whether
// it ended.
func TestChangedCredentialIsLookedAt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		mintBy := func(credential string) *Mint {
			c := store.Credential{ID: credential, Team: team, Name: credential, State: "active"}
			if credential == "late" {
				c.State = store.Revoked
			}
			_, err := w.rows.Insert(t.Context(), c, 0)
			ok(t, err)
			id, nonce := w.next()
			a := w.asks(nonce)
			a.Credential = credential
			m, err := w.Begin(t.Context(), a)
			ok(t, err)
			w.up.add(id, nonce)
			ok(t, m.Made(t.Context(), id))
			return m
		}
		revoked, suspended, late := mintBy("revoked"), mintBy("suspended"), mintBy("late")
		ok(t, revoked.Live(t.Context(), nil))
		ok(t, suspended.Live(t.Context(), nil))
		w.rows.fault = func(call string) error {
			if call == "stranded" {
				time.Sleep(time.Second)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		time.AfterFunc(5*time.Second, func() {
			for id, state := range map[string]string{"revoked": store.Revoked, "suspended": "suspended"} {
				row, err := w.rows.Credential(t.Context(), id)
				ok(t, err)
				row.State = state
				_, err = w.rows.Update(t.Context(), row)
				ok(t, err)
				w.Changed(id)
			}
			w.Changed("the configuration's")
		})
		time.AfterFunc(20*time.Second, func() { ok(t, late.Live(t.Context(), nil)) })
		w.Run(ctx)
		w.is(t, revoked.Row().Nonce, Gone)
		w.is(t, suspended.Row().Nonce, Live)
		w.is(t, late.Row().Nonce, Gone)
		if n := w.rows.called("stranded"); n != 1 {
			t.Errorf("%d looks among all tokens", n)
		}
	})
}

// Credentials of the configuration that have ended may be very many and stay
// there for good. Each is seen to once, and again where there is a reason.
func TestEndedCredentialsAreSeenToOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		late, id := w.begin(t)
		w.up.add(id, late.Row().Nonce)
		ok(t, late.Made(t.Context(), id))
		w.up.ended = []string{made, "another"}
		later := &pace{next: time.Now().Add(day)}
		sweeps := func(want int, why string) {
			t.Helper()
			before := w.rows.called("move")
			ok(t, w.sweep(t.Context(), later))
			if n := w.rows.called("move") - before; n != want {
				t.Errorf("%s: %d are seen to, not %d", why, n, want)
			}
		}
		sweeps(2, "the first time")
		sweeps(0, "again")
		ok(t, late.Live(t.Context(), nil))
		sweeps(1, "one made a token late")
		w.is(t, late.Row().Nonce, Revoking)
		sweeps(0, "again")
		w.up.ended = nil // in another configuration
		sweeps(0, "none has ended")
		w.up.ended = []string{made}
		sweeps(1, "one ends again")
		w.AnyChanged() // the store was replaced
		sweeps(1, "anything may have changed")
		w.AnyChanged()
		w.rows.fault = func(call string) error {
			if call == "move" {
				return errReset
			}
			return nil
		}
		if err := w.sweep(t.Context(), later); err == nil {
			t.Error("nothing went wrong")
		}
		w.rows.fault = nil
		sweeps(1, "after one that failed")
	})
}

// What changed is not forgotten because nobody could be asked, and very many
// changes take no memory.
func TestChanges(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ok(t, w.sweep(t.Context(), &pace{}))
		later := &pace{next: time.Now().Add(day)}
		w.Changed("a")
		w.Changed("b")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.sweep(ended, later); err == nil {
			t.Error("it asked nobody")
		}
		if ids, all := w.changes.take(); all || !slices.Equal(ids, []string{"a", "b"}) {
			t.Errorf("left: %v, %v", ids, all)
		}
		for i := range mostChanges + 2 {
			w.Changed(fmt.Sprint(i))
		}
		if ids, all := w.changes.take(); !all || len(ids) > 1 {
			t.Errorf("%d one by one, %v", len(ids), all)
		}
		w.AnyChanged()
		ok(t, w.sweep(t.Context(), later))
		if n := w.rows.called("stranded"); n != 2 {
			t.Errorf("%d looks", n)
		}
	})
}

// A look among very many tokens may take long: it is given the time, and what it
// finds does not need another one for each few tokens.
func TestSweepLooksOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 3 * batch {
			id := fmt.Sprint("revoked", i)
			_, err := w.rows.Insert(t.Context(), store.Credential{ID: id, Team: team, Name: id, State: store.Revoked}, 0)
			ok(t, err)
			for range 2 {
				token, nonce := w.next()
				a := w.asks(nonce)
				a.Credential = id
				m, err := w.Begin(t.Context(), a)
				ok(t, err)
				ok(t, m.Made(t.Context(), token))
				ok(t, m.Live(t.Context(), nil))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		w.Run(ctx)
		page, _, err := w.rows.Tokens(t.Context(), store.TokenFilter{States: []string{Live}})
		if err != nil || len(page) != 0 || w.rows.called("stranded") != 1 {
			t.Errorf("%d live after %d looks, %v", len(page), w.rows.called("stranded"), err)
		}
		if w.rows.patience != lookTime {
			t.Errorf("a look may take %s", w.rows.patience)
		}
	})
}

// What goes wrong on the way to upstream is told in words of which some are
// not ours: no store, and no terminal, must stumble over them.
func TestFailureIsPlainText(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.owes(t)
		w.up.faults(errors.New("a proxy says: Zugriff verweigert f\xfcr\x00 Sie\r\n\x1b[2J"+strings.Repeat("ě", longestText)), "delete")
		w.runs(t, time.Second)
		failure := w.is(t, row.Nonce, Revoking).Failure
		if !strings.HasPrefix(failure, "a proxy says: Zugriff verweigert f\ufffdr\ufffd Sie\ufffd\ufffd\ufffd[2Jě") || !utf8.ValidString(failure) || len(failure) > longestText+3 {
			t.Errorf("%q", failure)
		}
		m, _ := w.begin(t)
		ok(t, m.Lost(t.Context(), "the reply was lost: \xff\x1b"))
		if row := w.is(t, m.Row().Nonce, Unknown); row.Cause != "the reply was lost: \ufffd\ufffd" {
			t.Errorf("%q", row.Cause)
		}
	})
}

func TestCascadeAndDrain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.mint(t)
		id, nonce := w.next()
		_, err := w.Adopt(t.Context(), store.Token{Nonce: nonce, ID: id, Team: team}, 0)
		ok(t, err)
		for _, refused := range []func() (int, error){
			func() (int, error) { return w.Cascade(t.Context(), "", "nobody") },
			func() (int, error) { return w.Drain(t.Context(), "", "nobody") },
		} {
			if n, err := refused(); err == nil || n != 0 {
				t.Errorf("%d, %v", n, err)
			}
		}
		if n, err := w.Cascade(t.Context(), made, "revoked"); err != nil || n != 1 {
			t.Errorf("cascade: %d, %v", n, err)
		}
		if row := w.is(t, first.Nonce, Revoking); row.Cause != "revoked" {
			t.Errorf("%+v", row)
		}
		w.is(t, nonce, Live)
		for want := 1; want >= 0; want-- {
			if n, err := w.Drain(t.Context(), team, "drained"); err != nil || n != want {
				t.Errorf("drain: %d, %v", n, err)
			}
		}
		if n, err := w.Drain(t.Context(), "blue", "drained"); err != nil || n != 0 {
			t.Errorf("another team's: %d, %v", n, err)
		}
		w.runs(t, 2*time.Second)
		w.is(t, first.Nonce, Gone)
		w.is(t, nonce, Gone)
	})
}

// Looking through very many tokens must not become all that a process does.
func TestSlowLooksAreRare(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runs(t, 10*time.Minute-5*time.Second)
		if n := w.rows.called("stranded"); n != 40 {
			t.Errorf("%d looks in ten minutes", n)
		}
		w.rows.fault = func(call string) error {
			if call == "stranded" {
				time.Sleep(time.Second)
			}
			return nil
		}
		w.rows.calls = map[string]int{}
		w.runs(t, 10*time.Minute-5*time.Second)
		if n := w.rows.called("stranded"); n != 6 {
			t.Errorf("%d looks in ten minutes that take a second each", n)
		}
		w.rows.calls = map[string]int{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(10*time.Second, func() { w.Changed(made) })
		time.AfterFunc(20*time.Second, w.AnyChanged)
		w.Run(ctx)
		if n := w.rows.called("stranded"); n != 2 {
			t.Errorf("%d looks in a minute, of which the second is for what changed nobody knows where", n)
		}
	})
}

// What is owed is told as often as it is looked for, with how old it is:
// attempts do not make it younger.
func TestCounts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.owes(t)
		w.up.faults(errReset, "delete")
		w.runs(t, 5*time.Minute)
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		if len(w.events.counts) != 1 {
			t.Fatalf("%+v", w.events.counts)
		}
		got := w.events.counts[0]
		if got.State != Revoking || got.N != 1 || got.Team != team || !got.Oldest.Equal(row.Changed) {
			t.Errorf("%+v, owed since %s", got, row.Changed)
		}
	})
}
