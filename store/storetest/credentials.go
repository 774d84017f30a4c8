package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopegate/scopegate/store"
)

var credentials = map[string]func(t *testing.T, open Opener){
	"come back as they were stored":   roundTrip,
	"keep none and empty apart":       emptyLists,
	"get the store's own fields":      ownFields,
	"are not found":                   notFound,
	"have ids and names of their own": taken,
	"have places":                     places,
	"have places under load":          placesUnderLoad,
	"are of their gateway":            gateways,
}

// full has a value in each field, and times that try a column's edges.
func full() store.Credential {
	prague := time.FixedZone("", 3600)
	return store.Credential{
		ID: "Zm9vYmFyYmF6", Team: "billing", Name: "ci", State: "suspended",
		Note:   "čeká na potvrzení \u202e'; -- \"\\\n\t🔑",
		Scopes: []string{"members.read", "", `with "quotes", {and} \more`}, AllowedIPs: []string{"192.0.2.0/24", "2001:db8::/32"},
		NotBefore: time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC),
		Expires:   time.Date(9999, 12, 31, 23, 59, 59, 123456789, prague),
		CreatedBy: "ops@example.com",
		Generations: []store.Generation{
			{Number: 2, Hash: [32]byte{255, 0, 1}},
			{Number: 1, Hash: [32]byte{31: 7}, Ends: time.Date(2030, 1, 2, 3, 4, 5, 6000, prague), EndsOnUse: true},
		},
	}
}

func roundTrip(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := full()
	made := insert(t, s, c)

	want := c
	want.NotBefore = c.NotBefore.Truncate(time.Microsecond)
	want.Expires = c.Expires.Truncate(time.Microsecond)
	own := cmp.Options{
		cmpopts.IgnoreFields(store.Credential{}, "Created", "Changed", "Revision"),
		cmpopts.IgnoreFields(store.Generation{}, "Created"),
	}
	if diff := cmp.Diff(want, made, own); diff != "" {
		t.Errorf("what was stored (-want +got):\n%s", diff)
	}
	same(t, "read by another handle", made, fetch(t, open(t, gateway), c.ID))
	page, _, err := s.Credentials(t.Context(), store.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "listed", []store.Credential{made}, page)

	got := fetch(t, s, c.ID)
	for name, at := range map[string]time.Time{
		"not before": got.NotBefore, "expires": got.Expires, "created": got.Created, "changed": got.Changed,
		"generation's end": got.Generations[1].Ends, "generation's creation": got.Generations[1].Created,
	} {
		if at.Location() != time.UTC {
			t.Errorf("%s is in %s", name, at.Location())
		}
	}

	bare := insert(t, s, store.Credential{ID: "bare", Team: "billing", State: "active", Static: true})
	for name, at := range map[string]time.Time{"not before": bare.NotBefore, "expires": bare.Expires, "used": bare.Used.At} {
		if !at.IsZero() {
			t.Errorf("%s was not set and is %v", name, at)
		}
	}
	if bare.Generations != nil || !bare.Static {
		t.Errorf("a static row came back as %+v", bare)
	}
	same(t, "read again", bare, fetch(t, s, "bare"))
}

