package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var changes = map[string]func(t *testing.T, open Opener){
	"are told in their order":      changesInOrder,
	"are told in parts":            changesInParts,
	"are never missed":             followers,
	"are hinted at":                hints,
	"are hinted at across handles": hintsAcross,
}

func changesInOrder(t *testing.T, open Opener) {
	s := open(t, gateway)
	empty := feed(t, s, 0)
	if empty.Revision != 0 || empty.More || len(empty.List) != 0 || empty.Now.IsZero() || empty.Now.Location() != time.UTC {
		t.Errorf("of an empty store: %+v", empty)
	}
	if !empty.Now.Equal(empty.Now.Truncate(time.Microsecond)) {
		t.Errorf("the clock says %v, which no row can hold", empty.Now)
	}
	a, b := insert(t, s, nth(2)), insert(t, s, nth(1))
	a.Note = "changed"
	a, err := s.Update(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Change{{ID: b.ID, Revision: b.Revision, At: b.Changed}, {ID: a.ID, Revision: a.Revision, At: a.Changed}}
	got := feed(t, s, 0)
	same(t, "all", want, got.List)
	if got.Revision != a.Revision || got.More {
		t.Errorf("revision %d, more %v", got.Revision, got.More)
	}
	same(t, "behind the first", want[1:], feed(t, s, b.Revision).List)
	for _, since := range []int64{a.Revision, a.Revision + 7} {
		if got := feed(t, s, since); len(got.List) != 0 || got.Revision != a.Revision {
			t.Errorf("behind %d: %+v", since, got)
		}
	}
	if a.Changed.After(feed(t, s, 0).Now) {
		t.Errorf("changed at %v, which is yet to come", a.Changed)
	}
}

func changesInParts(t *testing.T, open Opener) {
	s := open(t, gateway)
	var want []store.Change
	for i := range 7 {
		c := insert(t, s, nth(i))
		want = append(want, store.Change{ID: c.ID, Revision: c.Revision, At: c.Changed})
	}
	var got []store.Change
	since := int64(0)
	for _, more := range []bool{true, true, false} {
		part, err := s.Changes(t.Context(), since, 3)
		if err != nil {
			t.Fatal(err)
		}
		if part.More != more || part.Revision != want[6].Revision {
			t.Fatalf("behind %d: more %v, revision %d", since, part.More, part.Revision)
		}
		got = append(got, part.List...)
		since = part.List[len(part.List)-1].Revision
	}
	same(t, "the parts", want, got)
	whole, err := s.Changes(t.Context(), 0, 7)
	if err != nil || whole.More {
		t.Errorf("as many as there are: more %v, %v", whole.More, err)
	}
}

// follow reads what is new as a replica does, and returns the last revision
// that it saw of each id.
func follow(t *testing.T, s Store, done <-chan struct{}) map[string]int64 {
	seen, since := map[string]int64{}, int64(0)
	for last := false; ; {
		c, err := s.Changes(t.Context(), since, 5)
		if err != nil {
			t.Error(err)
			return nil
		}
		for _, change := range c.List {
			if change.Revision <= since {
				t.Errorf("revision %d is told behind %d", change.Revision, since)
			}
			since = change.Revision
			seen[change.ID] = change.Revision
		}
		if c.More {
			continue
		}
		if c.Revision < since {
			t.Errorf("the store is at revision %d and told %d", c.Revision, since)
		}
		since = c.Revision // all up to it was told, whoever commits late
		if last {
			return seen
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
}

// A writer that takes its revision early and commits late would never be seen
// by who has read past it: a revoked key would go on working. So revisions
// must commit in their order.
func followers(t *testing.T, open Opener) {
	const writers, each = 6, 12
	done := make(chan struct{})
	var following sync.WaitGroup
	seen := make([]map[string]int64, 2)
	for i := range seen {
		s := open(t, gateway)
		following.Go(func() { seen[i] = follow(t, s, done) })
	}
	handles := []Store{open(t, gateway), open(t, gateway), open(t, gateway)}
	var mu sync.Mutex
	rows, revisions := map[string]int64{}, map[int64]string{}
	wrote := func(c store.Credential) {
		mu.Lock()
		defer mu.Unlock()
		if by, twice := revisions[c.Revision]; twice {
			t.Errorf("revision %d is of %s and %s", c.Revision, by, c.ID)
		}
		rows[c.ID], revisions[c.Revision] = c.Revision, c.ID
	}
	atOnce(writers, func(w int) {
		s, last := handles[w%len(handles)], int64(0)
		own := key(fmt.Sprintf("own-%d", w), "billing", fmt.Sprint(w))
		own, err := s.Insert(t.Context(), own, 0)
		for i := 0; i < each && err == nil; i++ {
			if own.Revision <= last {
				t.Errorf("revision %d after %d", own.Revision, last)
			}
			last = own.Revision
			wrote(own)
			var c store.Credential
			if c, err = s.Insert(t.Context(), nth(w*each+i), 0); err == nil {
				wrote(c)
				own, err = s.Update(t.Context(), own)
			}
		}
		if err != nil {
			t.Error(err)
			return
		}
		wrote(own)
	})
	close(done)
	following.Wait()
	for _, got := range seen {
		same(t, "what a follower saw last of each", rows, got)
	}
}

func hinted(s Store) func() bool {
	return func() bool {
		select {
		case <-s.Hints():
			return true
		default:
			return false
		}
	}
}

func hints(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, nth(1))
	eventually(t, "a hint of an insert", hinted(s))
	quiet(s)
	if _, err := s.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a hint of an update", hinted(s))
	quiet(s)
	if _, err := s.Restored(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a hint of a restore", hinted(s))

	for i := range 20 { // whom nobody listens to must not wait
		insert(t, s, nth(i+2))
	}
	eventually(t, "a hint of many", hinted(s))
}

func hintsAcross(t *testing.T, open Opener) {
	s, writer := open(t, gateway), open(t, gateway)
	for i := range 3 {
		quiet(s)
		insert(t, writer, nth(i))
		eventually(t, "a hint of another's change", hinted(s))
	}
}

// quiet takes what hints are on their way. A late one does no harm: it makes
// the test pass sooner, not wrongly fail.
func quiet(s Store) {
	for hinted(s)() {
		continue
	}
}
