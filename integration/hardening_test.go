package integration_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	masterToken = "master/token+of=the-tests"
	enough      = 600 // exchanges, below which this test would prove too little
)

// exchange is one call and what has to come of it.
type exchange struct {
	name string
	call
	to string  // default: the gateway with the inferred operations on
	as *holder // whom the call proves to come from; nil is nobody

	status int
	reason string // of a refusal by the gateway
	sent   string // the request line that arrives upstream, "" for none
	with   string // the body that arrives with it

	// drops says that the gateway deletes the token by itself, which is made
	// or was to be deleted: GoodAccess did not do as it said.
	drops bool

	// before says that Caddy's HTTP server refuses the call, or another site
	// answers it: the gateway never sees it, and cannot record it.
	before bool
}

// hardening makes exchanges with one running gateway and keeps the books that
// its audit log and metrics have to agree with.
type hardening struct {
	*gateway
	up      *recorder
	callers callers

	made         int
	decided      map[string]exchange // by decision
	unidentified int
	counted      series // requests, as the metrics should have them

	tokens map[string]string // whose each one is that was ever made: gateway, team
	owed   map[string]bool   // tokens that the gateway is to delete by itself
	own    map[string]int    // the gateway's own requests, as they should be on record
	stamps map[string]bool   // all that were seen
}

// callers are those that the gateways know.
type callers struct {
	full, reader, clerk, unminting, narrow, plain, clamped *holder

	only, lacking map[string]*holder // by scope: one that holds just it, and all but it
	out           map[string]*holder // by the reason for which they are refused
}

func newCallers() *callers {
	nets := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/48")}
	month := 30 * 24 * time.Hour
	c := &callers{only: map[string]*holder{}, lacking: map[string]*holder{}, out: map[string]*holder{}}

	c.full = newHolder("all", "full", scopesBut()...)
	c.full.passwords, c.full.inferred = true, true
	c.full.mint = &bounds{scopesBut(tokenScopes...), nets, month, 12 * time.Hour}
	for i, scope := range scopesBut() {
		c.only[scope] = newHolder("all", fmt.Sprintf("only-%d", i), scope)
		c.lacking[scope] = newHolder("all", fmt.Sprintf("lacking-%d", i), scopesBut(scope)...)
		for _, h := range []*holder{c.only[scope], c.lacking[scope]} {
			h.inferred = true
		}
	}
	c.only["token.create"].mint = &bounds{} // of nothing
	for reason, options := range map[string]string{
		"credential_suspended":     "state suspended",
		"credential_revoked":       "state revoked",
		"credential_expired":       "expires 2020-01-01",
		"credential_not_yet_valid": "not_before 2099-01-01",
		"client_address":           "allowed_ips 192.0.2.0/24 2001:db8::/32",
	} {
		h := newHolder("all", reason, scopesBut()...)
		h.options = options
		c.out[reason] = h
	}
	c.reader = newHolder("readers", "reader", "members.read", "members.read-all", "members.update", "token.create", "token.read-all")
	c.reader.mint = &bounds{[]string{"members.read", "members.read-all"}, nets, month, 12 * time.Hour}
	c.narrow = newHolder("readers", "narrow", "token.create", "members.read")
	c.narrow.mint = &bounds{[]string{"members.read"}, nets, 5 * 24 * time.Hour, 12 * time.Hour}
	c.narrow.options = "expires " + time.Now().Add(5*24*time.Hour).UTC().Format(time.RFC3339)
	c.clerk = newHolder("clerks", "clerk", "members.read", "members.update", "members.create")
	c.unminting = newHolder("clerks", "unminting", "token.create", "members.read")
	c.plain = newHolder("all", "full", scopesBut()...) // of the other gateway
	c.clamped = newHolder("clamped", "clamped", "token.create", "members.read", "members.read-all", "groups.read")
	c.clamped.mint = &bounds{[]string{"members.read", "members.read-all"}, nets, month, 0}
	return c
}