// A credential that narrows its team to nothing may do nothing. One that was
// stored so and read as one that narrows nothing would be all its team's.
func emptyLists(t *testing.T, open Opener) {
	s := open(t, gateway)
	lists := [][]string{nil, {}, {"a"}, {""}}
	for i, scopes := range lists {
		for j, networks := range lists {
			c := key(fmt.Sprintf("c%d%d", i, j), "billing", fmt.Sprintf("n%d%d", i, j))
			c.Scopes, c.AllowedIPs = scopes, networks
			made := insert(t, s, c)
			same(t, "scopes", scopes, made.Scopes)
			same(t, "networks", networks, made.AllowedIPs)

			made.Scopes, made.AllowedIPs = networks, scopes
			if _, err := s.Update(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			got := fetch(t, s, c.ID)
			same(t, "updated scopes", networks, got.Scopes)
			same(t, "updated networks", scopes, got.AllowedIPs)
		}
	}
}

func ownFields(t *testing.T, open Opener) {
	s := open(t, gateway)
	before := feed(t, s, 0).Now
	c := key("id", "billing", "ci")
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	c.Created, c.Changed, c.Revision, c.Generations[0].Created = long, long, 99, long
	made := insert(t, s, c)
	after := feed(t, s, 0).Now

	if made.Created.Before(before) || made.Created.After(after) {
		t.Errorf("created at %v, between %v and %v by the store's clock", made.Created, before, after)
	}
	if !made.Changed.Equal(made.Created) || !made.Generations[0].Created.Equal(made.Created) {
		t.Errorf("created at %v, changed at %v, its generation made at %v", made.Created, made.Changed, made.Generations[0].Created)
	}
	if made.Revision <= 0 || made.Revision == 99 {
		t.Errorf("revision %d", made.Revision)
	}
	if next := insert(t, s, key("next", "billing", "next")); next.Revision <= made.Revision {
		t.Errorf("revision %d after %d", next.Revision, made.Revision)
	}
}

func notFound(t *testing.T, open Opener) {
	s := open(t, gateway)
	insert(t, s, key("abc", "billing", "ci"))
	for _, id := range []string{"", "ab", "abcd", "ABC", "abc ", "%"} {
		if c, err := s.Credential(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %+v, %v", id, c, err)
		}
	}
}

func taken(t *testing.T, open Opener) {
	s := open(t, gateway)
	insert(t, s, key("active", "billing", "ci"))
	expired := key("expired", "billing", "old")
	expired.Expires = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	insert(t, s, expired)
	gone := key("gone", "billing", "gone")
	gone.State = store.Revoked
	insert(t, s, gone)
	insert(t, s, store.Credential{ID: "fixed", Team: "billing", Name: "fixed", State: "suspended", Static: true})
	last := feed(t, s, 0).Revision

	static := func(c store.Credential) store.Credential {
		c.Static, c.Generations = true, nil
		return c
	}
	revoked := func(c store.Credential) store.Credential {
		c.State = store.Revoked
		return c
	}
	tests := []struct {
		name string
		c    store.Credential
		free bool
	}{
		{"id", key("active", "support", "new"), false},
		{"id of a revoked one", key("gone", "billing", "new"), false},
		{"id of a static one", key("fixed", "billing", "new"), false},
		{"id by a static one", static(key("active", "billing", "new")), false},
		{"name", key("a", "billing", "ci"), false},
		{"name of an expired one", key("b", "billing", "old"), false},
		{"name in another case", key("c", "billing", "CI"), true},
		{"name in another team", key("d", "support", "ci"), true},
		{"name of a revoked one", key("e", "billing", "gone"), true},
		{"name of a static one", key("f", "billing", "fixed"), true},
		{"name by a static one", static(key("g", "billing", "ci")), true},
		{"name by a revoked one", revoked(key("h", "billing", "ci")), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Insert(t.Context(), tt.c, 0)
			if tt.free && err != nil || !tt.free && !errors.Is(err, store.ErrExists) {
				t.Fatalf("free %v, and the answer is %v", tt.free, err)
			}
			got := feed(t, s, last)
			if tt.free != (len(got.List) == 1) {
				t.Errorf("free %v, and %d changes", tt.free, len(got.List))
			}
			last = got.Revision
		})
	}

	c := fetch(t, s, "d")
	c.Team, c.Name = "billing", "nobody" // the team stays
	if _, err := s.Update(t.Context(), c); err != nil {
		t.Error(err)
	}
	insert(t, s, key("z", "support", "ci"))
	c = fetch(t, s, "d")
	c.Name = "ci"
	if _, err := s.Update(t.Context(), c); !errors.Is(err, store.ErrExists) {
		t.Errorf("a name that was taken by a rename: %v", err)
	}
	same(t, "the one whose rename was refused", "nobody", fetch(t, s, "d").Name)
}

