package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// All ways from one state to another, legal or not. What is not in the table
// of moves changes nothing.
func TestMoves(t *testing.T) {
	states := []string{Intent, Live, Unknown, Revoking, Gone}
	legal := map[[2]string]bool{
		{Intent, Live}: true, {Intent, Unknown}: true,
		{Unknown, Live}: true, {Unknown, Revoking}: true, {Unknown, Gone}: true,
		{Live, Revoking}: true, {Live, Gone}: true,
		{Revoking, Gone}: true,
	}
	inWorld(t, func(t *testing.T, w *world) {
		for _, from := range append(states, "", "odd") {
			for _, to := range append(states, "", "odd") {
				for _, known := range []bool{true, false} {
					id, nonce := w.next()
					if !known {
						id = ""
					}
					row, err := w.Rows.InsertToken(t.Context(), store.Token{
						Nonce: nonce, ID: id, Team: team, State: from, Expires: time.Now().Add(day), Attempts: 3, Failure: "old",
					}, store.TokenBounds{}, nil)
					ok(t, err)
					moved, err := w.move(t.Context(), row, to, "why", nil)
					may := legal[[2]string{from, to}] && (known || to != Live && to != Revoking)
					now := w.row(t, nonce)
					switch {
					case may && (err != nil || now.State != to || now.Cause != "why" || now.Version != 2 || moved.Version != 2):
						t.Errorf("%s to %s: %+v, %v", from, to, now, err)
					case !may && (!errors.Is(err, ErrMove) || now.Version != 1 || now.State != from):
						t.Errorf("%s to %s (id %v): %+v, %v", from, to, known, now, err)
					}
					if !may {
						continue
					}
					want := lastsUntil(row)
					switch to {
					case Gone:
						want = time.Time{}
					case Unknown:
						if known {
							want = time.Now()
						}
					case Revoking:
						want = row.Due
						if now.Attempts != 0 || now.Failure != "" {
							t.Errorf("%s to %s keeps what was tried before: %+v", from, to, now)
						}
					}
					if !now.Due.Equal(want) {
						t.Errorf("%s to %s is due at %s, not %s", from, to, now.Due, want)
					}
				}
			}
		}
	})
}

// Of two who take a row further, one does.
func TestMoveOfWhatChanged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.mint(t)
		_, err := w.Revoke(t.Context(), row, "first", time.Hour)
		ok(t, err)
		if _, err := w.Revoke(t.Context(), row, "second", 0); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%v", err)
		}
		if now := w.is(t, row.Nonce, Revoking); now.Cause != "first" {
			t.Errorf("%+v", now)
		}
		ok(t, w.Vanished(t.Context(), row)) // who comes too late has nothing to do
		w.is(t, row.Nonce, Revoking)
	})
}

func TestMint(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		row := w.is(t, m.Row().Nonce, Intent)
		if row.ID != "" || row.Name != "report" || row.Team != team || !row.Due.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("begun: %+v", row)
		}
		if _, err := w.Find(t.Context(), team, id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("its team finds it before it is made: %v", err)
		}
		if err := m.Live(t.Context(), nil); !errors.Is(err, ErrMove) {
			t.Errorf("live without an id: %v", err)
		}
		ok(t, m.Made(t.Context(), "ABCDEF00-0000-4000-8000-000000000001"))
		if row := w.is(t, m.Row().Nonce, Intent); row.ID != "abcdef00-0000-4000-8000-000000000001" {
			t.Errorf("made: %+v", row)
		}
		if err := m.Drop(t.Context()); !errors.Is(err, ErrMove) {
			t.Errorf("dropped though its id is known: %v", err)
		}
		if _, err := w.Find(t.Context(), team, m.Row().ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("its team finds it before it is proved: %v", err)
		}
		ok(t, m.Live(t.Context(), nil))
		for other, want := range map[string]error{team: nil, "blue": store.ErrNotFound} {
			if _, err := w.Find(t.Context(), other, m.Row().ID); !errors.Is(err, want) {
				t.Errorf("%s: %v", other, err)
			}
			ids, err := w.IDs(t.Context(), other)
			if _, has := ids[m.Row().ID]; err != nil || has != (want == nil) {
				t.Errorf("%s: %v, %v", other, ids, err)
			}
		}
		if err := m.Drop(t.Context()); !errors.Is(err, ErrMove) {
			t.Errorf("dropped though it is live: %v", err)
		}
	})
}

// What a mint took of its team's quota it gives back only where it certainly
// never happened.
func TestMintDropped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		begin := func() (*Mint, error) {
			_, nonce := w.next()
			a := w.asks(nonce)
			a.Bounds = store.TokenBounds{Live: 2, Day: "2000-01-01", PerDay: 1}
			return w.Begin(t.Context(), a)
		}
		m, err := begin()
		ok(t, err)
		if _, err := begin(); !errors.Is(err, store.ErrSpent) {
			t.Errorf("a second one on a day: %v", err)
		}
		ok(t, m.Drop(t.Context()))
		if _, err := w.Nonce(t.Context(), m.Row().Nonce); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after it was dropped: %v", err)
		}
		if err := m.Drop(t.Context()); err == nil {
			t.Error("dropped twice")
		}
		m, err = begin()
		ok(t, err)

		// Also where the queue has given it up before its refusal came.
		time.Sleep(2 * time.Minute)
		w.runs(t, 2*time.Second)
		w.is(t, m.Row().Nonce, Unknown)
		ok(t, m.Drop(t.Context()))
		m, err = begin()
		ok(t, err)
		ok(t, m.Lost(t.Context(), "reset"))
		if _, err := begin(); !errors.Is(err, store.ErrSpent) {
			t.Errorf("after one that was lost: %v", err)
		}
	})
}

