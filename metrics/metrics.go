// Package metrics counts what the gateways do, for Prometheus. It has one
// method an event and decides nothing. Label values come from closed sets
// alone (the configuration's teams and operations, the catalogue, the list of
// reasons), so that no client can make a series or read a secret in one.
package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate/policy"
)

const (
	// Unidentified is the team of all callers without an identity. They share
	// one label, or a stranger could tell teams apart by guessing.
	Unidentified = "unidentified"
	// NoOperation is the operation of requests that matched none.
	NoOperation = "none"
)

// Outcome says what came of a request to make an upstream token.
type Outcome string

// The outcomes of a mint.
const (
	Minted  Outcome = "minted"  // as asked for
	Clamped Outcome = "clamped" // minted narrower than asked for
	Refused Outcome = "refused" // by the gateway
	Failed  Outcome = "failed"  // upstream did not make it
	Unknown Outcome = "unknown" // upstream may have made it
)

// Metrics takes the events of one gateway under one configuration. While a
// reload is under way, two of them are open for one gateway and count into
// the same series. It is safe for concurrent use, and an event that happened
// before does not allocate.
type Metrics struct {
	gateway    string
	teams      names
	operations names

	requests  []cell[prometheus.Counter]  // by team and reason
	answers   []cell[prometheus.Counter]  // by operation, decision and class
	decisions []cell[prometheus.Observer] // by operation
	upstreams []cell[prometheus.Observer] // by operation
	coalesced []cell[prometheus.Counter]  // by team

	inFlight                                                     prometheus.Gauge
	auditFailures                                                prometheus.Counter
	auditWrites                                                  prometheus.Observer
	auditSuppressed                                              prometheus.Counter
	auditSyncs                                                   prometheus.Observer
	auditReserved, auditReopened, auditAnchorFailures, mirrorCut prometheus.Counter
	mirrorDropped                                                prometheus.Counter
	masterRejected                                               prometheus.Counter

	// What this configuration last said of its own state; nil is nothing.
	// Guarded by inUse.
	breaker, loaded, expires *float64
}

// The sizes of a row of cells.
var (
	reasonCount = len(policy.Reasons())
	classCount  = len(classNames)
	answerCount = len(decisionNames) * classCount
)

// Register registers the families in reg, which may hold them already.
func Register(reg prometheus.Registerer) error {
	if err := reg.Register(everything{}); err != nil && !ours(err) {
		return fmt.Errorf("registering the families: %w", err)
	}
	return nil
}

// New opens the metrics of a gateway and registers their families in reg,
// which may hold them already for another gateway. Teams and operations are
// the names that its events will bring; any other name counts as no team and
// no operation.
func New(reg prometheus.Registerer, gateway string, teams, operations []string) (*Metrics, error) {
	if err := Register(reg); err != nil {
		return nil, err
	}
	m := &Metrics{
		gateway:    gateway,
		teams:      newNames(Unidentified, teams),
		operations: newNames(NoOperation, operations),
	}
	m.requests = make([]cell[prometheus.Counter], len(m.teams.list)*reasonCount)
	m.answers = make([]cell[prometheus.Counter], len(m.operations.list)*answerCount)
	m.decisions = make([]cell[prometheus.Observer], len(m.operations.list))
	m.upstreams = make([]cell[prometheus.Observer], len(m.operations.list))
	m.coalesced = make([]cell[prometheus.Counter], len(m.teams.list))
	m.open()
	return m, nil
}

// ours reports whether registering failed because it was done before.
func ours(err error) bool {
	var already prometheus.AlreadyRegisteredError
	if !errors.As(err, &already) {
		return false
	}
	_, ok := already.ExistingCollector.(everything)
	return ok
}

// Decided counts a request that was answered: whose it was ("" for nobody's),
// what it asked for ("" for nothing known), what came of it, the first digit
// of the status sent (0 for none), and how long the decision took.
func (m *Metrics) Decided(team, operation string, reason policy.Reason, statusClass int, took time.Duration) {
	t, op := m.teams.of(team), m.operations.of(operation)
	denied := 0
	if reason.Denies() {
		denied = 1
	}
	if statusClass < 0 || statusClass >= classCount {
		statusClass = 0
	}
	m.requests[t*reasonCount+int(reason)].get(m, requests, func() []string {
		return []string{m.gateway, m.teams.list[t], decisionNames[denied], reason.String()}
	}).Inc()
	m.answers[op*answerCount+denied*classCount+statusClass].get(m, operations, func() []string {
		return []string{m.gateway, m.operations.list[op], decisionNames[denied], classNames[statusClass]}
	}).Inc()
	m.decisions[op].get(m, decisions, func() []string {
		return []string{m.gateway, m.operations.list[op]}
	}).Observe(took.Seconds())
}

