package storetest

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopegate/scopegate/store"
)

var updates = map[string]func(t *testing.T, open Opener){
	"write what may change":               updateWrites,
	"leave what may not":                  updateLeaves,
	"are refused if somebody was quicker": updateConflicts,
	"have one winner":                     updateRace,
	"never lose a generation":             generationsStay,
	"suspend what a backup had":           restored,
}

func updateWrites(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, key("id", "billing", "ci"))
	at := time.Date(2031, 5, 6, 7, 8, 9, 10000, time.UTC)
	c.Name, c.State, c.Note = "renamed", "suspended", "žádost č. 7"
	c.Scopes, c.AllowedIPs = []string{"members.read"}, []string{"192.0.2.1/32"}
	c.NotBefore, c.Expires = at, at.Add(time.Hour)
	c.Generations[0].Ends, c.Generations[0].EndsOnUse = at, true
	c.Generations = append([]store.Generation{{Number: 2, Hash: [32]byte{2}}}, c.Generations...)

	got, err := s.Update(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision <= c.Revision || got.Changed.Before(c.Changed) {
		t.Errorf("revision %d at %v, after %d at %v", got.Revision, got.Changed, c.Revision, c.Changed)
	}
	want := c
	want.Revision, want.Changed = got.Revision, got.Changed
	want.Generations[0].Created = got.Changed
	same(t, "the answer", want, got)
	same(t, "the row", want, fetch(t, s, "id"))

	got.Scopes, got.AllowedIPs, got.NotBefore, got.Expires = nil, nil, time.Time{}, time.Time{}
	got.Generations[1].Ends, got.Generations[1].EndsOnUse = time.Time{}, false
	again, err := s.Update(t.Context(), got)
	if err != nil {
		t.Fatal(err)
	}
	got.Revision, got.Changed = again.Revision, again.Changed
	same(t, "the row whose bounds were taken away", got, fetch(t, s, "id"))
}

func updateLeaves(t *testing.T, open Opener) {
	s := open(t, gateway)
	made := insert(t, s, key("id", "billing", "ci"))
	use := store.Use{At: made.Created.Add(time.Second), Address: "192.0.2.1", Operation: "listMembers"}
	if err := s.Used(t.Context(), map[string]store.Use{"id": use}); err != nil {
		t.Fatal(err)
	}
	c := made
	c.Team, c.Static, c.CreatedBy = "support", true, "somebody else"
	c.Created, c.Changed, c.Used = time.Time{}, time.Time{}, store.Use{At: made.Created.Add(time.Hour)}
	got, err := s.Update(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := made
	want.Used = use
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.Credential{}, "Changed", "Revision")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	same(t, "the row", got, fetch(t, s, "id"))
}

func updateConflicts(t *testing.T, open Opener) {
	s := open(t, gateway)
	first := insert(t, s, key("id", "billing", "ci"))
	second := first
	second.Note = "second"
	second, err := s.Update(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int64{first.Revision, 0, second.Revision + 1} {
		stale := second
		stale.Revision, stale.Note = revision, "stale"
		stale.Generations = []store.Generation{{Number: 7, Hash: [32]byte{7}}}
		if _, err := s.Update(t.Context(), stale); !errors.Is(err, store.ErrChanged) {
			t.Errorf("at revision %d: %v", revision, err)
		}
	}
	same(t, "the row", second, fetch(t, s, "id"))
	if _, err := s.Update(t.Context(), key("nobody", "billing", "x")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a row that is not there: %v", err)
	}
	same(t, "the changes", []store.Change{{ID: "id", Revision: second.Revision, At: second.Changed}}, feed(t, s, 0).List)
}

func updateRace(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	c := insert(t, handles[0], key("id", "billing", "ci"))
	for round := range 5 {
		var won atomic.Int32
		var winner atomic.Value
		atOnce(8, func(i int) {
			mine := c
			mine.Note = string(rune('a' + i))
			got, err := handles[i%2].Update(t.Context(), mine)
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(got)
			case !errors.Is(err, store.ErrChanged):
				t.Error(err)
			}
		})
		if won.Load() != 1 {
			t.Fatalf("round %d: %d won", round, won.Load())
		}
		got := fetch(t, handles[0], "id")
		same(t, "the row", winner.Load(), any(got))
		c = got
	}
}

// A retired key that comes back is a sign that it was stolen, which only its
// hash can tell.
func generationsStay(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, full())
	want := c.Generations

	c.Generations = nil
	c, err := s.Update(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "generations that an update did not name", want, c.Generations)

	// Whether such a call is refused is the store's affair; the hash is not.
	c.Generations[0].Hash, c.Generations[0].Number = [32]byte{66}, 1
	c.Generations = c.Generations[:1]
	_, _ = s.Update(t.Context(), c)
	got := fetch(t, s, c.ID)
	if len(got.Generations) != 2 || got.Generations[1].Hash != want[1].Hash || got.Generations[0].Hash != want[0].Hash {
		t.Errorf("hashes were changed: %+v", got.Generations)
	}

	for number := 3; number <= 12; number++ {
		got.Generations = []store.Generation{{Number: number, Hash: [32]byte{byte(number)}}}
		if got, err = s.Update(t.Context(), got); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Generations) != 12 {
		t.Fatalf("%d generations", len(got.Generations))
	}
	for i, g := range fetch(t, s, c.ID).Generations {
		if g.Number != 12-i {
			t.Errorf("generation %d comes at place %d; the newest is first", g.Number, i)
		}
	}
}

func restored(t *testing.T, open Opener) {
	s := open(t, gateway)
	suspended := key("suspended", "billing", "suspended")
	suspended.State, suspended.Note = "suspended", "why"
	revoked := key("revoked", "billing", "revoked")
	revoked.State = store.Revoked
	static := store.Credential{ID: "static", Team: "billing", Name: "static", State: "active", Static: true}
	var kept []store.Credential
	for _, c := range []store.Credential{suspended, revoked, static} {
		kept = append(kept, insert(t, s, c))
	}
	active := []store.Credential{insert(t, s, nth(1)), insert(t, s, nth(2)), insert(t, s, nth(3))}
	last := feed(t, s, 0).Revision

	if n, err := s.Restored(t.Context(), "obnoveno ze zálohy"); n != 3 || err != nil {
		t.Fatalf("%d suspended, %v", n, err)
	}
	for _, c := range kept {
		same(t, c.ID, c, fetch(t, s, c.ID))
	}
	seen := map[int64]bool{}
	for _, c := range active {
		got := fetch(t, s, c.ID)
		if got.Revision <= last || seen[got.Revision] || got.Changed.Before(c.Changed) {
			t.Errorf("%s: revision %d at %v", c.ID, got.Revision, got.Changed)
		}
		seen[got.Revision] = true
		c.State, c.Note, c.Revision, c.Changed = "suspended", "obnoveno ze zálohy", got.Revision, got.Changed
		same(t, c.ID, c, got)
	}
	got := feed(t, s, last)
	if len(got.List) != 3 || got.List[2].Revision != got.Revision {
		t.Errorf("changes up to revision %d are told as %+v", got.Revision, got.List)
	}
	if n, err := s.Restored(t.Context(), "again"); n != 0 || err != nil {
		t.Errorf("the second time: %d suspended, %v", n, err)
	}
	if next := insert(t, s, nth(4)); next.Revision <= got.Revision {
		t.Errorf("revision %d after %d", next.Revision, got.Revision)
	}
}