// A mint that took longer than it may is given up. If its answer comes after
// all, it is used only where nothing was done about it meanwhile.
func TestMintOvertaken(t *testing.T) {
	late := func(t *testing.T, w *world) {
		t.Helper()
		time.Sleep(time.Minute)
		w.runs(t, 2*time.Second)
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, w *world, m *Mint, id string) error
		want error
		ends string
	}{
		"its answer comes late": {func(t *testing.T, w *world, m *Mint, id string) error {
			late(t, w)
			w.is(t, m.Row().Nonce, Unknown)
			return errors.Join(m.Made(t.Context(), id), m.Live(t.Context(), nil))
		}, nil, Live},
		"and was found by its stamp": {func(t *testing.T, w *world, m *Mint, id string) error {
			late(t, w)
			w.reconciles(t, Reconciliation{})
			return m.Made(t.Context(), id)
		}, ErrOvertaken, Revoking},
		"and was deleted since": {func(t *testing.T, w *world, m *Mint, id string) error {
			late(t, w)
			w.reconciles(t, Reconciliation{})
			w.runs(t, 2*time.Second)
			return m.Made(t.Context(), id)
		}, ErrOvertaken, Gone},
		"its proof takes long": {func(t *testing.T, w *world, m *Mint, id string) error {
			ok(t, m.Made(t.Context(), id))
			late(t, w)
			return m.Live(t.Context(), nil)
		}, ErrOvertaken, Gone},
		"its proof fails late": {func(t *testing.T, w *world, m *Mint, id string) error {
			ok(t, m.Made(t.Context(), id))
			late(t, w)
			return m.Revoke(t.Context(), "it is wider")
		}, nil, Gone},
		"it is lost late": {func(t *testing.T, w *world, m *Mint, _ string) error {
			late(t, w)
			return m.Lost(t.Context(), "reset")
		}, nil, Unknown},
		// The process dies where its id was written down although it had been
		// given up: it is not looked for by its stamp any more.
		"its answer comes late, and nothing more": {func(t *testing.T, w *world, m *Mint, id string) error {
			late(t, w)
			ok(t, m.Made(t.Context(), id))
			late(t, w)
			return nil
		}, nil, Gone},
		"it is lost with its id": {func(t *testing.T, _ *world, m *Mint, id string) error {
			ok(t, m.Made(t.Context(), id))
			return m.Lost(t.Context(), "reset")
		}, nil, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				m, id := w.begin(t)
				w.up.add(id, m.Row().Nonce)
				if err := c.do(t, w, m, id); !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("%v, not %v", err, c.want)
				}
				w.is(t, m.Row().Nonce, c.ends)
				if w.up.has(id) != (c.ends != Gone) {
					t.Errorf("upstream: %v", w.up.calls)
				}
			})
		})
	}
}

// An upstream that answers a mint with the id of another token has the ledger
// neither take nor delete that one.
func TestMintWithTheIDOfAnother(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.mint(t)
		m, own := w.begin(t)
		w.up.add(own, m.Row().Nonce)
		if err := m.Made(t.Context(), first.ID); !errors.Is(err, store.ErrExists) {
			t.Fatalf("the id of a token that the ledger knows: %v", err)
		}
		ok(t, m.Lost(t.Context(), "the reply named another token"))

		foreign, _ := w.next()
		w.up.add(foreign, "")
		other, lost := w.begin(t)
		w.up.add(lost, other.Row().Nonce)
		ok(t, other.Made(t.Context(), foreign))
		ok(t, other.Disown(t.Context(), "the id is another token's"))
		if row := w.is(t, other.Row().Nonce, Unknown); row.ID != "" {
			t.Errorf("%+v", row)
		}
		w.reconciles(t, Reconciliation{})
		w.runs(t, 2*time.Second)
		if !w.up.has(first.ID) || !w.up.has(foreign) || w.up.has(own) || w.up.has(lost) {
			t.Errorf("upstream has %v", w.up.all())
		}
		w.is(t, first.Nonce, Live)
	})
}

// A mint is given up in each state in which its process can die.
func TestMintUnfinished(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		early, _ := w.begin(t)
		late, id := w.begin(t)
		w.up.add(id, late.Row().Nonce)
		ok(t, late.Made(t.Context(), id))
		w.runs(t, 59*time.Second)
		w.is(t, early.Row().Nonce, Intent)
		w.is(t, late.Row().Nonce, Intent)
		w.runs(t, 3*time.Second)
		if row := w.is(t, early.Row().Nonce, Unknown); !row.Due.Equal(lastsUntil(row)) {
			t.Errorf("%+v", row)
		}
		w.is(t, late.Row().Nonce, Gone)
		if w.up.has(id) {
			t.Error("upstream still has it")
		}
	})
}