// caddyfile configures two gateways that say of the callers what they say
// themselves.
func (c *callers) caddyfile() string {
	var all strings.Builder
	for _, group := range []map[string]*holder{c.only, c.lacking, c.out} {
		for _, h := range group {
			all.WriteString(h.block())
		}
	}
	every := strings.Join(scopesBut(), " ")
	const bounds = "allowed_ips 198.51.100.0/24 2001:db8::/48\n max_ttl 30d\n"
	const upstream = "upstream {$UPSTREAM} {\n master_token {env.MASTER}\n master_token_id " + aToken + "\n}\n"
	const audit = "audit {\n output file {$DIR}/audit.jsonl\n}\nreconcile off\n" // a list upstream is always a caller's
	return preamble + site("scopegate {\n"+upstream+"operations +inferred\n"+
		"team all {\n scopes "+every+"\n member_passwords\n mint {\n scopes "+strings.Join(scopesBut(tokenScopes...), " ")+"\n"+bounds+"}\n"+
		c.full.block()+all.String()+"}\n"+
		"team readers {\n scopes members.read members.read-all members.update token.create token.read-all\n mint {\n scopes members.read members.read-all\n"+bounds+"}\n"+
		c.reader.block()+c.narrow.block()+"}\n"+
		"team clerks {\n scopes members.* token.create\n"+c.clerk.block()+c.unminting.block()+"}\n"+audit+"}\n") +
		"http://:{$PORT} {\n bind 127.0.0.1\n respond 421\n}\n" +
		"http://{$SECOND} {\n bind 127.0.0.1\n scopegate plain {\n" + upstream + "expires_zone UTC\n" +
		"team all {\n scopes " + every + "\n" + c.plain.block() + "}\n" +
		"team clamped {\n scopes members.* groups.read token.create\n mint {\n scopes members.read members.read-all\n" + bounds + "clamp\n}\n" +
		c.clamped.block() + "}\n" + audit + "}\n}\n"
}

// TestHardening attacks the gateway in every way that its authors thought of.
// Whatever is refused is refused by name, recorded and counted, and does not
// arrive upstream; whatever arrives there is held against what its caller may
// do; and what is permitted arrives just as it should.
func TestHardening(t *testing.T) {
	t.Parallel()
	c := newCallers()
	up := newRecorder(t)
	h := &hardening{
		up: up, callers: *c, decided: map[string]exchange{}, counted: series{},
		tokens: map[string]string{}, owed: map[string]bool{}, own: map[string]int{}, stamps: map[string]bool{},
	}
	h.gateway = start(t, c.caddyfile(), "MASTER="+masterToken, "UPSTREAM="+up.URL)

	t.Run("operations", func(t *testing.T) { h.operations(t) })
	t.Run("methods", func(t *testing.T) { h.methods(t) })
	t.Run("paths", func(t *testing.T) { h.paths(t) })
	t.Run("credentials", func(t *testing.T) { h.credentials(t) })
	t.Run("headers", func(t *testing.T) { h.headers(t) })
	t.Run("smuggling", func(t *testing.T) { h.smuggling(t) })
	t.Run("bodies", func(t *testing.T) { h.bodies(t) })
	t.Run("mints", func(t *testing.T) { h.mints(t) })
	t.Run("random mints", func(t *testing.T) { h.randomMints(t) })
	t.Run("others' tokens", func(t *testing.T) { h.othersTokens(t) })
	t.Run("untrue answers", func(t *testing.T) { h.untrueAnswers(t) })

	t.Run("records", func(t *testing.T) { h.checkRecords(t) })
	t.Run("metrics", func(t *testing.T) { h.checkMetrics(t) })
	t.Logf("%d exchanges", h.made)
	if h.made <= enough {
		t.Errorf("%d exchanges, want more than %d", h.made, enough)
	}
}