var (
	decisionNames = [...]string{"allow", "deny"}
	classNames    = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}
)

// Upstream counts an exchange with the upstream and how long it took.
func (m *Metrics) Upstream(operation string, took time.Duration) {
	op := m.operations.of(operation)
	m.upstreams[op].get(m, upstreams, func() []string {
		return []string{m.gateway, m.operations.list[op]}
	}).Observe(took.Seconds())
}

// Coalesced counts a read that was answered by what another one brought.
func (m *Metrics) Coalesced(team string) {
	t := m.teams.of(team)
	m.coalesced[t].get(m, coalesced, func() []string { return []string{m.gateway, m.teams.list[t]} }).Inc()
}

// InFlight adds to the requests that are being answered: 1 when one comes,
// -1 when it goes.
func (m *Metrics) InFlight(delta int) { m.inFlight.Add(float64(delta)) }

// AuditWrite counts a record of the audit log: how long its write took, and
// the error if it failed.
func (m *Metrics) AuditWrite(took time.Duration, err error) {
	m.auditWrites.Observe(took.Seconds())
	if err != nil {
		m.auditFailures.Inc()
	}
}

// AuditSuppressed counts failed identifications without a record each.
func (m *Metrics) AuditSuppressed(n int) { m.auditSuppressed.Add(float64(n)) }

// AuditSync counts a record of a change that waited to be on the disk.
func (m *Metrics) AuditSync(took time.Duration) { m.auditSyncs.Observe(took.Seconds()) }

// AuditReserved counts a record that is in the reserve of the audit log.
func (m *Metrics) AuditReserved() { m.auditReserved.Inc() }

// AuditReopened counts that the audit log was found deleted or replaced.
func (m *Metrics) AuditReopened() { m.auditReopened.Inc() }

// AuditAnchored tells of an attempt to put a checkpoint, made at a time, into
// an anchor.
func (m *Metrics) AuditAnchored(at time.Time, err error) {
	if err != nil {
		m.auditAnchorFailures.Inc()
		return
	}
	m.made(func() { auditAnchored.WithLabelValues(m.gateway).Set(seconds(at)) })
}

// MirrorCut counts that a mirror of the audit log was cut off.
func (m *Metrics) MirrorCut() { m.mirrorCut.Inc() }

// MirrorDropped counts a record that a mirror of the audit log did not get.
func (m *Metrics) MirrorDropped() { m.mirrorDropped.Inc() }

// MasterRejected counts an answer by which the upstream refused the master
// token.
func (m *Metrics) MasterRejected() { m.masterRejected.Inc() }

// WouldDeny counts a request that was served since its team is in shadow mode.
func (m *Metrics) WouldDeny(team, operation string, reason policy.Reason) {
	m.made(func() {
		wouldDeny.WithLabelValues(m.gateway, m.teams.list[m.teams.of(team)], m.operations.list[m.operations.of(operation)], reason.String()).Inc()
	})
}

// Mint counts a request to make an upstream token.
func (m *Metrics) Mint(team string, outcome Outcome) {
	switch outcome {
	case Minted, Clamped, Refused, Failed:
	default:
		outcome = Unknown
	}
	m.made(func() {
		mints.WithLabelValues(m.gateway, m.teams.list[m.teams.of(team)], string(outcome)).Inc()
	})
}

// Breaker says in which state the breaker is: 0 closed, 1 half-open, 2 open.
func (m *Metrics) Breaker(state int) { m.say(&m.breaker, float64(state)) }

// MasterLoaded says when the master token in use was loaded.
func (m *Metrics) MasterLoaded(at time.Time) { m.say(&m.loaded, seconds(at)) }

// MasterExpires says when the master token expires.
func (m *Metrics) MasterExpires(at time.Time) { m.say(&m.expires, seconds(at)) }

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// names is a closed set of label values. The first stands for all others.
type names struct {
	list  []string
	index map[string]int
}

func newNames(other string, list []string) names {
	n := names{list: append([]string{other}, list...), index: make(map[string]int, len(list))}
	for i, name := range n.list {
		n.index[name] = i
	}
	return n
}

func (n names) of(name string) int { return n.index[name] }

func (n names) has(name string) bool { _, ok := n.index[name]; return ok }
