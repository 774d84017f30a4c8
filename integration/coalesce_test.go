package integration_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestIdenticalReadsAreSentOnce has a hundred callers of one team read the same
// at once. Upstream answers when all of them were decided, and sees one request,
// for which there is one place; each caller has its own records.
func TestIdenticalReadsAreSentOnce(t *testing.T) {
	t.Parallel()
	const callers = 100
	arrived, release := make(chan struct{}, callers), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, anyAnswer)
	}))
	t.Cleanup(up.Close)
	one, two := newHolder("ops", "one", "members.read-all"), newHolder("ops", "two", "members.read-all")
	g := start(t, preamble+site(`scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
			max_in_flight 1
			retries 0
		}
		coalesce
		store none
		team ops {
			scopes members.read-all
			`+one.block()+two.block()+`
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}`), "MASTER="+masterToken, "UPSTREAM="+up.URL)

	read := call{method: "GET", target: "/api/v1/members"}
	var all []<-chan *answer
	for i := range callers {
		read.key = []string{one.key, two.key}[i%2]
		all = append(all, begin(t, g.addr, read))
	}
	decided := map[string]bool{}
	await(t, "all decisions on record", func() bool {
		for _, r := range g.records(t) {
			if r.Phase == "ended" {
				t.Fatalf("answered before upstream did: %+v", r)
			}
			decided[r.UUID] = true
		}
		return len(decided) == callers
	})
	// Between its record and its waiting, a caller is on its way.
	await(t, "all but one to wait for it", func() bool {
		_, stacks := g.ask(t, "/debug/pprof/goroutine?debug=2")
		return strings.Count(stacks, "flights.(*flight[...]).wait(") == callers-1
	})
	close(release)
	for _, back := range all {
		if a := <-back; a.status != 200 || a.body != anyAnswer || a.broken {
			t.Errorf("answered %d %s", a.status, a.body)
		}
	}
	if n := len(arrived); n != 1 {
		t.Errorf("%d requests arrived upstream, want one", n)
	}

	ended, leaders := map[string]bool{}, map[string]int{}
	await(t, "all ends on record", func() bool {
		clear(ended)
		clear(leaders)
		for _, r := range g.records(t) {
			if r.Phase == "ended" {
				ended[r.UUID] = true
				leaders[r.SharedWith]++
				if !decided[r.UUID] || !r.Complete || r.Reason != "allowed" || r.UpstreamStatus != 200 || r.Size != int64(len(anyAnswer)) {
					t.Fatalf("record %+v", r)
				}
			}
		}
		return len(ended) == callers
	})
	if leaders[""] != 1 || len(leaders) != 2 {
		t.Errorf("shared with: %v, want one for %d", leaders, callers-1)
	}
	for leader := range leaders {
		if leader != "" && !decided[leader] {
			t.Errorf("shared with %s, which was not decided", leader)
		}
	}
	m := g.metrics(t)
	if n := m[`scopegate_coalesced_total{gateway="default",team="ops"}`]; n != callers-1 {
		t.Errorf("%v counted as shared", n)
	}
	if n := m[`scopegate_upstream_duration_seconds_count{gateway="default",operation="listMembers"}`]; n != 1 {
		t.Errorf("%v exchanges counted", n)
	}

	// Nothing was kept.
	if a := send(t, g.addr, read); a.status != 200 || len(arrived) != 2 {
		t.Errorf("afterwards: %d, %d requests upstream", a.status, len(arrived))
	}
}
