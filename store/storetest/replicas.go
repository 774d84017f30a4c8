package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopegate/scopegate/store"
)

var replicas = map[string]func(t *testing.T, open Opener){
	"beat":                 beats,
	"leave":                leaves,
	"are of their gateway": replicasOfGateways,
}

func replica(id string, started time.Time) store.Replica {
	return store.Replica{ID: id, Host: "gw.example.com", Version: "v1.2.3", Started: started, Revision: 4, Silence: 65 * time.Second}
}

func beat(t *testing.T, s Store, r store.Replica) {
	t.Helper()
	if err := s.Beat(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func living(t *testing.T, s Store) ([]store.Replica, time.Time) {
	t.Helper()
	list, now, err := s.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list, now
}

func beats(t *testing.T, open Opener) {
	s := open(t, gateway)
	none, before := living(t, s)
	if len(none) != 0 || before.IsZero() || before.Location() != time.UTC {
		t.Errorf("of an empty store: %v at %v", none, before)
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	c, b, a := replica("c", start.Add(-time.Hour)), replica("b", start), replica("a", start)
	a.Beat = start // by the store's clock, not by this
	for _, r := range []store.Replica{b, a, c} {
		beat(t, s, r)
	}
	b.Revision, b.Silence = 9, 5*time.Second
	beat(t, open(t, gateway), b)

	got, now := living(t, s)
	if diff := cmp.Diff([]store.Replica{c, a, b}, got, cmpopts.IgnoreFields(store.Replica{}, "Beat")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, r := range got {
		if r.Beat.Before(before) || r.Beat.After(now) {
			t.Errorf("%s beat at %v, between %v and %v by the store's clock", r.ID, r.Beat, before, now)
		}
		if r.Beat.Location() != time.UTC || r.Started.Location() != time.UTC {
			t.Errorf("%s has times of another zone", r.ID)
		}
	}
	if feed(t, s, 0).Revision != 0 {
		t.Error("a beat is no change")
	}
}

func leaves(t *testing.T, open Opener) {
	s := open(t, gateway)
	beat(t, s, replica("a", time.Unix(1, 0)))
	beat(t, s, replica("b", time.Unix(2, 0)))
	for _, id := range []string{"a", "a", "nobody"} {
		if err := s.Leave(t.Context(), id); err != nil {
			t.Errorf("%s leaves: %v", id, err)
		}
	}
	if got, _ := living(t, s); len(got) != 1 || got[0].ID != "b" {
		t.Errorf("left are %v", got)
	}
}

func replicasOfGateways(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	beat(t, s, replica("same", time.Unix(1, 0)))
	theirs := replica("same", time.Unix(2, 0))
	theirs.Host = "other.example.com"
	beat(t, o, theirs)
	if got, _ := living(t, s); len(got) != 1 || got[0].Host != "gw.example.com" {
		t.Errorf("a gateway has %v", got)
	}
	if err := o.Leave(t.Context(), "same"); err != nil {
		t.Fatal(err)
	}
	if got, _ := living(t, s); len(got) != 1 {
		t.Errorf("after another gateway's left: %v", got)
	}
}
