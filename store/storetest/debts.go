package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var debts = map[string]func(t *testing.T, open Opener){
	"are due":                          dueTokens,
	"are moved by team and credential": movedTokens,
	"are moved in any number":          manyMoves,
	"are moved once":                   movesAtOnce,
	"are moved only if it makes sense": refusedMoves,
	"are those of ended credentials":   strandedTokens,
	"are counted":                      tokenCounts,
}

func dueTokens(t *testing.T, open Opener) {
	s := open(t, gateway)
	now := feed(t, s, 0).Now
	at := func(nonce, state string, due time.Time) {
		row := as(state, token(nonce, nonce))
		row.Due = due
		mint(t, s, row)
	}
	at("a", "revoking", now.Add(-time.Minute))
	at("b", "live", now.Add(-time.Hour))
	at("c", "unknown", now.Add(-2*time.Minute))
	at("d", "revoking", now.Add(time.Hour))
	at("e", "revoking", time.Time{})
	at("f", "gone", now.Add(-time.Hour))
	at("g", "revoking", now.Add(-3*time.Minute))
	at("h", "revoking", now.Add(-time.Minute))
	theirs := as("revoking", token("x", "x"))
	theirs.Due = now.Add(-time.Hour)
	mint(t, open(t, other), theirs)
	tests := []struct {
		states []string
		limit  int
		want   []string
	}{
		{nil, 9, []string{}},
		{[]string{"revoking"}, 9, []string{"g", "a", "h"}},
		{[]string{"revoking"}, 2, []string{"g", "a"}},
		{[]string{"revoking", "unknown"}, 9, []string{"g", "c", "a", "h"}},
		{[]string{"unknown", "revoking", "unknown"}, 3, []string{"g", "c", "a"}},
		{[]string{"live", "gone", "intent"}, 9, []string{"b"}},
		{[]string{"revoking"}, 0, []string{"g", "a", "h"}},
	}
	for _, tt := range tests {
		got, err := s.DueTokens(t.Context(), tt.states, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprint(tt.states, tt.limit), tt.want, nonces(got))
	}
	soon := as("intent", token("soon", "soon"))
	soon.Due = feed(t, s, 0).Now.Add(20 * time.Millisecond)
	mint(t, s, soon)
	eventually(t, "what was due soon", func() bool {
		got, err := s.DueTokens(t.Context(), []string{"intent"}, 9)
		if err != nil {
			t.Fatal(err)
		}
		return len(got) == 1
	})
}

