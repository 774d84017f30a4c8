package scopegate

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

// request is one request on its way through the gateway. Each step reads what
// the steps before it found out and adds its own.
type request struct {
	g       *Gateway
	w       http.ResponseWriter
	r       *http.Request
	started time.Time
	decided time.Duration // how long the decision took
	client  netip.Addr

	held    credential.Credential
	caller  *credential.Credential // held, once proven
	epoch   uint64                 // of the stored credentials when it was read
	match   scopes.Match
	verdict limits.Verdict
	shaped  shaped
	owned   owned

	record  audit.Record
	status  int   // of the answer, once it is being written
	written int64 // bytes of its body
	*told
}

// requests are used again and again: one is so large that making it anew would
// cost more than deciding about it. Nothing may hold on to one, or to a part of
// it, when its request has ended.
var requests = sync.Pool{New: func() any { return new(request) }}

// ServeHTTP takes a request through the steps. It never calls the next
// handler: what a gateway stands before is its upstream, and nothing else.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if !g.inside.enter() {
		// This configuration was replaced while the request was under way.
		if now, ok := gateway(g.Name); ok && now != g {
			return now.ServeHTTP(w, r, nil)
		}
		return caddyhttp.Error(http.StatusServiceUnavailable, errRetired)
	}
	defer g.inside.leave()
	if g.serveProbe(w, r) {
		return nil
	}

	q := requests.Get().(*request) //nolint:forcetypeassert // the pool holds nothing else
	q.g, q.w, q.r, q.started = g, w, r, time.Now()
	g.meter.InFlight(+1)
	defer q.done()
	q.open()
	if no := q.steps(); no != nil {
		q.refuse(no)
	}
	return nil
}

// steps is the whole way of a request. The order is the order in which
// callers see refusals.
func (q *request) steps() *refusal {
	if no := q.identify(); no != nil {
		return no
	}
	if no := q.decide(); no != nil {
		return no
	}
	if no := q.shape(); no != nil {
		return no
	}
	if no := q.own(); no != nil {
		return no
	}
	switch {
	case q.match.Operation == whoami:
		return q.answerWhoami()
	case q.owned.again.answered():
		return q.answerAgain()
	}
	return q.exchange()
}

// open notes what is known of every request.
func (q *request) open() {
	repl, _ := q.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	q.told = &told{id: decisionID(q.r, repl)}
	if repl != nil {
		repl.Delete(userID) // whatever stood there
		repl.Map(q.told.placeholder)
	}
	ip, _ := caddyhttp.GetVar(q.r.Context(), caddyhttp.ClientIPVarKey).(string)
	q.client = parseClient(ip)
	q.record.UUID, q.record.ClientIP = q.id, ip
	if q.r.ContentLength > 0 {
		q.record.RequestSize = q.r.ContentLength
	}
}

// parseClient reads Caddy's trusted client address. What it cannot read
// becomes the zero Addr, which no list of networks contains.
func parseClient(ip string) netip.Addr {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(ip)
		if splitErr != nil {
			return netip.Addr{}
		}
		if a, err = netip.ParseAddr(host); err != nil {
			return netip.Addr{}
		}
	}
	return a.Unmap().WithZone("")
}

// identify finds out who asks: step 1 of the way.
func (q *request) identify() *refusal {
	if strings.Contains(q.r.URL.Path, credential.Prefix) {
		// It would pass for an opaque id, and go upstream and into logs.
		return refuse(policy.MisplacedCredential)
	}
	if !q.g.room.fresh(q.started) {
		return refuse(policy.StoreUnavailable)
	}
	q.epoch = q.g.room.epoch()
	reason := q.g.auth.Authenticate(q.r.Header, q.r.URL.RawQuery, q.started, &q.held)
	if q.held.Proven() { // though maybe not in force
		q.caller = &q.held
		q.record.Team, q.record.Credential = q.caller.Identity.Team.Name, q.caller.Identity.Credential
		q.told.team, q.told.credential = q.record.Team, q.record.Credential
	}
	if reason == policy.CredentialRetired {
		q.record.Generation = q.held.Generation
		q.g.reused(&q.held, q.record.ClientIP)
	}
	if reason != policy.Allowed {
		return refuse(reason)
	}
	q.g.room.supersede(&q.held)
	return nil
}

// stands asks once more, now that the request is about to leave, whether its
// caller still may: a revocation must also reach a request whose body was
// still being read, or whose record still being written.
func (q *request) stands() *refusal {
	now := time.Now()
	if !q.g.room.fresh(now) {
		return refuse(policy.StoreUnavailable)
	}
	if q.g.room.epoch() == q.epoch {
		return nil
	}
	var held credential.Credential
	if reason := q.g.auth.Authenticate(q.r.Header, q.r.URL.RawQuery, now, &held); reason != policy.Allowed {
		return refuse(reason)
	}
	id := &held.Identity
	d := policy.Decide(id, q.match, policy.Facts{Client: q.client, Limit: policy.Allowed, Now: now})
	if !d.Allow() {
		return refuse(d.Reason)
	}
	if m := q.shaped.mint; m != nil {
		switch {
		case !id.Mintable().Contains(m.Scopes):
			return refuse(policy.MintScopes)
		case !id.Expires.IsZero() && m.Expires.After(id.Expires):
			return refuse(policy.MintExpiry)
		}
	}
	return nil
}

