package main

import (
	"bytes"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

func TestFillSpreadsOverTeams(t *testing.T) {
	const n, teams = 50, 5
	path := filepath.Join(t.TempDir(), "store.db")
	keys, err := fill(t.Context(), path, n, teams)
	if err != nil || len(keys) != n {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	st, err := sqlite.Open(t.Context(), path, "default")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	owners := map[string]string{}
	for i, text := range keys {
		key, err := credential.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := st.Credential(t.Context(), key.ID())
		if err != nil || c.Team != team(i%teams) {
			t.Errorf("credential %d: %+v, %v", i, c, err)
		}
		owners[c.ID] = c.Team
	}
	rows, _, err := st.Tokens(t.Context(), store.TokenFilter{Limit: n + 1})
	if err != nil || len(rows) != n {
		t.Fatalf("%d tokens, %v", len(rows), err)
	}
	for _, row := range rows {
		if row.Team == team(lister) || row.Team == team(minter) || owners[row.Credential] != row.Team {
			t.Errorf("a token of %s that %s's %s made", row.Team, owners[row.Credential], row.Credential)
		}
	}
}

func TestOnceAsksWithEachKey(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if seen[key]++; key == "refused" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	var keys []string
	for i := range 3*callers*window + 1 {
		keys = append(keys, team(i))
	}
	address := server.Listener.Addr().String()
	if err := once(t.Context(), address, keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if seen[key] != 1 {
			t.Errorf("%s asked %d times", key, seen[key])
		}
	}
	if err := once(t.Context(), address, []string{"refused"}); err == nil {
		t.Error("a refusal is passed over")
	}
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		name string
		goal goal
		want string
	}{
		{"met", goal{"reload", 0.5, 1, " s"}, "scale: reload: 0.5 s, goal 1 s ok\n"},
		{"at its bound", goal{"ratio", 1.1, 1.1, ""}, "scale: ratio: 1.1, goal 1.1 ok\n"},
		{"missed", goal{"memory", 401, 400, " MiB"}, "scale: memory: 401 MiB, goal 400 MiB short\n"},
		{"not measured", goal{"ratio", math.NaN(), 1.1, ""}, "scale: ratio: NaN, goal 1.1 short\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			ok := verdict(&out, []goal{tt.goal, {"another", 0, 0, ""}})
			if got, _, _ := strings.Cut(out.String(), "scale: another"); got != tt.want || ok != tt.goal.ok() {
				t.Errorf("%q, %v", got, ok)
			}
		})
	}
}

// What slows the machine in one round slows both of its halves.
func TestRatioIsOfTheSameRound(t *testing.T) {
	of, in := []time.Duration{10, 100, 33}, []time.Duration{10, 100, 30}
	if got := ratio(of, in); got != 1 {
		t.Errorf("%v", got)
	}
}

func TestGoals(t *testing.T) {
	c := &contender{size: enough, used: 100 * enough, peak: 1 << 20, costs: make([][]time.Duration, len(works))}
	for i := range works {
		c.costs[i] = []time.Duration{1}
	}
	r := reloaded{took: []time.Duration{2 * time.Second, time.Millisecond, 3 * time.Second}, failed: 1}
	var short []string
	for _, g := range goals([]*contender{c, c}, r) {
		if !g.ok() {
			short = append(short, g.name)
		}
	}
	if got := strings.Join(short, ", "); got != "reload, requests that failed during reloads" {
		t.Errorf("short: %s", got)
	}
}

func TestReadRefusesWhatCannotBeMeasured(t *testing.T) {
	good := settings{teams: 3, rounds: 1, requests: 1, mints: 1, conns: 1, rate: 1, reloads: 1}
	few, none := good, good
	few.teams, none.rounds = 2, 0
	tests := []struct {
		name  string
		s     settings
		sizes string
		ok    bool
	}{
		{"good", good, "3,1000000", true},
		{"no number", good, "3,x", false},
		{"too few", good, "2", false},
		{"too few teams", few, "3", false},
		{"no rounds", none, "3", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.s.read(tt.sizes); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}
