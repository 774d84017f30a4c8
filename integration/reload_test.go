package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/scopegate/scopegate/simulator"
)

// simulated starts a simulated GoodAccess and returns what a gateway needs to
// find it.
func simulated(t *testing.T) (sim *simulator.Simulator, env []string) {
	t.Helper()
	sim = simulator.New(simulator.Options{})
	up := httptest.NewServer(sim)
	t.Cleanup(up.Close)
	return sim, []string{"MASTER=" + sim.Master(), "UPSTREAM=" + up.URL}
}

const (
	plainUpstream = "upstream {$UPSTREAM} {\n master_token {env.MASTER}\n}\n"

	// The gateway asks nothing of upstream by itself, so that all that is
	// counted there and in the audit log is the callers'.
	plainAudit = "audit {\n output file {$DIR}/audit.jsonl\n}\nreconcile off\n"
)

// team is the block of a team with one caller.
func team(h *holder, options string) string {
	return "team " + h.team + " {\n scopes " + strings.Join(h.scopes, " ") + "\n" + options + "\n" + h.block() + "}\n"
}

// TestReloadUnderLoad replaces the configuration again and again, by others
// and by the same, while requests come in on new connections and kept ones,
// reads and changes. Each that is answered is answered well, and recorded,
// counted and sent upstream once.
//
// A connection may end without an answer, which is nothing that a module of
// Caddy sees: Linux resets those that wait at the socket which Caddy closes
// (unless net.ipv4.tcp_migrate_req is set), and net/http closes those whose
// first request comes in while it shuts down. So callers call again, as HTTP
// clients do, and the books show that the gateway never had such a request.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	sim, env := simulated(t)
	h := newHolder("ops", "one", scopesBut()...)
	config := func(i int) string {
		more := newHolder("more", fmt.Sprintf("n%d", i), "members.read")
		return preamble + site("scopegate {\n"+plainUpstream+team(h, fmt.Sprintf("max_in_flight %d", 100+i))+team(more, "")+plainAudit+"}\n")
	}
	g := start(t, config(0), env...)

	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	kept := func() (status int) {
		req, err := http.NewRequest(http.MethodGet, "http://"+g.addr+"/api/v1/members", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Header.Set("Authorization", "Bearer "+h.key)
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("half an answer: %v", err)
		}
		return resp.StatusCode
	}
	fresh := func(c call) (status int) {
		c.key = h.key
		a := try(t, g.addr, c)
		if a == nil {
			return 0
		}
		if a.broken {
			t.Errorf("half an answer: %d %s", a.status, a.body)
		}
		return a.status
	}
	var reads, changes, lost atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, count := 0, &reads
				switch i % 3 {
				case 0:
					status = kept()
				case 1:
					status = fresh(call{method: "GET", target: "/api/v1/members"})
				case 2:
					status = fresh(call{method: "PUT", target: "/api/v1/group/" + simulator.GroupID, body: `{"name":"x"}`})
					count = &changes
				}
				switch status {
				case 0:
					count = &lost
				case http.StatusOK:
				default:
					t.Errorf("caller %d: %d", i, status)
				}
				count.Add(1)
			}
		})
	}
	answered := func() int64 { return reads.Load() + changes.Load() }
	for i := range 16 {
		before := answered()
		await(t, "requests between reloads", func() bool { return answered() > before+20 || t.Failed() })
		// Every other time the same text again, which Caddy does not reload.
		g.mustLoad(t, config((i+1)/2))
	}
	close(stop)
	callers.Wait()
	t.Logf("%d requests, %d connections without an answer", answered(), lost.Load())

	await(t, "the records of all requests", func() bool {
		count := map[string]int64{}
		for _, r := range g.records(t) {
			count[r.Phase]++
			if r.Phase == "ended" && (!r.Complete || r.Reason != "allowed") {
				t.Fatalf("record %+v", r)
			}
		}
		return count["decided"] == answered() && count["ended"] == answered()
	})
	if n := g.metrics(t)[`scopegate_requests_total{decision="allow",gateway="default",reason="allowed",team="ops"}`]; n != float64(answered()) {
		t.Errorf("%v requests counted, want %d", n, answered())
	}
	all := sim.Requests()
	if last := all[len(all)-1].Number; int64(last) != answered() {
		t.Errorf("%d requests arrived upstream, want %d", last, answered())
	}
}

