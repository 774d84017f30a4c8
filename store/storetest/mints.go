package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var mints = map[string]func(t *testing.T, open Opener){
	"have places":                           mintPlaces,
	"have places under load":                mintPlacesUnderLoad,
	"have a number a day":                   mintsOfADay,
	"have a number a day under load":        mintsOfADayUnderLoad,
	"leave nothing behind if refused":       refusedMints,
	"get back what was spent when dropped":  droppedMints,
	"are made and dropped at once":          mintsAndDrops,
	"make one token of many tries at once":  oneMint,
	"keep each to the bounds of its team":   mintsOfTeams,
	"have no bounds if none are given":      unboundedMints,
	"count what an operator may have added": adoptedPlaces,
}

func mintPlaces(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	now := feed(t, s, 0).Now
	tests := []struct {
		name   string
		in     Store
		change func(row *store.Token)
		counts bool
	}{
		{"intent", s, func(row *store.Token) { row.State = "intent" }, true},
		{"unknown", s, func(row *store.Token) { row.State = "unknown" }, true},
		{"live", s, func(row *store.Token) { row.State = "live" }, true},
		{"revoking", s, func(row *store.Token) { row.State = "revoking" }, true},
		{"soon expired", s, func(row *store.Token) { row.Expires = now.Add(time.Hour) }, true},
		{"without an id", s, func(row *store.Token) { row.ID = "" }, true},
		{"of another credential", s, func(row *store.Token) { row.Credential = "other" }, true},
		{"gone", s, func(row *store.Token) { row.State = "gone" }, false},
		{"expired", s, func(row *store.Token) { row.Expires = now.Add(-time.Microsecond) }, false},
		{"of another team", s, func(row *store.Token) { row.Team = "elsewhere" }, false},
		{"of another gateway", o, func(*store.Token) {}, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			team := fmt.Sprint("team-", i)
			for j := range 2 {
				name := fmt.Sprint(i, "-", j)
				row := of(team, "ci", token(name, name))
				tt.change(&row)
				mint(t, tt.in, row)
			}
			next := of(team, "ci", token(fmt.Sprint("next", i), ""))
			_, err := s.InsertToken(t.Context(), next, store.TokenBounds{Live: 2}, nil)
			if tt.counts != errors.Is(err, store.ErrFull) || !tt.counts && err != nil {
				t.Fatalf("counted %v, and the answer is %v", tt.counts, err)
			}
			if !tt.counts {
				return
			}
			made, err := s.InsertToken(t.Context(), next, store.TokenBounds{Live: 3}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.UpdateToken(t.Context(), as(store.TokenGone, made), nil); err != nil {
				t.Fatal(err)
			}
			next.Nonce += "b"
			if _, err := s.InsertToken(t.Context(), next, store.TokenBounds{Live: 3}, nil); err != nil {
				t.Errorf("the place of one that is gone: %v", err)
			}
		})
	}
}

// underLoad mints many tokens of a team at once, and tells how many were made.
// All others must be refused with the error.
func underLoad(t *testing.T, open Opener, b store.TokenBounds, refusal error) (made int32) {
	t.Helper()
	handles := []Store{open(t, gateway), open(t, gateway), open(t, gateway)}
	var n atomic.Int32
	atOnce(24, func(i int) {
		_, err := handles[i%len(handles)].InsertToken(t.Context(), token(fmt.Sprint(i), ""), b, answer(byte(i), fmt.Sprint(i)))
		switch {
		case err == nil:
			n.Add(1)
		case !errors.Is(err, refusal):
			t.Error(err)
		}
	})
	list, _, err := handles[0].Tokens(t.Context(), store.TokenFilter{})
	if err != nil || len(list) != int(n.Load()) {
		t.Errorf("%d were made, and there are %d, %v", n.Load(), len(list), err)
	}
	return n.Load()
}

// Those who count before they insert, without a lock, all find a place.
func mintPlacesUnderLoad(t *testing.T, open Opener) {
	if n := underLoad(t, open, store.TokenBounds{Live: 5}, store.ErrFull); n != 5 {
		t.Errorf("%d made; there are 5 places", n)
	}
}

func mintsOfADayUnderLoad(t *testing.T, open Opener) {
	if n := underLoad(t, open, store.TokenBounds{Live: 100, Day: day, PerDay: 7}, store.ErrSpent); n != 7 {
		t.Errorf("%d made; there are 7 a day", n)
	}
}

func mintsOfADay(t *testing.T, open Opener) {
	s := open(t, gateway)
	n := 0
	try := func(team, day string, limit int) error {
		n++
		_, err := s.InsertToken(t.Context(), of(team, "ci", token(fmt.Sprint(n), "")), store.TokenBounds{Day: day, PerDay: limit}, nil)
		return err
	}
	for i := range 4 {
		if err := try("billing", day, 3); (i < 3) != (err == nil) || i == 3 && !errors.Is(err, store.ErrSpent) {
			t.Errorf("mint %d of 3: %v", i+1, err)
		}
	}
	if err := try("support", day, 3); err != nil {
		t.Errorf("another team: %v", err)
	}
	if err := try("billing", "2026-11-21", 3); err != nil {
		t.Errorf("the next day: %v", err)
	}
	if err := try("billing", day, 4); err != nil {
		t.Errorf("a higher limit: %v", err)
	}
	if n := spendable(t, s, "billing", day, 5); n != 1 {
		t.Errorf("of 5 a day, %d are left after 4", n)
	}
}

