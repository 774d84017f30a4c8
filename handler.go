package scopegate

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
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
	repl    *caddy.Replacer
	started time.Time
	decided time.Duration // how long the decision took
	id      string        // the decision's id: the request's uuid in Caddy
	client  netip.Addr

	held    credential.Credential
	caller  *credential.Credential // held, once proven
	epoch   uint64                 // of the stored credentials when it was read
	match   scopes.Match
	verdict limits.Verdict
	shaped  shaped
	place   *limits.Place // of a mint, among the team's live tokens
	spent   string        // the day of which a mint was taken; "" is none
	unknown bool          // it failed, but may have happened upstream

	record  audit.Record
	reason  policy.Reason
	status  int   // of the answer, once it is being written
	written int64 // bytes of its body
}

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

	q := request{g: g, w: w, r: r, started: time.Now()}
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
	if q.match.Operation == whoami {
		return q.answerWhoami()
	}
	return q.exchange()
}

// open notes what is known of every request.
func (q *request) open() {
	q.repl, _ = q.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if q.repl != nil {
		q.id, _ = q.repl.GetString("http.request.uuid")
		q.repl.Map(q.placeholder)
	}
	ip, _ := caddyhttp.GetVar(q.r.Context(), caddyhttp.ClientIPVarKey).(string)
	q.client = parseClient(ip)
	q.record.UUID, q.record.ClientIP = q.id, ip
	if q.r.ContentLength > 0 {
		q.record.RequestSize = q.r.ContentLength
	}
}

// placeholder answers Caddy's logs when they ask, which few do: nothing is made
// for them beforehand.
func (q *request) placeholder(key string) (any, bool) {
	switch key {
	case "http.scopegate.team":
		return q.record.Team, q.caller != nil
	case "http.scopegate.operation":
		return q.record.Operation, q.match.Operation != nil
	case "http.scopegate.scope":
		return q.record.Scope, q.match.Operation != nil
	case "http.scopegate.reason":
		return q.reason.String(), true
	}
	return nil, false
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

// identify finds out who asks: steps 1 of the way.
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
		if q.repl != nil {
			q.repl.Set("http.auth.user.id", q.caller.Identity.Credential) // whatever stood there
		}
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
	d := policy.Decide(id, q.match, policy.Facts{Client: q.client, Limit: policy.Allowed})
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
	q.verdict = q.g.plan.Enter(id.Team.Name, id.Name, q.started)
	h := q.w.Header()
	q.verdict.Headers(func(name, value string) { h[name] = []string{value} })
	h["X-Oauth-Scopes"] = q.g.grantedHeader(id.Scopes)

	d := policy.Decide(id, q.match, policy.Facts{Client: q.client, Limit: q.verdict.Reason})
	if op := d.Operation; op != nil {
		scope := op.ScopeName()
		q.record.Operation, q.record.Scope = op.ID, scope
		if scope != "" {
			h["X-Accepted-Oauth-Scopes"] = q.g.accepted[op]
		}
	}
	if !d.Allow() {
		return refuse(d.Reason)
	}
	return nil
}

// own asks whose upstream token the request is about: step 5. A token that is
// not the caller's does not exist for them.
func (q *request) own() *refusal {
	switch q.match.Operation.ID {
	case scopes.GetToken, scopes.RevokeToken:
		if !q.owns(q.match.Params[0]) {
			return refuse(policy.TokenNotFound)
		}
		q.record.TokenID = q.match.Params[0]
	case scopes.CreateToken:
		if no := q.mayMint(); no != nil {
			return no
		}
		var ok bool
		if q.place, ok = q.g.plan.Reserve(q.caller.Identity.Team.Name, q.started); !ok {
			return refuse(policy.MintQuota)
		}
		return q.spend()
	}
	return nil
}

// mayMint asks what has to hold before any token is made: somewhere to keep
// what was made, and a clock by which its end is right.
func (q *request) mayMint() *refusal {
	switch {
	case q.g.room == nil:
		return refuse(policy.NoLedger)
	case !q.g.room.member.Reachable():
		return refuse(policy.StoreUnavailable)
	case q.g.room.member.Skewed():
		return refuse(policy.ClockSkew)
	}
	return nil
}

// spend takes one mint of those that the team may make today. It is given
// back where it is certain that no token was made.
func (q *request) spend() *refusal {
	team := q.caller.Identity.Team.Name
	n := q.g.rules.mintsADay[team]
	if n == 0 {
		return nil
	}
	day := q.g.room.member.Now().UTC().Format(time.DateOnly)
	ok, err := q.g.room.rows.Spend(q.r.Context(), team, day, n)
	switch {
	case err != nil:
		return refuse(policy.StoreUnavailable)
	case !ok:
		return refuse(policy.MintDailyQuota)
	}
	q.spent = day
	return nil
}