// TestRequestOutlivesItsConfiguration holds a request back upstream while the
// configuration is replaced by one that knows its team no more: it ends as it
// was decided, and the new configuration serves at once.
func TestRequestOutlivesItsConfiguration(t *testing.T) {
	t.Parallel()
	sim, env := simulated(t)
	old, young := newHolder("old", "one", "members.read-all"), newHolder("young", "one", "members.read-all")
	config := func(h *holder) string {
		return preamble + site("scopegate {\n"+plainUpstream+team(h, "")+plainAudit+"}\n")
	}
	g := start(t, config(old), env...)
	members := func(h *holder) call {
		return call{method: "GET", target: "/api/v1/members", key: h.key}
	}
	// A connection that waits at the old listener while it closes is reset.
	list := func(h *holder) (a *answer) {
		await(t, "an answer", func() bool {
			a = try(t, g.addr, members(h))
			return a != nil
		})
		return a
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	heal := sim.Fail(simulator.Fault{Operation: "listMembers", Effect: simulator.Hold(arrived, release)})
	back := begin(t, g.addr, members(old))
	<-arrived
	heal()
	g.mustLoad(t, config(young))

	if a := list(young); a.status != 200 {
		t.Errorf("the new team: %d %s", a.status, a.body)
	}
	if a := list(old); a.status != 401 {
		t.Errorf("the old team: %d %s", a.status, a.body)
	}
	close(release)
	a := <-back
	if a.status != 200 || a.broken {
		t.Errorf("the held request: %d %s", a.status, a.body)
	}
	if r := g.recordOf(t, a.decision(), "ended"); r.Team != "old" || !r.Complete {
		t.Errorf("record %+v", r)
	}
	// Who is gone from the configuration is gone from the metrics, whatever
	// the request that came last out of the old one counted.
	await(t, "the old team's series to go", func() bool { return len(g.metrics(t).naming(`team="old"`)) == 0 })
	if len(g.metrics(t).naming(`team="young"`)) == 0 {
		t.Error("the new team has no series")
	}
}

// TestFailedReloadChangesNothing loads configurations that are wrong in
// themselves and ones that fail only when they are about to start. The
// gateway, its metrics and the admin routes go on as before.
func TestFailedReloadChangesNothing(t *testing.T) {
	t.Parallel()
	_, env := simulated(t)
	h := newHolder("ops", "one", "members.read-all")
	good := site("scopegate {\n" + plainUpstream + team(h, "rate_limit 1000 1h") + plainAudit + "}\n")
	g := start(t, preamble+good, env...)
	works := func(name string) {
		t.Helper()
		if a := send(t, g.addr, call{method: "GET", target: "/api/v1/members", key: h.key}); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if status, text := g.ask(t, "/scopegate/"); status != 200 || !strings.Contains(text, "default") {
			t.Errorf("%s: admin: %d %s", name, status, text)
		}
		if status, text := g.ask(t, "/scopegate/default"); status != 200 || !strings.Contains(text, `"ready": true`) {
			t.Errorf("%s: admin: %d %s", name, status, text)
		}
	}
	works("at first")
	for i, c := range []struct{ name, config, want string }{
		{"no Caddyfile", "{", ""},
		{"a typo", strings.Replace(good, "rate_limit", "rate_limits", 1), "did you mean"},
		{"an unknown scope", strings.Replace(good, "members.read-all", "members.read-al", 1), "members.read-all"},
		{"a team twice", strings.Replace(good, "audit {", team(newHolder("ops", "two", "members.read"), "")+"audit {", 1), "stands twice"},
		{"a gateway twice", good + "http://{$SECOND} {\n bind 127.0.0.1\n scopegate {\n" + plainUpstream + team(h, "") + plainAudit + "}\n}\n", "stands twice"},
		{"no master token", strings.Replace(good, "{env.MASTER}", "{env.NOT_SET}", 1), "NOT_SET"},
		{"a token that is a file which is not there", strings.Replace(good, "{env.MASTER}", "{file.{$DIR}/none}", 1), "none"},
		{"a literal token", strings.Replace(good, "{env.MASTER}", "{$MASTER}", 1), "placeholder"},
		{"an audit log that is a folder", strings.Replace(good, "{$DIR}/audit.jsonl", "{$DIR}", 1), "audit"},
		{"an audit log below a file", strings.Replace(good, "{$DIR}/audit.jsonl", "{$DIR}/Caddyfile/audit.jsonl", 1), "audit"},
		{"another module that fails", good + "http://{$SECOND} {\n bind 127.0.0.1\n tls {$DIR}/none {$DIR}/none\n}\n", ""},
		{"an address that is taken", strings.Replace(good, "bind 127.0.0.1", "bind 192.0.2.1", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := g.load(t, preamble+c.config)
			if status/100 != 4 && status/100 != 5 || !strings.Contains(text, c.want) {
				t.Errorf("%d %s, want %q", status, text, c.want)
			}
			if strings.Contains(text, strings.TrimPrefix(env[0], "MASTER=")) {
				t.Error("the answer holds the master token")
			}
			works("afterwards")
			got := g.metrics(t)[`scopegate_requests_total{decision="allow",gateway="default",reason="allowed",team="ops"}`]
			if got != float64(i+2) {
				t.Errorf("%v requests counted, want %d", got, i+2)
			}
		})
	}
	g.mustLoad(t, preamble+strings.Replace(good, "1000 1h", "1001 1h", 1))
	works("after a good one")
}

// TestTwoGateways runs two in one process, which share an audit log and
// nothing else.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	_, env := simulated(t)
	a, b := newHolder("ops", "one", "members.read-all"), newHolder("ops", "one", "groups.read-all")
	config := func(second string) string {
		return preamble + site("scopegate {\n"+plainUpstream+team(a, "")+plainAudit+"}\n") +
			"http://{$SECOND} {\n bind 127.0.0.1\n scopegate " + second + " {\n" + plainUpstream + team(b, "") + plainAudit + "}\n}\n"
	}
	g := start(t, config("other"), env...)
	for _, c := range []struct {
		addr, target string
		by           *holder
		status       int
	}{
		{g.addr, "/api/v1/members", a, 200},
		{g.second, "/api/v1/groups", b, 200},
		{g.addr, "/api/v1/groups", b, 401},
		{g.second, "/api/v1/members", a, 401},
		{g.second, "/api/v1/members", b, 403},
	} {
		if got := send(t, c.addr, call{method: "GET", target: c.target, key: c.by.key}); got.status != c.status {
			t.Errorf("%s of %s: %d, want %d", c.target, c.addr, got.status, c.status)
		}
	}
	await(t, "the records of both", func() bool {
		seen := map[string]int{}
		for _, r := range g.records(t) {
			seen[r.Gateway+" "+r.Phase]++
		}
		return seen["default decided"] == 2 && seen["other decided"] == 3 && seen["default ended"] == 1 && seen["other ended"] == 1
	})
	if _, text := g.ask(t, "/scopegate/"); !strings.Contains(text, `"default"`) || !strings.Contains(text, `"other"`) {
		t.Errorf("admin: %s", text)
	}
	if status, _ := g.ask(t, "/scopegate/nobody"); status != 404 {
		t.Errorf("admin: %d for a gateway that is not there", status)
	}
	g.mustLoad(t, config("renamed"))
	for name, want := range map[string]bool{"default": true, "renamed": true, "other": false} {
		if got := len(g.metrics(t).naming(`gateway="`+name+`"`)) > 0; got != want {
			t.Errorf("series of %s: %v", name, got)
		}
		if status, _ := g.ask(t, "/scopegate/"+name); (status == 200) != want {
			t.Errorf("admin of %s: %d", name, status)
		}
	}
}

