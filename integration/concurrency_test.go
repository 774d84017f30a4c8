package integration_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/simulator"
)

// TestChangeOutlivesItsCaller lets a caller hang up while a change is under
// way: it is carried out, and its end is on record.
func TestChangeOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	p := newPair(t, "timeout 20s")
	arrived, release := make(chan struct{}), make(chan struct{})
	p.sim.Fail(simulator.Fault{Operation: "createGroup", Effect: simulator.Hold(arrived, release)})
	conn := dial(t, p.addr)
	c := call{method: "POST", target: "/api/v1/group", body: `{"name":"left alone"}`, key: p.caller.key}
	if _, err := conn.Write([]byte(c.text(p.addr))); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	close(release)
	decision := ""
	await(t, "the record of the decision", func() bool {
		for _, r := range p.records(t) {
			if r.Operation == "createGroup" {
				decision = r.UUID
			}
		}
		return decision != ""
	})
	if r := p.recordOf(t, decision, "ended"); r.UpstreamStatus != 200 || r.Decision != "allow" {
		t.Errorf("record %+v", r)
	}
	if a := p.call(t, "GET", "/api/v1/groups", ""); !strings.Contains(a.body, "left alone") {
		t.Errorf("the change was not made: %s", a.body)
	}
	if n := p.tries("createGroup"); n != 1 {
		t.Errorf("the change was sent %d times", n)
	}
}

// TestReadEndsWithItsCaller lets a caller hang up while a read is under way:
// nobody is left to read it for.
func TestReadEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	p := newPair(t, "timeout 20s")
	arrived, gone := make(chan struct{}), make(chan struct{})
	p.sim.Fail(simulator.Fault{Operation: "listMembers", Times: 1, Effect: func(_ http.ResponseWriter, r *http.Request, _ func() simulator.Answer) {
		arrived <- struct{}{}
		<-r.Context().Done()
		close(gone)
	}})
	conn := dial(t, p.addr)
	c := call{method: "GET", target: "/api/v1/members", key: p.caller.key}
	if _, err := conn.Write([]byte(c.text(p.addr))); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-gone
	await(t, "the end of the read on record", func() bool {
		for _, r := range p.records(t) {
			if r.Phase == "ended" {
				return r.Reason == "client_gone" && !r.Complete
			}
		}
		return false
	})
	if n := p.tries("listMembers"); n != 1 {
		t.Errorf("a read for nobody was sent %d times", n)
	}
}

// TestOneTeamCannotTakeAllPlaces fills the places upstream: one team gets
// three quarters of them, the rest is left to others, and a team's own bound
// comes before that.
func TestOneTeamCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	busy, other, bounded := newHolder("busy", "a", "members.read-all"), newHolder("other", "b", "members.read-all"), newHolder("bounded", "c", "members.read-all")
	sim := simulator.New(simulator.Options{})
	up := httptest.NewServer(sim)
	t.Cleanup(up.Close)
	g := start(t, preamble+site(`scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
			max_in_flight 4
			timeout 25s
		}
		team busy {
			scopes members.read-all
			`+busy.block()+`
		}
		team other {
			scopes members.read-all
			`+other.block()+`
		}
		team bounded {
			scopes members.read-all
			max_in_flight 1
			`+bounded.block()+`
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}`), "MASTER="+sim.Master(), "UPSTREAM="+up.URL)

	arrived, release := make(chan struct{}), make(chan struct{})
	heal := sim.Fail(simulator.Fault{Operation: "listMembers", Effect: simulator.Hold(arrived, release)})
	list := func(h *holder) <-chan *answer {
		return begin(t, g.addr, call{method: "GET", target: "/api/v1/members", key: h.key})
	}
	var held []<-chan *answer
	hold := func(h *holder) {
		held = append(held, list(h))
		<-arrived
	}
	refused := func(h *holder, status int, reason string) {
		t.Helper()
		a := <-list(h)
		if a.status != status || a.Reason != reason || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %+v Retry-After: %q, want %d %s", h.team, a.status, a.problem, a.header.Get("Retry-After"), status, reason)
		}
	}
	for range 3 {
		hold(busy)
	}
	refused(busy, 503, "upstream_busy")
	hold(bounded)
	refused(bounded, 429, "too_many_in_flight")
	refused(other, 503, "upstream_busy")

	if n := g.metrics(t)[`scopegate_requests_in_flight{gateway="default"}`]; n != 4 {
		t.Errorf("%v in flight, want 4", n)
	}
	heal()
	close(release)
	for _, back := range held {
		if a := <-back; a.status != 200 || a.broken {
			t.Errorf("held: %d %s", a.status, a.body)
		}
	}
	for _, h := range []*holder{busy, other, bounded} {
		if a := <-list(h); a.status != 200 {
			t.Errorf("%s afterwards: %d %s", h.team, a.status, a.body)
		}
	}
}