// decide finds out what is asked for and whether the caller may: steps 2 and
// 3. Every identified request is charged to the limits, refused ones too.
func (q *request) decide() *refusal {
	id := &q.caller.Identity
	q.match = q.g.rules.router.Match(q.r.Method, q.r.URL.EscapedPath())
	q.verdict = q.g.plan.Enter(id.Team.Name, id.Name, id.Credential, q.started)
	h := q.w.Header()
	q.verdict.Headers(func(name, value string) { h[name] = q.one(value) })
	h["X-Oauth-Scopes"] = q.g.grantedHeader(id.Scopes)

	d := policy.Decide(id, q.match, policy.Facts{Client: q.client, Limit: q.verdict.Reason, Now: q.started})
	if op := d.Operation; op != nil {
		scope := op.ScopeName()
		q.record.Operation, q.record.Scope = op.ID, scope
		q.told.operation, q.told.scope = op.ID, scope
		if scope != "" {
			h["X-Accepted-Oauth-Scopes"] = q.g.accepted[op]
		}
	}
	if !d.Allow() {
		return refuse(d.Reason)
	}
	if d.WouldDeny != policy.Undecided {
		q.record.WouldDeny = d.WouldDeny.String()
		q.g.meter.WouldDeny(id.Team.Name, d.Operation.ID, d.WouldDeny)
		delete(h, "Retry-After") // it is served
	}
	return nil
}

// exchange forwards the request and passes the answer on: steps 6 to 8.
func (q *request) exchange() *refusal {
	resp, no, err := q.g.dispatch(q.r.Context(), &q.record, q.match.Operation, upstream.Request{
		Path: q.match.Path(), Body: q.shaped.body, Team: q.caller.Identity.Team.Name,
	}, func() *refusal {
		if q.decided == 0 { // it is asked again of one that has waited
			q.reason, q.decided = policy.Allowed, time.Since(q.started)
		}
		return q.leave()
	})
	if errors.Is(err, errUnrecorded) {
		return refuse(policy.AuditUnavailable)
	}
	if q.record.SharedWith != "" && no == nil {
		no = q.stands() // it left with another's, and has waited since
	}
	complete := false
	defer func() { q.recordEnd(complete) }()
	if no == nil && err != nil {
		q.unanswered(err)
		no = refuseUpstream(err)
		q.record.UpstreamStatus = no.upstreamStatus
	}
	if no != nil {
		q.answerFailure(no)
		return nil
	}
	defer resp.Body.Close()
	q.record.UpstreamStatus = resp.Status
	complete = q.answer(resp)
	return nil
}

// answerHere answers a request of which nothing leaves. It is recorded as every
// exchange is: a decision without an end would look like one during which the
// process died.
func (q *request) answerHere(reply func() (complete bool)) *refusal {
	q.decided = time.Since(q.started)
	q.record.Phase, q.record.Decision, q.record.Reason = audit.Decided, audit.Allow, policy.Allowed.String()
	if err := q.g.log.Write(&q.record); err != nil {
		return refuse(policy.AuditUnavailable)
	}
	q.reason = policy.Allowed
	q.recordEnd(reply())
	return nil
}

// recordEnd writes the second record of an exchange. It runs while a broken
// exchange panics, too. Nothing is left to refuse if it fails; the log's own
// metrics tell of it.
func (q *request) recordEnd(complete bool) {
	q.record.Phase, q.record.Complete = audit.Ended, complete
	q.record.Reason = q.reason.String()
	q.record.Status, q.record.Size = q.status, q.written
	q.record.Duration = time.Since(q.started)
	q.g.recordEnd(q.match.Operation, &q.record)
}

// refuse records a refusal and answers it.
func (q *request) refuse(no *refusal) {
	q.record.Phase, q.record.Decision = audit.Decided, audit.Deny
	q.record.Reason, q.record.Status = no.reason.String(), statusOf(no.reason)
	q.decided = time.Since(q.started)
	q.record.Duration = q.decided
	write := q.g.log.Write
	if q.caller == nil {
		write = func(r *audit.Record) error { return q.g.log.Unidentified(r, q.client) }
	}
	if err := write(&q.record); err != nil {
		no = refuse(policy.AuditUnavailable)
	}
	q.answerFailure(no)
}

// done gives back what the request held, counts it, and gives itself back.
func (q *request) done() {
	q.verdict.Leave()
	q.unsettled()
	team, op := metrics.Unidentified, metrics.NoOperation
	if q.caller != nil {
		team = q.caller.Identity.Team.Name
	}
	if q.match.Operation != nil {
		op = q.match.Operation.ID
	}
	q.g.room.used(q)
	q.g.meter.InFlight(-1)
	q.g.meter.Decided(team, op, q.reason, q.status/100, q.decided)
	q.countMint()
	*q = request{}
	requests.Put(q)
}