// What upstream may still have is not taken to be gone before it must have
// expired, whatever clock upstream goes by. Then its row is at its end.
func TestExpiry(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var rows []string
		begin := func() (*Mint, string) {
			id, nonce := w.next()
			a := w.asks(nonce)
			a.Expires = time.Now().Add(10*time.Second - slack)
			m, err := w.Begin(t.Context(), a)
			ok(t, err)
			rows = append(rows, nonce)
			return m, id
		}
		lost, _ := begin()
		ok(t, lost.Lost(t.Context(), "reset"))
		for range 2 {
			m, id := begin()
			w.up.add(id, m.Row().Nonce)
			ok(t, m.Made(t.Context(), id))
			ok(t, m.Live(t.Context(), nil))
		}
		w.up.faults(errReset, "delete")
		_, err := w.Revoke(t.Context(), w.row(t, rows[2]), "its team asked", 0)
		ok(t, err)
		w.runs(t, 9*time.Second)
		for i, state := range []string{Unknown, Live, Revoking} {
			w.is(t, rows[i], state)
		}
		// Where two clocks differ, one of them is wrong.
		w.skewed = true
		w.runs(t, 9*time.Second)
		for i, state := range []string{Unknown, Live, Revoking} {
			w.is(t, rows[i], state)
		}
		w.skewed = false
		w.runs(t, 20*time.Second)
		for _, nonce := range rows {
			if row := w.is(t, nonce, Gone); !row.Due.IsZero() || row.Cause != "it has expired" {
				t.Errorf("%+v", row)
			}
		}
		report := w.reconciles(t, Reconciliation{})
		if report.Counts[Expired] != 2 || report.Counts[Stray] != 0 || len(report.List) != 0 {
			t.Errorf("upstream still lists them: %+v", report)
		}
	})
}

// An answer that is kept for later is there from when the token is live.
func TestMintKeepsItsAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id, nonce := w.next()
		a := w.asks(nonce)
		a.Answer = &store.Answer{Key: [32]byte{1}, Nonce: nonce, Until: time.Now().Add(day)}
		m, err := w.Begin(t.Context(), a)
		ok(t, err)
		again := w.asks("another")
		again.Answer = &store.Answer{Key: [32]byte{1}, Nonce: "another", Until: time.Now().Add(day)}
		if _, err := w.Begin(t.Context(), again); !errors.Is(err, store.ErrExists) {
			t.Errorf("the key twice: %v", err)
		}
		sealed := func() []byte {
			kept, err := w.rows.Answer(t.Context(), [32]byte{1})
			ok(t, err)
			return kept.Sealed
		}
		ok(t, m.Made(t.Context(), id))
		if sealed() != nil {
			t.Error("there is an answer before the token is live")
		}
		ok(t, m.Live(t.Context(), []byte("sealed")))
		if string(sealed()) != "sealed" {
			t.Errorf("%q", sealed())
		}
	})
}

func TestAdopted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id, nonce := w.next()
		w.up.add(id, "")
		adopt := func(id, nonce string, most int) (store.Token, error) {
			return w.Adopt(t.Context(), store.Token{Nonce: nonce, ID: id, Team: team, Name: "old"}, most)
		}
		row, err := adopt(id, nonce, 1)
		if err != nil || row.State != Live || !row.Adopted || !row.Due.IsZero() {
			t.Fatalf("%+v, %v", row, err)
		}
		if _, err := adopt(id, "again", 0); !errors.Is(err, store.ErrExists) {
			t.Errorf("adopted twice: %v", err)
		}
		if _, err := adopt(uuid(77), "more", 1); !errors.Is(err, store.ErrFull) {
			t.Errorf("more than may live: %v", err)
		}
		if report := w.reconciles(t, Reconciliation{}); report.Counts[Ours] != 1 {
			t.Errorf("%v", report)
		}
		_, err = w.Revoke(t.Context(), row, "its team asked", 0)
		ok(t, err)
		w.runs(t, 2*time.Second)
		w.is(t, nonce, Gone)
	})
}

// Many mints at once, on two replicas, stay within their team's bounds.
func TestMintsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		other := w.replica("two")
		results := make(chan error)
		for i := range 20 {
			l := []*Ledger{w.Ledger, other.Ledger}[i%2]
			a := w.asks(fmt.Sprint("n", i))
			a.Bounds = store.TokenBounds{Live: 5}
			go func() {
				_, err := l.Begin(context.WithoutCancel(t.Context()), a)
				results <- err
			}()
		}
		var refused []error
		for range 20 {
			if err := <-results; err != nil {
				refused = append(refused, err)
			}
		}
		if len(refused) != 15 || slices.ContainsFunc(refused, func(err error) bool { return !errors.Is(err, store.ErrFull) }) {
			t.Errorf("%d refused: %v", len(refused), refused)
		}
	})
}