func places(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	now := feed(t, s, 0).Now
	tests := []struct {
		name   string
		in     Store
		change func(c *store.Credential)
		counts bool
	}{
		{"active", s, func(*store.Credential) {}, true},
		{"suspended", s, func(c *store.Credential) { c.State = "suspended" }, true},
		{"not yet valid", s, func(c *store.Credential) { c.NotBefore = now.Add(time.Hour) }, true},
		{"soon expired", s, func(c *store.Credential) { c.Expires = now.Add(time.Hour) }, true},
		{"expired", s, func(c *store.Credential) { c.Expires = now.Add(-time.Microsecond) }, false},
		{"revoked", s, func(c *store.Credential) { c.State = store.Revoked }, false},
		{"static", s, func(c *store.Credential) { c.Static, c.Generations = true, nil }, false},
		{"of another team", s, func(c *store.Credential) { c.Team = "elsewhere" }, false},
		{"of another gateway", o, func(*store.Credential) {}, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			team := fmt.Sprintf("team-%d", i)
			for j := range 2 {
				c := key(fmt.Sprintf("c%d%d", i, j), team, fmt.Sprint(j))
				tt.change(&c)
				insert(t, tt.in, c)
			}
			next := key(fmt.Sprintf("next%d", i), team, "next")
			_, err := s.Insert(t.Context(), next, 2)
			if tt.counts != errors.Is(err, store.ErrFull) || !tt.counts && err != nil {
				t.Fatalf("counted %v, and the answer is %v", tt.counts, err)
			}
			if !tt.counts {
				return
			}
			if _, err := s.Credential(t.Context(), next.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("there was no place, and there is a row: %v", err)
			}
			made, err := s.Insert(t.Context(), next, 3)
			if err != nil {
				t.Fatal(err)
			}
			made.State = store.Revoked
			if _, err := s.Update(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Insert(t.Context(), key(next.ID+"b", team, "next"), 3); err != nil {
				t.Errorf("the place of a revoked one: %v", err)
			}
		})
	}
}

// Those who count before they insert, without a lock, all find a place.
func placesUnderLoad(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway), open(t, gateway)}
	const limit = 5
	var made, refused atomic.Int32
	atOnce(24, func(i int) {
		_, err := handles[i%len(handles)].Insert(t.Context(), nth(i), limit)
		switch {
		case err == nil:
			made.Add(1)
		case errors.Is(err, store.ErrFull):
			refused.Add(1)
		default:
			t.Error(err)
		}
	})
	if made.Load() != limit || refused.Load() != 24-limit {
		t.Errorf("%d made and %d refused; there are %d places", made.Load(), refused.Load(), limit)
	}
}

func gateways(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	made := insert(t, s, key("same", "billing", "ci"))
	if _, err := o.Credential(t.Context(), "same"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is found: %v", err)
	}
	if _, err := o.Update(t.Context(), made); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is changed: %v", err)
	}
	if page, _, err := o.Credentials(t.Context(), store.Filter{}); len(page) > 0 || err != nil {
		t.Errorf("another gateway's rows are listed: %v, %v", page, err)
	}
	if c := feed(t, o, 0); c.Revision != 0 || len(c.List) > 0 {
		t.Errorf("another gateway's changes are told: %+v", c)
	}

	theirs := key("same", "billing", "ci")
	theirs.Note, theirs.Generations[0].Hash = "theirs", [32]byte{9}
	theirs = insert(t, o, theirs)
	use := map[string]store.Use{"same": {At: made.Created.Add(time.Hour)}}
	if err := o.Used(t.Context(), use); err != nil {
		t.Fatal(err)
	}
	theirs.State = store.Revoked
	if _, err := o.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Restored(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	same(t, "a row, after another gateway changed its own of the same id", made, fetch(t, s, "same"))
	same(t, "the changes", []store.Change{{ID: "same", Revision: made.Revision, At: made.Changed}}, feed(t, s, 0).List)
}