// A team whose mints are refused must not lose what it may still do, and a
// key must not be taken by what was not done.
func refusedMints(t *testing.T, open Opener) {
	s := open(t, gateway)
	mint(t, s, token("taken", "taken"))
	first, err := s.InsertToken(t.Context(), token("first", "first"), store.TokenBounds{Day: day, PerDay: 2}, answer(1, "first"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		row    store.Token
		bounds store.TokenBounds
		answer *store.Answer
		want   error
	}{
		{"no place", token("new", "new"), store.TokenBounds{Live: 2, Day: day, PerDay: 2}, answer(2, "new"), store.ErrFull},
		{"nonce", token("taken", "new"), store.TokenBounds{Live: 9, Day: day, PerDay: 2}, answer(2, "taken"), store.ErrExists},
		{"id", token("new", "taken"), store.TokenBounds{Live: 9, Day: day, PerDay: 2}, answer(2, "new"), store.ErrExists},
		{"key", token("new", "new"), store.TokenBounds{Live: 9, Day: day, PerDay: 2}, answer(1, "new"), store.ErrExists},
		{"nothing left", token("new", "new"), store.TokenBounds{Live: 9, Day: day, PerDay: 1}, answer(2, "new"), store.ErrSpent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := s.InsertToken(t.Context(), tt.row, tt.bounds, tt.answer); !errors.Is(err, tt.want) {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := s.TokenByNonce(t.Context(), "new"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("there is a row: %v", err)
			}
			if _, err := s.Answer(t.Context(), answer(2, "").Key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("there is an answer: %v", err)
			}
		})
	}
	if got := promised(t, s, 1); got.Nonce != first.Nonce {
		t.Errorf("the answer is now of %q", got.Nonce)
	}
	if n := spendable(t, s, "billing", day, 2); n != 1 {
		t.Errorf("of 2 a day, %d are left after 1", n)
	}
}

func droppedMints(t *testing.T, open Opener) {
	s := open(t, gateway)
	b := store.TokenBounds{Live: 1, Day: day, PerDay: 2}
	for i, back := range []string{day, day, "", "2026-11-19", ""} {
		made, err := s.InsertToken(t.Context(), token(fmt.Sprint(i), ""), b, answer(1, fmt.Sprint(i)))
		if err != nil {
			// Nothing of the first two was kept; the third and the fourth are spent.
			if i == 4 && errors.Is(err, store.ErrSpent) {
				return
			}
			t.Fatalf("mint %d: %v", i, err)
		}
		if err := s.DropToken(t.Context(), made.Nonce, made.Version, back); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Answer(t.Context(), answer(1, "").Key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("nothing came of it, and there is an answer: %+v, %v", got, err)
		}
	}
	t.Error("more were made than a day has")
}

// A caller that repeats a request at once, with one key, gets one token.
func oneMint(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	var made atomic.Int32
	atOnce(12, func(i int) {
		nonce := fmt.Sprint(i)
		_, err := handles[i%2].InsertToken(t.Context(), token(nonce, ""), store.TokenBounds{Live: 9, Day: day, PerDay: 9}, answer(1, nonce))
		switch {
		case err == nil:
			made.Add(1)
		case !errors.Is(err, store.ErrExists):
			t.Error(err)
		}
	})
	if made.Load() != 1 {
		t.Errorf("%d were made", made.Load())
	}
	if n := spendable(t, handles[0], "billing", day, 9); n != 8 {
		t.Errorf("%d of 9 are left", n)
	}
}

// What is dropped while others mint with its key is given back once.
func mintsAndDrops(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	b := store.TokenBounds{Live: 3, Day: day, PerDay: 3}
	atOnce(8, func(i int) {
		s := handles[i%2]
		for n := range 6 {
			nonce := fmt.Sprint(i, "-", n)
			made, err := s.InsertToken(t.Context(), token(nonce, ""), b, answer(byte(i/4), nonce))
			if errors.Is(err, store.ErrExists) {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.DropToken(t.Context(), nonce, made.Version, day); err != nil {
				t.Error(err)
			}
		}
	})
	if n := spendable(t, handles[0], "billing", day, 3); n != 3 {
		t.Errorf("all were dropped, and of 3 a day %d are left", n)
	}
}

func mintsOfTeams(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	atOnce(24, func(i int) {
		row := of(fmt.Sprint("team-", i%4), "ci", token(fmt.Sprint(i), ""))
		if _, err := handles[i%2].InsertToken(t.Context(), row, store.TokenBounds{Live: 6, Day: day, PerDay: 6}, answer(byte(i), row.Nonce)); err != nil {
			t.Error(err)
		}
	})
}

func unboundedMints(t *testing.T, open Opener) {
	s := open(t, gateway)
	for i := range 3 {
		mint(t, s, token(fmt.Sprint(i), ""))
	}
	if n := spendable(t, s, "billing", "", 3); n != 3 {
		t.Errorf("%d of 3 are left, and nothing was to be counted", n)
	}
}

func adoptedPlaces(t *testing.T, open Opener) {
	s := open(t, gateway)
	row := of("billing", "", token("adopted", "adopted"))
	row.Adopted = true
	mint(t, s, row)
	if _, err := s.InsertToken(t.Context(), token("new", ""), store.TokenBounds{Live: 1}, nil); !errors.Is(err, store.ErrFull) {
		t.Errorf("%v", err)
	}
}
