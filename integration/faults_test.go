package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/simulator"
)

// pair is a gateway before a simulated GoodAccess that goes wrong on demand.
type pair struct {
	*gateway
	sim    *simulator.Simulator
	caller *holder
}

// newPair starts both. The caller holds every scope; options are more lines
// of the upstream block.
func newPair(t *testing.T, options string) *pair {
	t.Helper()
	p := &pair{sim: simulator.New(simulator.Options{}), caller: newHolder("ops", "one", scopesBut()...)}
	up := httptest.NewServer(p.sim)
	t.Cleanup(up.Close)
	p.gateway = start(t, preamble+site(`scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
			`+options+`
		}
		team ops {
			scopes `+strings.Join(scopesBut(), " ")+`
			mint {
				scopes members.read
				allowed_ips 198.51.100.0/24
			}
			`+p.caller.block()+`
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
		reconcile off
	}`), "MASTER="+p.sim.Master(), "UPSTREAM="+up.URL)
	return p
}

// call sends one call of the caller's.
func (p *pair) call(t *testing.T, method, target, body string) *answer {
	t.Helper()
	return send(t, p.addr, call{method: method, target: target, body: body, key: p.caller.key})
}

// tries is how often an operation was asked for upstream since the last
// Forget.
func (p *pair) tries(operation string) int {
	n := 0
	for _, r := range p.sim.Requests() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

// What faults are tried on: a read, a change, and the token operations, whose
// answers are not relayed as they are.
var targets = map[string]struct{ method, path, body string }{
	"listMembers": {"GET", "/api/v1/members", ""},
	"updateGroup": {"PUT", "/api/v1/group/" + simulator.GroupID, `{"name":"new"}`},
	"listTokens":  {"GET", "/api/v1/tokens", ""},
	"createToken": {"POST", "/api/v1/token", ""}, // the body tells the time
}

// plainly answers 200 with a body.
func plainly(body string) simulator.Effect {
	return func(w http.ResponseWriter, _ *http.Request, _ func() simulator.Answer) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

// fault is one way in which upstream goes wrong, and what comes of it.
type fault struct {
	name   string
	effect simulator.Effect
	status int    // that the caller gets
	reason string // "" where the answer is relayed
	behind int    // the status upstream, where there was one
	again  bool   // a read is tried again
	broken bool   // the answer had begun and is cut off
}

// TestFaultsUpstream lets upstream go wrong in every way that the simulator
// knows, on a read and on a change, and sees that the caller is told, that
// all of it is on record, that no change is ever sent twice, and that the
// next request goes well.
func TestFaultsUpstream(t *testing.T) {
	t.Parallel()
	p := newPair(t, "timeout 2s\n retries 1")
	master := p.sim.Master()
	never := make(chan struct{})
	defer close(never)
	var list []fault
	for status, reason := range map[int]string{
		401: "upstream_unauthorized", 403: "upstream_forbidden",
		301: "upstream_redirect", 302: "upstream_redirect", 303: "upstream_redirect", 307: "upstream_redirect", 308: "upstream_redirect",
		206: "upstream_status", 304: "upstream_status", 402: "upstream_status", 405: "upstream_status", 410: "upstream_status", 418: "upstream_status", 451: "upstream_status",
		500: "upstream_error", 501: "upstream_error", 505: "upstream_error", 502: "upstream_error", 503: "upstream_error", 504: "upstream_error",
		400: "", 404: "", 409: "", 422: "", 429: "",
	} {
		f := fault{name: fmt.Sprint(status), status: 502, reason: reason, behind: status, again: status >= 502 && status <= 504}
		if reason == "" {
			f.status = status
		}
		f.effect = simulator.Status(status, http.Header{"Location": {"https://evil.example/"}, "Retry-After": {"7"}, "WWW-Authenticate": {"Bearer"}})
		list = append(list, f)
	}
	list = append(list,
		fault{name: "a reset", effect: simulator.Refuse(), status: 502, reason: "upstream_unreachable", again: true},
		fault{name: "a reset once it was done", effect: simulator.Lose(), status: 502, reason: "upstream_unreachable", again: true},
		fault{name: "half an answer", effect: simulator.Truncate(), status: 502, reason: "upstream_broken", again: true},
		fault{name: "silence", effect: simulator.Hold(nil, never), status: 504, reason: "upstream_timeout"},
		fault{name: "a stall", effect: simulator.Stall(nil, never), status: 504, reason: "upstream_timeout"},
		fault{name: "byte by byte, too slowly", effect: simulator.Trickle(time.Second), status: 504, reason: "upstream_timeout"},
		fault{name: "byte by byte", effect: simulator.Trickle(time.Microsecond), status: 200, behind: 200},
		fault{name: "an encoded answer", effect: simulator.Gzip(), status: 502, reason: "upstream_shape", behind: 200},
		fault{name: "a huge answer", effect: simulator.Huge(8 << 20), status: 200, behind: 200},
		fault{name: "a huge header", effect: simulator.Status(200, http.Header{"X-Huge": {strings.Repeat("x", 300<<10)}}), status: 502, reason: "upstream_unreachable", again: true},
		fault{name: "a tunnel", effect: simulator.Status(101, http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}), status: 502, reason: "upstream_status", behind: 101},
		fault{name: "the master in a header", effect: simulator.LeakHeader("X-Debug", "token="+master), status: 502, reason: "upstream_leak"},
		fault{name: "the master in a cookie", effect: simulator.LeakHeader("Set-Cookie", "t="+master+"; Secure"), status: 502, reason: "upstream_leak"},
		fault{name: "the master in the type", effect: simulator.LeakHeader("Content-Type", "text/"+master), status: 502, reason: "upstream_leak"},
		fault{name: "the master at once", effect: simulator.LeakBody(master, 0), status: 502, reason: "upstream_leak"},
		fault{name: "the master early", effect: simulator.LeakBody(master, 1000), status: 502, reason: "upstream_leak"},
		fault{name: "the master at the end of what is held", effect: simulator.LeakBody(master, 64<<10-len(master)), status: 502, reason: "upstream_leak"},
		fault{name: "the master across the end of what is held", effect: simulator.LeakBody(master, 64<<10-5), status: 200, reason: "upstream_leak", behind: 200, broken: true},
		fault{name: "the master late", effect: simulator.LeakBody(master, 64<<10+32<<10-1), status: 200, reason: "upstream_leak", behind: 200, broken: true},
		fault{name: "the master very late", effect: simulator.LeakBody(master, 3<<20), status: 200, reason: "upstream_leak", behind: 200, broken: true},
	)
	for _, f := range list {
		for _, operation := range []string{"listMembers", "updateGroup"} {
			t.Run(f.name+" on "+operation, func(t *testing.T) { p.suffer(t, f, operation) })
		}
	}
	// What upstream says of the master is counted, and told to the operators.
	if n := p.metrics(t)[`scopegate_master_token_rejected_total{gateway="default"}`]; n != 4 {
		t.Errorf("the master was refused %v times, want 4", n)
	}
	for _, line := range []string{"upstream rejects the master token", "the master token occurs in an answer"} {
		if !strings.Contains(p.output.String(), line) {
			t.Errorf("the log does not say %q", line)
		}
	}
	if strings.Contains(p.output.String()+p.readFile(t, "audit.jsonl"), master) {
		t.Error("the master token is in a log")
	}
}

// suffer lets one fault hit one operation.
func (p *pair) suffer(t *testing.T, f fault, operation string) {
	heal := p.sim.Fail(simulator.Fault{Operation: operation, Effect: f.effect})
	p.sim.Forget()
	to := targets[operation]
	body := to.body
	if operation == "createToken" {
		body = minting("members.read")
	}
	a := p.call(t, to.method, to.path, body)
	heal()
	tries := p.tries(operation)
	switch {
	case a.status != f.status || a.broken != f.broken:
		t.Errorf("status %d, broken %v, want %d, %v: %.300s", a.status, a.broken, f.status, f.broken, a.body)
	case !f.broken && a.Reason != f.reason:
		t.Errorf("reason %q, want %q", a.Reason, f.reason)
	case f.reason != "" && !f.broken && (a.DeniedBy != "upstream" || a.Upstream != f.behind || a.Description == ""):
		t.Errorf("problem %+v, want upstream status %d", a.problem, f.behind)
	case to.method != http.MethodGet && tries != 1:
		t.Errorf("a change was sent %d times", tries)
	case to.method == http.MethodGet && (tries > 1) != f.again:
		t.Errorf("a read was sent %d times", tries)
	}
	if got := fmt.Sprint(a.header) + a.body + a.more; strings.Contains(got, p.sim.Master()) || strings.Contains(got, p.sim.Master()[:16]) {
		t.Error("the master token went through")
	}
	for _, name := range []string{"Location", "Set-Cookie", "WWW-Authenticate", "X-Debug", "X-Huge"} {
		if a.header.Get(name) != "" {
			t.Errorf("header %s went through", name)
		}
	}
	if got := a.header.Get("Retry-After"); (got == "7") != (f.status == 429) {
		t.Errorf("Retry-After: %q", got)
	}

	ended := p.recordOf(t, a.decision(), "ended")
	reason := f.reason
	if reason == "" {
		reason = "allowed"
	}
	if ended.Decision != "allow" || ended.Reason != reason || ended.Status != f.status || ended.UpstreamStatus != f.behind || ended.Complete != (f.reason == "") {
		t.Errorf("record %+v", ended)
	}
	if a := p.call(t, to.method, to.path, body); a.status != http.StatusOK || a.broken {
		t.Errorf("the next request: %d %s", a.status, a.body)
	}
}

// TestShapesOfTokenAnswers answers the token operations with what they have
// never been seen to answer: nothing of that goes through.
func TestShapesOfTokenAnswers(t *testing.T) {
	t.Parallel()
	p := newPair(t, "timeout 20s\n retries 1")
	const uuid = `"5f0c2d7e-91b4-4c63-8a17-3e0d5b9f6a21"`
	for operation, bodies := range map[string][]string{
		"listTokens": {
			"", "{}", "null", `"x"`, "[1]", `[null]`, `[{}]`, `[{"id":1}]`, `[{"id":"x"}]`, `[{"id":` + uuid + `,"id":` + uuid + `}]`, `{"data":[],"items":[]}`,
			`{"data":{}}`, `{"tokens":[]}`, `[]x`, `[][]`, `[`, "\ufeff[]", `[{"id":` + uuid + `}`,
		},
		"createToken": {
			"", "{}", "[]", "null", `{"created_id":1}`, `{"created_id":"x"}`, `{"created_id":null,"id":` + uuid + `}`, `{"created_id":` + uuid + `,"created_id":` + uuid + `}`,
			`{"data":{"id":` + uuid + `},"token":{"id":` + uuid + `}}`, `{"a":{"b":{"id":` + uuid + `}}}`, `{"created_id":` + uuid + `} x`, `{"created_id":` + uuid, strings.Repeat(" ", 70<<10) + `{"created_id":` + uuid + `}`,
		},
	} {
		for _, body := range bodies {
			f := fault{effect: plainly(body), status: 502, reason: "upstream_shape", behind: 200}
			t.Run(operation+" "+body[:min(len(body), 40)], func(t *testing.T) { p.suffer(t, f, operation) })
		}
	}
	// Each of these may have made a token. None is counted as made.
	outcomes := p.metrics(t).of("scopegate_mints_total")
	if n := outcomes[`scopegate_mints_total{gateway="default",outcome="unknown",team="ops"}`]; n != 13 {
		t.Errorf("mints: %v", outcomes)
	}
}

// TestBreaker sees the breaker hold requests back from an upstream that
// fails, and let them through again once it does not.
func TestBreaker(t *testing.T) {
	t.Parallel()
	p := newPair(t, "timeout 20s\n retries 0")
	const state = `scopegate_breaker_state{gateway="default"}`
	heal := p.sim.Fail(simulator.Fault{Effect: simulator.Status(503, nil)})
	var a *answer
	await(t, "the breaker to open", func() bool {
		a = p.call(t, "GET", "/api/v1/members", "")
		return a.Reason == "upstream_breaker_open"
	})
	before := len(p.sim.Requests())
	for _, to := range []string{"listMembers", "updateGroup"} {
		a = p.call(t, targets[to].method, targets[to].path, targets[to].body)
		if a.status != 503 || a.Reason != "upstream_breaker_open" || a.DeniedBy != "gateway" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %+v Retry-After: %q", to, a.status, a.problem, a.header.Get("Retry-After"))
		}
		if r := p.recordOf(t, a.decision(), "ended"); r.Reason != a.Reason || r.Complete || r.UpstreamStatus != 0 {
			t.Errorf("record %+v", r)
		}
	}
	if n := len(p.sim.Requests()); n != before {
		t.Errorf("upstream was asked %d times although the breaker is open", n-before)
	}
	if n := p.metrics(t)[state]; n != 2 {
		t.Errorf("breaker state %v", n)
	}
	// Readiness is the gateway's own: a fleet must not leave service because
	// of what it stands before.
	if a := send(t, p.addr, call{method: "GET", target: "/_scopegate/readyz"}); a.status != 200 {
		t.Errorf("ready: %d", a.status)
	}
	heal()
	await(t, "the breaker to close", func() bool { return p.call(t, "GET", "/api/v1/members", "").status == 200 })
	if n := p.metrics(t)[state]; n != 0 {
		t.Errorf("breaker state %v", n)
	}
}
