package metrics

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate/buildinfo"
	"github.com/scopegate/scopegate/scopes"
)

// The families live as long as the process and are registered into the
// registry of every configuration: Caddy makes a new registry at each load,
// and counters that began anew there would look like resets to whoever
// computes rates and alerts from them.
var (
	requests = counters("requests_total",
		"Requests by the team of the caller, what was decided and why.",
		"gateway", "team", "decision", "reason")
	operations = counters("operations_total",
		"Requests by the operation of the API that they asked for, what was decided and the class of the status answered.",
		"gateway", "operation", "decision", "status_class")
	decisions = histograms("decision_duration_seconds",
		"Time from the arrival of a request to its decision.",
		// Deciding is a matter of microseconds; only the audit log, when its
		// disk is slow, makes it longer.
		[]float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 10e-3, 50e-3, 250e-3, 1},
		"gateway", "operation")
	upstreams = histograms("upstream_duration_seconds",
		"Time from sending a request to GoodAccess until its answer was complete, retries included.",
		[]float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		"gateway", "operation")
	coalesced = counters("coalesced_total",
		"Reads that were answered by what another of the same team, under way at the same time, had brought.",
		"gateway", "team")
	inFlight = gauges("requests_in_flight",
		"Requests that the gateway is answering now.",
		"gateway")
	auditFailures = counters("audit_failures_total",
		"Audit records that could not be written. While the last one could not, requests are refused.",
		"gateway")
	auditWrites = histograms("audit_write_duration_seconds",
		"Time to write one audit record to the durable log.",
		[]float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 100e-3, 500e-3, 2.5},
		"gateway")
	auditSuppressed = counters("audit_suppressed_total",
		"Failed identifications that only a summary in the audit log stands for, since too many came from one network.",
		"gateway")
	mirrorDropped = counters("audit_mirror_dropped_total",
		"Audit records that a mirror of the audit log did not get. The durable log has them.",
		"gateway")
	auditSyncs = histograms("audit_sync_duration_seconds",
		"Time that the audit record of a change waited to be on the disk, together with others.",
		[]float64{100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.5, 5},
		"gateway")
	auditReserved = counters("audit_reserved_total",
		"Audit records of deletions and revocations that went into the reserve, since the log could not be written.",
		"gateway")
	auditReopened = counters("audit_reopened_total",
		"Times that the audit log was found deleted, replaced or cut, and was opened anew.",
		"gateway")
	auditAnchored = gauges("audit_anchored_timestamp_seconds",
		"When the newest checkpoint was made that an anchor outside of the audit log has, in Unix time.",
		"gateway")
	auditAnchorFailures = counters("audit_anchor_failures_total",
		"Attempts to put a checkpoint of the audit log into an anchor that failed. Each is made again.",
		"gateway")
	mirrorCut = counters("audit_mirror_cut_total",
		"Times that a mirror of the audit log took too long for a record and was cut off until it had answered.",
		"gateway")
	mints = counters("mints_total",
		"Requests to make an upstream token, by the team of the caller and what came of them.",
		"gateway", "team", "outcome")
	breaker = gauges("breaker_state",
		"State of the breaker before the upstream: 0 closed, 1 half-open, 2 open.",
		"gateway")
	masterLoaded = gauges("master_token_loaded_timestamp_seconds",
		"When the master token in use was loaded, in Unix time.",
		"gateway")
	masterExpires = gauges("master_token_expires_timestamp_seconds",
		"When the master token expires, in Unix time. Absent where the configuration does not say.",
		"gateway")
	masterRejected = counters("master_token_rejected_total",
		"Answers 401 and 403 of the upstream: it does not take the master token, or not for that operation.",
		"gateway")

	credentialChanges = counters("credential_changes_total",
		"Changes of stored credentials that were made through this process, by their kind.",
		"gateway", "change")
	wouldDeny = counters("would_deny_total",
		"Requests of teams in shadow mode that were served and would have been refused, by the reason.",
		"gateway", "team", "operation", "reason")
	mintsWidened = counters("mints_widened_total",
		"Tokens that GoodAccess made otherwise than they were asked for. Each was deleted.",
		"gateway")
	mintsUnproven = counters("mint_fields_not_shown_total",
		"Fields of new tokens that GoodAccess did not show when they were read back, so that nothing is proved of them.",
		"gateway", "field")
	mintShown = gauges("mint_field_shown",
		"Whether GoodAccess showed the field when the last new token was read back: 1 or 0.",
		"gateway", "field")
	retiredKeys = counters("retired_key_uses_total",
		"Requests with a key that another key of its credential has replaced. It was refused.",
		"gateway", "team")

	catalogueInfo = info("catalogue_info",
		"The catalogue of the API's scopes and operations that was built in. Always 1.",
		prometheus.Labels{
			"version":    scopes.Version(),
			"scopes":     strconv.Itoa(scopes.All().Len()),
			"operations": strconv.Itoa(len(scopes.Operations())),
		})
	buildInfo = info("build_info",
		"The version of scopegate and of the Go toolchain that built it. Always 1.",
		prometheus.Labels{"version": buildinfo.Version(), "goversion": runtime.Version()})
)

// vector is what the families with labels have in common.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(labels prometheus.Labels) int
}

// vectors are all families whose series come and go with gateways.
var vectors = []vector{
	requests, operations, decisions, upstreams, coalesced, inFlight, auditFailures, auditWrites, auditSuppressed,
	auditSyncs, auditReserved, auditReopened, auditAnchored, auditAnchorFailures, mirrorDropped, mirrorCut, mints, breaker, masterLoaded, masterExpires, masterRejected, credentialChanges, retiredKeys,
	wouldDeny, mintsWidened, mintsUnproven, mintShown,
}

// everything is one collector of all families, so that a registry takes all
// of them or none.
type everything struct{}

func (everything) each(do func(prometheus.Collector)) {
	for _, v := range vectors {
		do(v)
	}
	for _, v := range storeVectors {
		do(v)
	}
	do(catalogueInfo)
	do(buildInfo)
}

// Describe implements prometheus.Collector.
func (e everything) Describe(ch chan<- *prometheus.Desc) {
	e.each(func(c prometheus.Collector) { c.Describe(ch) })
}

// Collect implements prometheus.Collector.
func (e everything) Collect(ch chan<- prometheus.Metric) {
	e.each(func(c prometheus.Collector) { c.Collect(ch) })
}

const namespace = "scopegate"

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
	}, labels)
}

func info(name, help string, labels prometheus.Labels) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: name, Help: help, ConstLabels: labels,
	}, func() float64 { return 1 })
}