// do makes one exchange and sees that it ends as it should.
func (h *hardening) do(t *testing.T, x exchange) *answer {
	t.Helper()
	h.made++
	h.theirs(t, exchange{name: "between two exchanges"})
	gateway := "default"
	if x.to == "" {
		x.to = h.addr
	} else {
		gateway = "plain"
	}
	a := send(t, x.to, x.call)
	arrived := h.theirs(t, x)
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s (%s %.80q): %s\nanswer: %d %v\n%.300s", x.name, x.method, x.target, fmt.Sprintf(format, args...), a.status, a.header, a.body)
	}
	body := ""
	if len(arrived) > 0 {
		body, _ = unstamped(arrived[0].body)
	}
	switch {
	case a.status != x.status:
		complain("status %d, want %d", a.status, x.status)
	case a.Reason != x.reason && x.method != http.MethodHead:
		complain("reason %q, want %q", a.Reason, x.reason)
	case x.sent == "" && len(arrived) > 0:
		complain("upstream received %+v", arrived)
	case x.sent != "" && len(arrived) != 1:
		complain("upstream received %d requests, want %s", len(arrived), x.sent)
	case x.sent != "" && (arrived[0].method+" "+arrived[0].target != x.sent || body != x.with):
		complain("upstream received %s %s %q, want %s %q", arrived[0].method, arrived[0].target, body, x.sent, x.with)
	case x.sent == mintSent && x.status == http.StatusOK && a.body != mintAnswer(arrived[0].made):
		complain("not the answer to the mint")
	case x.before:
		if a.decision() != "" {
			complain("the gateway decided something")
		}
		return a
	case a.decision() == "":
		complain("no decision")
	case a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff":
		complain("the answer may be kept or sniffed")
	case x.reason != "" && x.method != http.MethodHead:
		p := a.problem
		if p.Status != a.status || p.Decision != a.decision() || p.Description == "" || !strings.HasSuffix(p.Type, "#"+x.reason) {
			complain("not a whole problem: %+v", p)
		}
		if (a.status == http.StatusUnauthorized) != strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") && x.reason != "insufficient_scope" {
			complain("challenge %q", a.header.Get("WWW-Authenticate"))
		}
	}
	for _, name := range []string{"Set-Cookie", "Location", "Access-Control-Allow-Origin", "X-Powered-By", "Trailer", "X-Trailer"} {
		if a.header.Get(name) != "" {
			complain("header %s came through", name)
		}
	}
	said := a.body + a.more + fmt.Sprint(a.header)
	if strings.Contains(said, masterToken) || strings.Contains(said, aSecret) {
		complain("the answer holds the master token or another secret")
	}
	if (x.sent != mintSent || x.status != http.StatusOK) && strings.Contains(said, newSecret("")) {
		complain("the answer holds the secret of a token that is not given out")
	}
	h.note(x, gateway, a)
	return a
}

// mintSent is the request line of a mint.
const mintSent = "POST /api/v1/token"

// theirs returns what arrived upstream on behalf of the exchange's caller, and
// judges it together with what the gateway sent by itself. By itself it asks
// for a token that was just made, for one that was just deleted, and for
// nothing else, but for those that it has to delete.
func (h *hardening) theirs(t *testing.T, x exchange) (list []received) {
	t.Helper()
	host := h.up.Listener.Addr().String()
	owner := h.owner(x)
	proofs := map[string]int{}
	for _, r := range h.up.take() {
		id, one := strings.CutPrefix(r.target, "/api/v1/token/")
		_, due := proofs[id]
		var err error
		switch {
		case one && h.owed[id] && (r.method == http.MethodGet || r.method == http.MethodDelete),
			one && due && r.method == http.MethodGet:
			if err = r.judge(masterToken, host); err == nil && (r.body != "" || h.tokens[id] == "") {
				err = fmt.Errorf("not what the gateway asks by itself: %s %s %q", r.method, r.target, r.body)
			}
			h.own[r.method+" "+id]++
			proofs[id]++
		default:
			err = x.as.judge(r, masterToken, host, h.tokensOf(owner)...)
			list = append(list, r)
			switch {
			case r.made != "":
				h.enter(t, r, owner)
				h.owed[r.made] = x.drops
				proofs[r.made] = 0
			case one && r.method == http.MethodDelete:
				h.owed[id] = x.drops
				proofs[id] = 0
			}
		}
		if err != nil {
			t.Errorf("%s (%s %.80q): upstream received too much: %v", x.name, x.method, x.target, err)
		}
	}
	for id, n := range proofs {
		if n != 1 && !h.owed[id] {
			t.Errorf("%s (%s %.80q): the gateway asked %d times what became of the token", x.name, x.method, x.target, n)
		}
	}
	return list
}

// owner names those whose tokens the exchange may be about.
func (h *hardening) owner(x exchange) string {
	if x.as == nil {
		return ""
	}
	if x.to == h.second {
		return "plain " + x.as.team
	}
	return "default " + x.as.team
}

// tokensOf are the ids of all tokens that were ever made by them.
func (h *hardening) tokensOf(owner string) (ids []string) {
	for id, whose := range h.tokens {
		if whose == owner {
			ids = append(ids, id)
		}
	}
	return ids
}

// enter enters a token that was made into the books. No two have one stamp.
func (h *hardening) enter(t *testing.T, r received, owner string) {
	t.Helper()
	h.tokens[r.made] = owner
	_, stamp := unstamped(r.body)
	if h.stamps[stamp] {
		t.Errorf("a second token has the stamp %s", stamp)
	}
	h.stamps[stamp] = true
}

