package storetest

import (
	"sync/atomic"
	"testing"
)

var counts = map[string]func(t *testing.T, open Opener){
	"have a limit":            spends,
	"have a limit under load": spendsUnderLoad,
	"go on in a new period":   spendsInPeriods,
}

// day is a period.
const day = "2026-11-20"

func spend(t *testing.T, s Store, team, period string, limit int) bool {
	t.Helper()
	spent, err := s.Spend(t.Context(), team, period, limit)
	if err != nil {
		t.Fatal(err)
	}
	return spent
}

func refund(t *testing.T, s Store, team string) {
	t.Helper()
	if err := s.Refund(t.Context(), team, day); err != nil {
		t.Fatal(err)
	}
}

// spendable counts what is left.
func spendable(t *testing.T, s Store, team, period string, limit int) (n int) {
	t.Helper()
	for spend(t, s, team, period, limit) {
		if n++; n > limit {
			t.Fatalf("more than %d were spent", limit)
		}
	}
	return n
}

func spends(t *testing.T, open Opener) {
	s := open(t, gateway)
	for _, limit := range []int{0, -1} {
		if spend(t, s, "billing", day, limit) {
			t.Errorf("one of %d was spent", limit)
		}
	}
	if n := spendable(t, s, "billing", day, 3); n != 3 {
		t.Errorf("%d of 3 were spent", n)
	}
	if spend(t, s, "billing", day, 2) {
		t.Error("a lower limit than was spent admits one more")
	}
	if n := spendable(t, s, "billing", day, 5); n != 2 {
		t.Errorf("a higher limit admits %d more, want 2", n)
	}
	if n := spendable(t, s, "support", day, 2); n != 2 {
		t.Errorf("another team spent %d of 2", n)
	}
	if n := spendable(t, open(t, other), "billing", day, 2); n != 2 {
		t.Errorf("another gateway spent %d of 2", n)
	}

	refund(t, s, "billing")
	refund(t, open(t, other), "support")
	if n := spendable(t, s, "billing", day, 5); n != 1 {
		t.Errorf("%d spent of one that was given back", n)
	}
	if n := spendable(t, s, "support", day, 2); n != 0 {
		t.Errorf("%d spent of what another gateway gave back", n)
	}
	for range 9 { // more than were spent
		refund(t, s, "billing")
	}
	refund(t, s, "nobody")
	for _, team := range []string{"billing", "nobody"} {
		if n := spendable(t, s, team, day, 5); n != 5 {
			t.Errorf("%s spent %d of 5 after it gave back too much", team, n)
		}
	}
}

func spendsInPeriods(t *testing.T, open Opener) {
	s := open(t, gateway)
	for _, day := range []string{"2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"} {
		if n := spendable(t, s, "billing", day, 2); n != 2 {
			t.Errorf("%d of 2 were spent on %s", n, day)
		}
	}
	if n := spendable(t, s, "billing", "2026-12-01", 2); n != 0 {
		t.Errorf("%d more were spent", n)
	}
}

func spendsUnderLoad(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway), open(t, gateway)}
	const limit = 10
	var spent atomic.Int32
	atOnce(30, func(i int) {
		s := handles[i%len(handles)]
		ok, err := s.Spend(t.Context(), "billing", day, limit)
		if err != nil {
			t.Error(err)
		}
		if ok {
			spent.Add(1)
		}
	})
	if spent.Load() != limit {
		t.Errorf("%d of %d were spent", spent.Load(), limit)
	}
}
