package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var uses = map[string]func(t *testing.T, open Opener){
	"are kept":                        useIsKept,
	"never move backwards":            useNeverBackwards,
	"never move backwards under load": useUnderLoad,
	"are many":                        manyUses,
}

func useIsKept(t *testing.T, open Opener) {
	s := open(t, gateway)
	made := insert(t, s, nth(1))
	untouched := insert(t, s, nth(2))
	at := time.Date(2026, 3, 4, 5, 6, 7, 8999, time.FixedZone("", -3600))
	err := s.Used(t.Context(), map[string]store.Use{
		made.ID:  {At: at, Address: "2001:db8::1", Operation: "listMembers"},
		"nobody": {At: at, Address: "192.0.2.1", Operation: "listMembers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := made
	want.Used = store.Use{At: at.Truncate(time.Microsecond), Address: "2001:db8::1", Operation: "listMembers"}
	same(t, "the one that was used", want, fetch(t, s, made.ID)) // and no new revision
	same(t, "the one that was not", untouched, fetch(t, s, untouched.ID))
	if c := feed(t, s, untouched.Revision); len(c.List) != 0 || c.Revision != untouched.Revision {
		t.Errorf("a use is told as a change: %+v", c)
	}
	if err := s.Used(t.Context(), nil); err != nil {
		t.Errorf("no uses: %v", err)
	}
}

func useNeverBackwards(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, nth(1))
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	steps := []struct {
		name string
		use  store.Use
		kept bool
	}{
		{"first", store.Use{At: noon, Address: "192.0.2.1", Operation: "a"}, true},
		{"earlier", store.Use{At: noon.Add(-time.Microsecond), Address: "192.0.2.2", Operation: "b"}, false},
		{"later", store.Use{At: noon.Add(time.Microsecond), Address: "192.0.2.3", Operation: "c"}, true},
		{"much earlier", store.Use{At: noon.AddDate(-9, 0, 0), Address: "192.0.2.4", Operation: "d"}, false},
	}
	var want store.Use
	for _, step := range steps {
		if err := s.Used(t.Context(), map[string]store.Use{c.ID: step.use}); err != nil {
			t.Fatal(err)
		}
		if step.kept {
			want = step.use
		}
		same(t, step.name, want, fetch(t, s, c.ID).Used)
	}
}

// Replicas flush once a minute, in any order and about the same credentials.
func useUnderLoad(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	for i := range 3 {
		insert(t, handles[0], nth(i))
	}
	start := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	const flushes = 24
	atOnce(flushes, func(i int) {
		batch := map[string]store.Use{}
		for c := range 3 {
			batch[nth(c).ID] = store.Use{At: start.Add(time.Duration(i*7%flushes) * time.Second), Address: fmt.Sprint(i * 7 % flushes)}
		}
		if err := handles[i%2].Used(t.Context(), batch); err != nil {
			t.Error(err)
		}
	})
	want := store.Use{At: start.Add((flushes - 1) * time.Second), Address: fmt.Sprint(flushes - 1)}
	for i := range 3 {
		same(t, nth(i).ID, want, fetch(t, handles[1], nth(i).ID).Used)
	}
}

func manyUses(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, nth(1))
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	batch := map[string]store.Use{c.ID: {At: at}}
	for i := range 2500 {
		batch[fmt.Sprintf("nobody-%d", i)] = store.Use{At: at}
	}
	if err := s.Used(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	same(t, "one among many", store.Use{At: at}, fetch(t, s, c.ID).Used)
}