// note enters an exchange into the books.
func (h *hardening) note(x exchange, gateway string, a *answer) {
	decision, reason, team := "allow", "allowed", "unidentified"
	if x.reason != "" {
		decision, reason = "deny", x.reason
	}
	if x.sent != "" {
		decision = "allow" // what becomes of it then is GoodAccess's doing
	}
	if x.as != nil {
		team = x.as.team
		h.decided[a.decision()] = x
	} else {
		h.unidentified++
	}
	h.counted[fmt.Sprintf("scopegate_requests_total{decision=%q,gateway=%q,reason=%q,team=%q}", decision, gateway, reason, team)]++
}

// checkRecords holds the audit log against the books. Failed identifications
// have a budget; beyond it they are counted, which is a record too.
func (h *hardening) checkRecords(t *testing.T) {
	var unidentified int
	var all map[string][]record
	var own map[string]int
	await(t, "the audit log to be complete", func() bool {
		unidentified, all, own = 0, map[string][]record{}, map[string]int{}
		complete := 0
		for _, r := range h.records(t) {
			if r.Operator != "" {
				if r.Phase == "decided" && r.Change == "" {
					own[map[string]string{"getToken": "GET ", "revokeToken": "DELETE "}[r.Operation]+r.TokenID]++
				}
				continue
			}
			unidentified += r.Suppressed
			if r.Phase == "decided" && r.Team == "" {
				unidentified++
			}
			all[r.UUID] = append(all[r.UUID], r)
			if r.Phase == "ended" {
				complete++
			}
		}
		return unidentified >= h.unidentified && complete >= h.sent()
	})
	h.theirs(t, exchange{name: "after all exchanges"})
	if diff := cmp.Diff(h.own, own); diff != "" {
		t.Errorf("the gateway's own requests and their records differ (-sent +recorded):\n%s", diff)
	}
	if unidentified != h.unidentified {
		t.Errorf("%d failed identifications are on record, want %d", unidentified, h.unidentified)
	}
	for decision, x := range h.decided {
		found := all[decision]
		want := 1
		if x.sent != "" {
			want = 2
		}
		if len(found) != want {
			t.Errorf("%s: %d records, want %d: %+v", x.name, len(found), want, found)
			continue
		}
		first, last := found[0], found[len(found)-1]
		decided, reason := "deny", x.reason
		if x.sent != "" || reason == "" {
			decided, reason = "allow", "allowed"
		}
		switch {
		case first.Phase != "decided" || first.Decision != decided || first.Reason != reason,
			first.Team != x.as.team, !strings.HasPrefix(first.ClientIP, "127.0."):
			t.Errorf("%s: record %+v", x.name, first)
		case x.sent == "" && first.Status != x.status:
			t.Errorf("%s: recorded status %d, want %d", x.name, first.Status, x.status)
		case x.sent != "" && (last.Phase != "ended" || last.Complete != (x.reason == "") || last.Status != x.status || last.UpstreamStatus != 200):
			t.Errorf("%s: record %+v", x.name, last)
		}
	}
}

// sent is how many exchanges went upstream.
func (h *hardening) sent() int {
	n := 0
	for _, x := range h.decided {
		if x.sent != "" {
			n++
		}
	}
	return n
}

// checkMetrics holds the metrics against the books: each exchange counted
// once, under the right name, and nothing else.
func (h *hardening) checkMetrics(t *testing.T) {
	var got series
	await(t, "all requests to have left", func() bool {
		got = h.metrics(t)
		for _, n := range got.of("scopegate_requests_in_flight") {
			if n != 0 {
				return false
			}
		}
		return true
	})
	requests := got.of("scopegate_requests_total")
	for name, want := range h.counted {
		if requests[name] != want {
			t.Errorf("%s is %v, want %v", name, requests[name], want)
		}
		delete(requests, name)
	}
	for name, n := range requests {
		if n != 0 {
			t.Errorf("%s is %v, want none", name, n)
		}
	}
	sum := func(s series) (n float64) {
		for _, v := range s {
			n += v
		}
		return n
	}
	if a, b := sum(h.counted), sum(got.of("scopegate_operations_total")); a != b {
		t.Errorf("%v requests by operation, want %v", b, a)
	}
	if slices.ContainsFunc([]string{"scopegate_audit_failures_total", "scopegate_master_token_rejected_total"}, func(f string) bool { return sum(got.of(f)) != 0 }) {
		t.Errorf("something failed: %v", got)
	}
}
