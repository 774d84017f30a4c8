package metrics

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// inUse knows the open Metrics of each gateway, oldest first. The families
// outlive them; which series may exist follows from it.
var inUse = struct {
	sync.Mutex
	gateways map[string][]*Metrics
}{gateways: map[string][]*Metrics{}}

// open makes the Metrics one in use, with the series that every gateway has.
func (m *Metrics) open() {
	inUse.Lock()
	defer inUse.Unlock()
	inUse.gateways[m.gateway] = append(inUse.gateways[m.gateway], m)
	m.inFlight = inFlight.WithLabelValues(m.gateway)
	m.auditFailures = auditFailures.WithLabelValues(m.gateway)
	m.auditWrites = auditWrites.WithLabelValues(m.gateway)
	m.auditSuppressed = auditSuppressed.WithLabelValues(m.gateway)
	m.auditSyncs = auditSyncs.WithLabelValues(m.gateway)
	m.auditReserved = auditReserved.WithLabelValues(m.gateway)
	m.auditReopened = auditReopened.WithLabelValues(m.gateway)
	m.auditAnchorFailures = auditAnchorFailures.WithLabelValues(m.gateway)
	m.mirrorCut = mirrorCut.WithLabelValues(m.gateway)
	m.mirrorDropped = mirrorDropped.WithLabelValues(m.gateway)
	m.masterRejected = masterRejected.WithLabelValues(m.gateway)
	mintsWidened.WithLabelValues(m.gateway)
	for _, change := range changeKinds {
		credentialChanges.WithLabelValues(m.gateway, change)
	}
	state(m.gateway)
}

// Close ends the Metrics. The series of teams and operations that no open one
// of the gateway names are deleted, and with the last one all of the gateway's:
// a team that is gone should not be shown for as long as the process runs.
// A reload opens the new before it closes the old, and so loses nothing. A
// second Close does nothing.
func (m *Metrics) Close() {
	inUse.Lock()
	defer inUse.Unlock()
	all := inUse.gateways[m.gateway]
	i := slices.Index(all, m)
	if i < 0 {
		return
	}
	if all = slices.Delete(all, i, i+1); len(all) > 0 {
		inUse.gateways[m.gateway] = all
	} else {
		delete(inUse.gateways, m.gateway)
	}
	m.sweep()
	state(m.gateway)
}

// sweep deletes the series whose labels only this Metrics names, which is
// closed. It needs the lock of inUse.
func (m *Metrics) sweep() {
	all := inUse.gateways[m.gateway]
	if len(all) == 0 {
		remove(prometheus.Labels{"gateway": m.gateway})
		return
	}
	for _, team := range m.teams.list {
		if !slices.ContainsFunc(all, func(o *Metrics) bool { return o.teams.has(team) }) {
			remove(prometheus.Labels{"gateway": m.gateway, "team": team})
		}
	}
	for _, op := range m.operations.list {
		if !slices.ContainsFunc(all, func(o *Metrics) bool { return o.operations.has(op) }) {
			remove(prometheus.Labels{"gateway": m.gateway, "operation": op})
		}
	}
}

// remove deletes the series that have these labels; a family that does not
// know one of them has none.
func remove(labels prometheus.Labels) {
	for _, v := range vectors {
		v.DeletePartialMatch(labels)
	}
}

// made runs what makes series. A request that outlives its configuration must
// not bring back the series of a team that is gone.
func (m *Metrics) made(do func()) {
	inUse.Lock()
	defer inUse.Unlock()
	do()
	if !slices.Contains(inUse.gateways[m.gateway], m) {
		m.sweep()
	}
}

// cell holds a series from the first event on that counts into it. Making all
// of them beforehand would show a thousand that never happen.
type cell[T any] struct{ made atomic.Pointer[T] }

func (c *cell[T]) get(m *Metrics, vec interface{ WithLabelValues(...string) T }, labels func() []string) T {
	if p := c.made.Load(); p != nil {
		return *p
	}
	var series T
	m.made(func() { series = vec.WithLabelValues(labels()...) })
	c.made.Store(&series)
	return series
}

// say notes one thing of the state of this configuration.
func (m *Metrics) say(what **float64, value float64) {
	inUse.Lock()
	defer inUse.Unlock()
	*what = &value
	state(m.gateway)
}

// state shows what the newest configuration of the gateway says of itself,
// and where it has not said it yet, the one before: a configuration that is
// being loaded takes over bit by bit, and one that failed to load leaves
// nothing behind. It needs the lock of inUse.
func state(gateway string) {
	all := inUse.gateways[gateway]
	if len(all) == 0 {
		return
	}
	closed := 0.0
	show(breaker, gateway, cmp.Or(latest(all, func(m *Metrics) *float64 { return m.breaker }), &closed))
	show(masterLoaded, gateway, latest(all, func(m *Metrics) *float64 { return m.loaded }))
	show(masterExpires, gateway, latest(all, func(m *Metrics) *float64 { return m.expires }))
}

func latest(all []*Metrics, said func(*Metrics) *float64) *float64 {
	for _, m := range slices.Backward(all) {
		if v := said(m); v != nil {
			return v
		}
	}
	return nil
}

func show(gauge *prometheus.GaugeVec, gateway string, value *float64) {
	if value == nil {
		gauge.DeleteLabelValues(gateway)
		return
	}
	gauge.WithLabelValues(gateway).Set(*value)
}