// refund gives an unused mint back. It does not wait for the caller, who may
// have hung up, nor long for the store: a mint too few is the safe error.
func (q *request) refund() {
	if q.spent == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.r.Context()), storePatience)
	defer cancel()
	_ = q.g.room.rows.Refund(ctx, q.caller.Identity.Team.Name, q.spent)
}

// owns reports whether an upstream token is the caller's. The master is
// nobody's, whatever anyone has written down.
func (q *request) owns(id string) bool {
	if strings.EqualFold(id, q.g.MasterTokenID) {
		return false
	}
	return q.g.owner.Owns(q.caller.Identity.Team.Name, id)
}

// tokenOwner says which upstream tokens belong to a team.
type tokenOwner interface {
	Owns(team, id string) bool
}

// nobody owns no token: nothing yet records which upstream tokens the gateway
// caused, so none is anyone's.
type nobody struct{}

func (nobody) Owns(string, string) bool { return false }

// exchange records the decision and then forwards: steps 6 to 8. It is the
// only way to the upstream.
func (q *request) exchange() *refusal {
	q.record.Phase, q.record.Decision = audit.Decided, audit.Allow
	q.record.Reason = policy.Allowed.String()
	revokes := q.match.Operation.ID == scopes.RevokeToken
	err := q.recorder()(&q.record)
	q.decided = time.Since(q.started)
	if err != nil {
		return refuse(policy.AuditUnavailable) // no record, no request
	}
	q.reason = policy.Allowed
	complete := false
	defer func() { q.recordEnd(complete) }()
	if no := q.stands(); no != nil {
		q.answerFailure(no)
		return nil
	}

	before := time.Now()
	resp, err := q.g.forward.Do(q.r.Context(), upstream.Request{
		Method: q.match.Operation.Method, Path: q.match.Path(), Body: q.shaped.body,
		Team: q.caller.Identity.Team.Name, Revokes: revokes,
	})
	q.g.meter.Upstream(q.match.Operation.ID, time.Since(before))
	if err != nil {
		no := upstreamRefusal(err)
		if q.unknown = mayHaveHappened(err); q.unknown && q.shaped.mint != nil {
			q.place.Keep(q.shaped.mint.Expires)
			q.spent = ""
		}
		q.record.UpstreamStatus = no.upstreamStatus
		q.answerFailure(no)
		return nil
	}
	defer resp.Body.Close()
	q.record.UpstreamStatus = resp.Status
	complete = q.answer(resp)
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
	write := q.g.log.Write
	if q.match.Operation.ID == scopes.RevokeToken {
		write = q.g.log.WriteRevocation
	}
	_ = write(&q.record)
}

// recorder is how the decision to forward a request is recorded: what changes
// something must be on the disk first, and what takes a right away is recorded
// even where the disk is full, which must not keep a leaked token alive.
func (q *request) recorder() func(*audit.Record) error {
	switch {
	case q.match.Operation.ID == scopes.RevokeToken:
		return q.g.log.WriteRevocation
	case q.match.Operation.Method == http.MethodGet:
		return q.g.log.Write
	}
	return q.g.log.WriteChange
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

// done gives back what the request held and counts it.
func (q *request) done() {
	q.verdict.Leave()
	q.place.Release()
	q.refund()
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
}

func (q *request) countMint() {
	if q.match.Operation == nil || q.match.Operation.ID != scopes.CreateToken || q.caller == nil {
		return
	}
	outcome := metrics.Refused
	switch {
	case q.record.Phase != audit.Ended:
	case q.record.TokenID != "" && len(q.record.Clamped) > 0:
		outcome = metrics.Clamped
	case q.record.TokenID != "":
		outcome = metrics.Minted
	case q.unknown:
		outcome = metrics.Unknown
	default:
		outcome = metrics.Failed
	}
	q.g.meter.Mint(q.caller.Identity.Team.Name, outcome)
}

// mayHaveHappened reports whether a change that failed may have been made
// upstream all the same. Where it is not known, it may.
func mayHaveHappened(err error) bool {
	var e *upstream.Error
	if !errors.As(err, &e) {
		return true
	}
	return !e.Unsent && e.Reason != policy.UpstreamUnauthorized && e.Reason != policy.UpstreamForbidden
}

func upstreamRefusal(err error) *refusal {
	var e *upstream.Error
	if !errors.As(err, &e) {
		return refuse(policy.UpstreamBroken)
	}
	no := refuse(e.Reason)
	no.upstreamStatus, no.retryAfter = e.UpstreamStatus, e.RetryAfter
	return no
}
