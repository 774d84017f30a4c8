package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// schedule is a world in which anything happens at any time, on two replicas,
// while upstream and the connection to it fail.
type schedule struct {
	t       *testing.T
	rand    *rand.Rand
	on      []*world
	up      *account
	foreign map[string]bool
	late    [][2]string // tokens, id and nonce, that upstream makes only later
}

func (s *schedule) one() *world { return s.on[s.rand.IntN(len(s.on))] }

func (s *schedule) chance(percent int) bool { return s.rand.IntN(100) < percent }

// faults makes upstream as bad as it can be but for lies about a token that is
// not there.
func (s *schedule) faults(percent int) {
	fail := func(string, string) error {
		switch {
		case s.chance(100 - percent):
			return nil
		case s.chance(20):
			return &Wait{For: time.Duration(s.rand.IntN(30)) * time.Second, Cause: errReset}
		default:
			return errReset
		}
	}
	s.up.before, s.up.after = fail, fail
}

// within is a context that ends in between, as a process does.
func (s *schedule) within(most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.t.Context(), time.Duration(s.rand.Int64N(int64(most))))
}

// mint takes a mint as far as it comes.
func (s *schedule) mint() {
	w := s.one()
	m, id := s.on[0].begin(s.t) // which names tokens
	m.ledger = w.Ledger
	nonce, ctx := m.Row().Nonce, s.t.Context()
	switch s.rand.IntN(8) {
	case 0: // it dies before its request leaves
		return
	case 1: // it is refused
		ok(s.t, m.Drop(ctx))
		return
	case 2: // it dies while upstream makes the token, then or later
		s.late = append(s.late, [2]string{id, nonce})
		return
	case 3: // nobody knows
		if s.chance(50) {
			s.late = append(s.late, [2]string{id, nonce})
		}
		ok(s.t, m.Lost(ctx, "reset"))
		return
	}
	s.up.add(id, nonce)
	if s.chance(20) { // the answer comes late
		time.Sleep(time.Minute + time.Duration(s.rand.IntN(60))*time.Second)
		if s.chance(50) {
			s.settle()
		}
	}
	switch { // upstream names another token
	case s.chance(10):
		id = s.other(id)
	case s.chance(10):
		id = s.console()
	}
	if err := m.Made(ctx, id); err != nil {
		if s.chance(50) {
			_ = m.Lost(ctx, "it named another")
		}
		return
	}
	end := s.rand.IntN(6)
	if s.foreign[id] {
		end %= 3 // its proof does not succeed
	}
	switch end {
	case 0: // it dies
	case 1:
		ok(s.t, m.Revoke(ctx, "it is wider"))
	case 2:
		_ = m.Disown(ctx, "it is another's")
	default:
		_ = m.Live(ctx, nil)
	}
}

// other is the id of a token that the ledger knows, if there is one.
func (s *schedule) other(id string) string {
	if rows := s.rows(Live); len(rows) > 0 {
		return rows[s.rand.IntN(len(rows))].ID
	}
	return id
}

func (s *schedule) rows(states ...string) []store.Token {
	page, _, err := s.on[0].rows.Tokens(s.t.Context(), store.TokenFilter{States: states, Limit: 1000})
	ok(s.t, err)
	return page
}

// revoke is a deletion that a team asks for, as far as it comes.
func (s *schedule) revoke() {
	rows := s.rows(Live, Revoking)
	if len(rows) == 0 {
		return
	}
	w, row, ctx := s.one(), rows[s.rand.IntN(len(rows))], s.t.Context()
	row, err := w.Revoke(ctx, row, "its team asked", time.Minute)
	ok(s.t, err)
	if s.chance(30) {
		return // it dies
	}
	err = s.up.Delete(ctx, Call{ID: row.ID})
	if s.chance(30) {
		return
	}
	_, err = w.Deleted(ctx, row, err)
	ok(s.t, err)
}

func (s *schedule) settle() {
	ctx, cancel := s.within(20 * time.Second)
	defer cancel()
	s.one().Run(ctx)
}

func (s *schedule) reconcile() {
	ctx, cancel := s.within(2 * time.Minute)
	defer cancel()
	_, _ = s.one().Reconcile(ctx, Reconciliation{Dry: s.chance(20), MaxDeletions: 1000})
}

// lands makes tokens whose request was on its way for long.
func (s *schedule) lands() {
	for _, token := range s.late {
		s.up.add(token[0], token[1])
	}
	s.late = nil
}

func (s *schedule) step() {
	switch s.rand.IntN(12) {
	case 0, 1, 2, 3:
		s.mint()
	case 4, 5:
		s.revoke()
	case 6:
		s.settle()
	case 7:
		s.reconcile()
	case 8:
		s.faults([]int{0, 10, 50, 90}[s.rand.IntN(4)])
	case 9:
		time.Sleep(time.Duration(s.rand.IntN(90)) * time.Second)
	case 10:
		s.lands()
	default:
		if rows := s.rows(Live); len(rows) > 0 && s.chance(30) { // somebody deletes one in the console
			s.up.remove(rows[s.rand.IntN(len(rows))].ID)
		}
		s.console()
	}
}

// console makes a token that is none of the ledger's.
func (s *schedule) console() (id string) {
	id = fmt.Sprintf("ffffffff-0000-4000-8000-%012x", len(s.foreign))
	s.foreign[id] = true
	s.up.add(id, "")
	return id
}

// end lets everything heal, and all that is owed be paid.
func (s *schedule) end() {
	s.lands()
	s.up.heal()
	w := s.on[0]
	for range 2 { // the second one finds what the first one's queue gave up
		time.Sleep(turn)
		w.runs(s.t, time.Minute)
		w.reconciles(s.t, Reconciliation{MaxDeletions: 1000})
	}
	time.Sleep(longPause)
	w.runs(s.t, time.Minute)
}

// check holds upstream and ledger against each other.
func (s *schedule) check() {
	live := map[string]bool{}
	for _, row := range s.rows() {
		switch row.State {
		case Live:
			live[row.ID] = true
			if !s.up.has(row.ID) {
				s.t.Errorf("%s is live, and upstream has no such token", row.ID)
			}
		case Unknown, Gone:
		default:
			s.t.Errorf("%s is still %s: %s, %s", row.Nonce, row.State, row.Cause, row.Failure)
		}
	}
	for _, token := range s.up.all() {
		if !live[token.ID] && !s.foreign[token.ID] {
			s.t.Errorf("upstream has %s, which is not live", token.ID)
		}
	}
	for id := range s.foreign {
		if !s.up.has(id) {
			s.t.Errorf("the foreign token %s is gone", id)
		}
	}
}

// Whatever happens, and whenever: afterwards each token at upstream is live in
// the ledger or none of ours, and each live row has its token.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := &schedule{
					t: t, rand: rand.New(rand.NewPCG(seed, 4)), up: w.up,
					on: []*world{w, w.replica("two")}, foreign: map[string]bool{},
				}
				for range 60 {
					s.step()
				}
				s.end()
				s.check()
			})
		})
	}
}