func movedTokens(t *testing.T, open Opener) {
	rows := []store.Token{
		token("a", "a"), as("revoking", token("b", "b")), as("gone", token("c", "c")), as("intent", token("d", "d")),
		of("billing", "web", token("e", "e")), of("support", "ci", token("f", "f")), of("support", "desk", token("g", "g")),
	}
	tests := []struct {
		name   string
		filter store.TokenFilter
		from   string
		want   []string
	}{
		{"team", store.TokenFilter{Team: "billing"}, "live", []string{"a", "e"}},
		{"credential", store.TokenFilter{Credential: "ci"}, "live", []string{"a", "f"}},
		{"both", store.TokenFilter{Team: "billing", Credential: "ci"}, "live", []string{"a"}},
		{"another state", store.TokenFilter{Team: "billing"}, "intent", []string{"d"}},
		{"nothing", store.TokenFilter{Team: "nobody"}, "live", nil},
		{"a page, which it is not", store.TokenFilter{Team: "billing", States: []string{"intent"}, After: "a", Limit: 1}, "live", []string{"a", "e"}},
	}
	s := open(t, gateway)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := map[string]store.Token{}
			for _, row := range rows {
				row.Attempts, row.Failure = 4, "503"
				before[row.Nonce] = mint(t, s, row)
			}
			started := feed(t, s, 0).Now
			n, err := s.MoveTokens(t.Context(), tt.filter, tt.from, "moved", "proč")
			if err != nil || n != len(tt.want) {
				t.Errorf("%d were moved, %v", n, err)
			}
			ended := feed(t, s, 0).Now
			for nonce, want := range before {
				got := held(t, s, nonce)
				if slices.Contains(tt.want, nonce) {
					if got.Due.Before(started) || got.Due.After(ended) || !got.Changed.Equal(got.Due) {
						t.Errorf("%s is due at %v, and was changed at %v", nonce, got.Due, got.Changed)
					}
					want.State, want.Cause, want.Attempts, want.Failure = "moved", "proč", 0, ""
					want.Due, want.Changed, want.Version = got.Due, got.Changed, 2
				}
				same(t, nonce, want, got)
				if err := s.DropToken(t.Context(), nonce, got.Version, ""); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// One transaction that moves a large team would keep others from their turns.
func manyMoves(t *testing.T, open Opener) {
	s := open(t, gateway)
	const many = 1001
	atOnce(4, func(i int) {
		for n := i; n < many; n += 4 {
			if _, err := s.InsertToken(t.Context(), token(fmt.Sprint(n), fmt.Sprint(n)), store.TokenBounds{}, nil); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, filter := range []store.TokenFilter{{Team: "billing"}, {Credential: "ci"}} {
		from, to := "live", "revoking"
		if filter.Team == "" {
			from, to = to, from
		}
		if n, err := s.MoveTokens(t.Context(), filter, from, to, ""); n != many || err != nil {
			t.Errorf("%+v: %d were moved, %v", filter, n, err)
		}
	}
}

func movesAtOnce(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	const many = 50
	for i := range many {
		mint(t, handles[0], token(fmt.Sprint(i), ""))
	}
	var moved atomic.Int32
	atOnce(4, func(i int) {
		filter := store.TokenFilter{Team: "billing"}
		if i >= 2 {
			filter = store.TokenFilter{Credential: "ci"}
		}
		n, err := handles[i%2].MoveTokens(t.Context(), filter, "live", "revoking", "")
		if err != nil {
			t.Error(err)
		}
		moved.Add(int32(n))
	})
	if moved.Load() != many {
		t.Errorf("%d of %d were moved", moved.Load(), many)
	}
}

func refusedMoves(t *testing.T, open Opener) {
	s := open(t, gateway)
	made := mint(t, s, token("nonce", "id"))
	gone := mint(t, s, as(store.TokenGone, token("gone", "gone")))
	for _, tt := range []struct {
		filter   store.TokenFilter
		from, to string
	}{
		{store.TokenFilter{}, "live", "revoking"},
		{store.TokenFilter{States: []string{"live"}}, "live", "revoking"},
		{store.TokenFilter{Team: "billing"}, "live", "live"},
		{store.TokenFilter{Team: "billing"}, store.TokenGone, "live"},
	} {
		if n, err := s.MoveTokens(t.Context(), tt.filter, tt.from, tt.to, ""); n != 0 || err == nil {
			t.Errorf("%+v: %d were moved, %v", tt, n, err)
		}
	}
	same(t, "the row", made, held(t, s, "nonce"))
	same(t, "the one that is gone", gone, held(t, s, "gone"))
}

func strandedTokens(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	now := feed(t, s, 0).Now
	credential := func(s Store, id string, change func(c *store.Credential)) {
		c := key(id, "billing", id)
		change(&c)
		insert(t, s, c)
	}
	revoked := func(c *store.Credential) { c.State = store.Revoked }
	credential(s, "active", func(*store.Credential) {})
	credential(s, "expired", func(c *store.Credential) { c.Expires = now.Add(-time.Microsecond) })
	credential(s, "expiring", func(c *store.Credential) { c.Expires = now.Add(time.Hour) })
	credential(s, "revoked", revoked)
	credential(s, "static", func(c *store.Credential) { c.State, c.Static, c.Generations = store.Revoked, true, nil })
	credential(s, "suspended", func(c *store.Credential) { c.State = "suspended" })
	credential(s, "unused", revoked)
	credential(o, "active", revoked)
	credential(o, "elsewhere", revoked)
	for i, id := range []string{"revoked", "active", "expired", "expiring", "static", "suspended", "", "nobody", "elsewhere", "revoked"} {
		mint(t, s, of("billing", id, token(fmt.Sprint(i), fmt.Sprint(i))))
	}
	for i, state := range []string{"intent", "unknown", "revoking", "gone"} {
		mint(t, s, as(state, of("billing", "revoked", token(fmt.Sprint("other", i), ""))))
	}
	got, err := s.StrandedTokens(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "stranded", []string{"0", "2", "4", "9"}, sorted(nonces(got)))
	for limit := range 5 {
		got, err := s.StrandedTokens(t.Context(), limit)
		if err != nil || limit > 0 && len(got) != limit {
			t.Errorf("%d of %d: %v", len(got), limit, err)
		}
	}
	for _, row := range got {
		if _, err := s.UpdateToken(t.Context(), as("revoking", row), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.StrandedTokens(t.Context(), 9); len(got) != 0 || err != nil {
		t.Errorf("left: %v, %v", nonces(got), err)
	}
	if _, err := o.TokenByNonce(t.Context(), "0"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func tokenCounts(t *testing.T, open Opener) {
	s := open(t, gateway)
	if got, err := s.TokenCounts(t.Context(), "live"); len(got) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	mint(t, open(t, other), token("x", "x"))
	mint(t, s, as(store.TokenGone, token("gone", "gone")))
	first := mint(t, s, token("a", "a"))
	second := mint(t, s, token("b", "b"))
	intent := mint(t, s, as("intent", token("c", "")))
	mint(t, s, of("billing", "web", token("d", "d")))
	support := mint(t, s, of("support", "ci", token("e", "e")))
	mint(t, s, of("support", "", token("f", "f")))
	count := func(row store.Token, n int) store.TokenCount {
		return store.TokenCount{Team: row.Team, State: row.State, N: n}
	}
	aged := func(row store.Token, n int) store.TokenCount {
		c := count(row, n)
		c.Oldest = row.Changed
		return c
	}
	want := []store.TokenCount{count(intent, 1), aged(first, 3), aged(support, 2)}
	check := func() {
		t.Helper()
		got, err := s.TokenCounts(t.Context(), store.TokenLive)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "counts", want, got)
	}
	check()
	// What is tried again and again gets no younger.
	first, err := s.UpdateToken(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	check()
	if _, err = s.UpdateToken(t.Context(), as(store.TokenGone, first), nil); err != nil {
		t.Fatal(err)
	}
	want[1] = aged(second, 2)
	check()
	if got, err := s.TokenCounts(t.Context(), ""); err != nil || len(got) != len(want) || !got[1].Oldest.IsZero() {
		t.Errorf("of no state: %v, %v", got, err)
	}
}