// TestBucketsOutliveReload uses an allowance up: neither a reload nor a
// larger bound hands out a new one, and the largest part of what is left of
// it is what the caller is told.
func TestBucketsOutliveReload(t *testing.T) {
	t.Parallel()
	_, env := simulated(t)
	h := newHolder("ops", "one", "members.read-all")
	config := func(limit string) string {
		return preamble + site("scopegate {\n"+plainUpstream+team(h, limit)+plainAudit+"}\n")
	}
	g := start(t, config("rate_limit 3 24h"), env...)
	list := func() *answer {
		return send(t, g.addr, call{method: "GET", target: "/api/v1/members", key: h.key})
	}
	for i := range 3 {
		a := list()
		if want := fmt.Sprintf("r=%d", 2-i); a.status != 200 || !strings.Contains(a.header.Get("RateLimit"), want) || a.header.Get("RateLimit-Policy") != `"team";q=3;w=86400` {
			t.Errorf("request %d: %d RateLimit: %q RateLimit-Policy: %q", i, a.status, a.header.Get("RateLimit"), a.header.Get("RateLimit-Policy"))
		}
	}
	for _, limit := range []string{"rate_limit 3 24h", "rate_limit 3 24h\n max_in_flight 9", "rate_limit 4 24h", "rate_limit 3 24h 3"} {
		if a := list(); a.status != 429 || a.Reason != "rate_limited" || a.header.Get("Retry-After") == "" {
			t.Errorf("before %q: %d %+v Retry-After: %q", limit, a.status, a.problem, a.header.Get("Retry-After"))
		}
		g.mustLoad(t, config(limit))
	}
	if a := list(); a.status != 429 {
		t.Errorf("at last: %d", a.status)
	}
}
