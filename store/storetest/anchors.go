package storetest

import (
	"testing"

	"github.com/scopegate/scopegate/store"
)

var anchors = map[string]func(t *testing.T, open Opener){
	"are the last of each day": lastAnchors,
}

// A log is signed every few seconds for years, and what is kept of that must
// stay few; an older signature never takes the place of a newer one.
func lastAnchors(t *testing.T, open Opener) {
	s := open(t, gateway)
	keep := func(s Store, log, day string, seq int64, note string) {
		t.Helper()
		if err := s.Anchor(t.Context(), store.Anchor{Log: log, Day: day, Seq: seq, Note: note}); err != nil {
			t.Fatal(err)
		}
	}
	keep(s, "b", "2026-11-21", 30, "b30")
	keep(s, "b", "2026-11-20", 10, "b10")
	keep(s, "b", "2026-11-20", 20, "b20")
	keep(s, "b", "2026-11-20", 15, "b15")
	keep(s, "b", "2026-11-20", 20, "again")
	keep(s, "a", "2026-11-20", 9, "a9")
	keep(open(t, other), "b", "2026-11-20", 99, "other")
	b := []store.Anchor{{Log: "b", Day: "2026-11-20", Seq: 20, Note: "b20"}, {Log: "b", Day: "2026-11-21", Seq: 30, Note: "b30"}}
	for log, want := range map[string][]store.Anchor{
		"": append([]store.Anchor{{Log: "a", Day: "2026-11-20", Seq: 9, Note: "a9"}}, b...), "b": b, "c": nil,
	} {
		got, err := s.Anchors(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		if len(got)+len(want) > 0 {
			same(t, "of log "+log, want, got)
		}
	}
}
