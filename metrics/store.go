package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The families of stores. A store stays open over reloads, so their series
// come and go with it and not with a configuration.
var (
	loads = counters("credential_loads_total",
		"Credentials read from the store because they were not in memory, by what came of it.",
		"gateway", "outcome")
	lags = histograms("revocation_lag_seconds",
		"Time from a change of a credential, by anybody, until this replica had seen it.",
		[]float64{1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, .5, 1, 1.5, 2.5, 5, 15, 60},
		"gateway")
	storeUp = gauges("store_up",
		"Whether the store could be read when that was last tried: 1 or 0.",
		"gateway")
	lastSync = gauges("store_last_sync_timestamp_seconds",
		"When the last successful read of the store's changes began, in Unix time.",
		"gateway")
	clockSkew = gauges("store_clock_skew_seconds",
		"The store's clock less the gateway's. Beyond 5 seconds no tokens are made.",
		"gateway")
	syncFailures = counters("store_sync_failures_total",
		"Attempts to read the store's changes that failed.",
		"gateway")
	replicas = gauges("replicas_live",
		"Replicas that may be serving, this one among them.",
		"gateway")
	ledgerTokens = gauges("tokens",
		"Tokens in the ledger that are not gone, by team and state.",
		"gateway", "team", "state")
	pending = gauges("revocations_pending",
		"Tokens whose deletion at GoodAccess is owed.",
		"gateway")
	pendingAge = gauges("revocations_pending_oldest_seconds",
		"For how long the oldest of the owed deletions has been owed; 0 if none is.",
		"gateway")
	reconciled = gauges("reconcile_last_success_timestamp_seconds",
		"When this replica last held the ledger against GoodAccess's list, in Unix time.",
		"gateway")
	reconcileFound = gauges("reconcile_tokens",
		"What the last reconciliation of this replica found.",
		"gateway", "finding")
	reconcileStopped = gauges("reconcile_stopped",
		"Whether the last reconciliation of this replica stopped to ask an operator: 1 or 0.",
		"gateway")
)

var storeVectors = []vector{
	loads, lags, storeUp, lastSync, clockSkew, syncFailures, replicas,
	ledgerTokens, pending, pendingAge, reconciled, reconcileFound, reconcileStopped,
}

// LedgerCount is how many tokens of a team are in a state.
type LedgerCount struct {
	Team, State string
	N           int
}

// Ledger shows the tokens of the ledger, and how many deletions are owed, the
// oldest of them for how long.
func (s *Store) Ledger(counts []LedgerCount, owed int, oldest time.Duration) {
	s.say(func() {
		ledgerTokens.DeletePartialMatch(prometheus.Labels{"gateway": s.gateway})
		for _, c := range counts {
			ledgerTokens.WithLabelValues(s.gateway, c.Team, c.State).Set(float64(c.N))
		}
		pending.WithLabelValues(s.gateway).Set(float64(owed))
		pendingAge.WithLabelValues(s.gateway).Set(oldest.Seconds())
	})
}

// Reconciliation shows what a reconciliation found.
func (s *Store) Reconciliation(at time.Time, found map[string]int, stopped bool) {
	s.say(func() {
		reconciled.WithLabelValues(s.gateway).Set(seconds(at))
		for finding, n := range found {
			reconcileFound.WithLabelValues(s.gateway, finding).Set(float64(n))
		}
		asks := 0.0
		if stopped {
			asks = 1
		}
		reconcileStopped.WithLabelValues(s.gateway).Set(asks)
	})
}

// The outcomes of reading a credential from the store.
var loadOutcomes = []string{"found", "unknown", "failed"}

// openStores knows how many stores of each gateway are open: two, while a
// reload exchanges one for another.
var openStores = struct {
	sync.Mutex
	gateways map[string]int
}{gateways: map[string]int{}}

// Store takes the events of one open store. It is safe for concurrent use.
type Store struct {
	gateway string
	loads   map[string]prometheus.Counter
	lags    prometheus.Observer
	closed  bool // guarded by openStores
}

// NewStore opens the metrics of a gateway's store. Their families are
// registered by Register and New.
func NewStore(gateway string) *Store {
	openStores.Lock()
	defer openStores.Unlock()
	openStores.gateways[gateway]++
	s := &Store{gateway: gateway, loads: map[string]prometheus.Counter{}, lags: lags.WithLabelValues(gateway)}
	for _, outcome := range loadOutcomes {
		s.loads[outcome] = loads.WithLabelValues(gateway, outcome)
	}
	storeUp.WithLabelValues(gateway)
	syncFailures.WithLabelValues(gateway)
	return s
}

// Close ends them, and their series where no other store of the gateway is
// open. A second Close does nothing.
func (s *Store) Close() {
	openStores.Lock()
	defer openStores.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if openStores.gateways[s.gateway]--; openStores.gateways[s.gateway] > 0 {
		return
	}
	delete(openStores.gateways, s.gateway)
	for _, v := range storeVectors {
		v.DeletePartialMatch(prometheus.Labels{"gateway": s.gateway})
	}
}

// say shows something of the store. One that was closed says nothing any more,
// or its last words would be shown for as long as the process runs.
func (s *Store) say(do func()) {
	openStores.Lock()
	defer openStores.Unlock()
	if !s.closed {
		do()
	}
}

// CredentialLoaded counts a credential read from the store: found, unknown or
// failed.
func (s *Store) CredentialLoaded(outcome string) {
	if c, ok := s.loads[outcome]; ok {
		c.Inc()
	}
}

// Synced notes that the store's changes were read; the read began at this time.
func (s *Store) Synced(at time.Time) {
	s.say(func() {
		storeUp.WithLabelValues(s.gateway).Set(1)
		lastSync.WithLabelValues(s.gateway).Set(seconds(at))
	})
}

// SyncFailed counts an attempt that failed.
func (s *Store) SyncFailed() {
	s.say(func() {
		storeUp.WithLabelValues(s.gateway).Set(0)
		syncFailures.WithLabelValues(s.gateway).Inc()
	})
}

// Lag counts a change that was seen, and how long that took.
func (s *Store) Lag(d time.Duration) { s.lags.Observe(d.Seconds()) }

// Skew notes the store's clock less the local one.
func (s *Store) Skew(d time.Duration) {
	s.say(func() { clockSkew.WithLabelValues(s.gateway).Set(d.Seconds()) })
}

// Replicas notes how many replicas may be serving.
func (s *Store) Replicas(live int) {
	s.say(func() { replicas.WithLabelValues(s.gateway).Set(float64(live)) })
}

// MintWidened counts a token that GoodAccess made otherwise than it was asked
// for.
func (m *Metrics) MintWidened() {
	m.made(func() { mintsWidened.WithLabelValues(m.gateway).Inc() })
}

// mintFields are what a mint is read back for.
var mintFields = []string{"name", "allowed_scopes", "expires_at", "allowed_ips"}

// MintRead notes which fields of a new token GoodAccess did not show when it
// was read back: nothing is proved of those.
func (m *Metrics) MintRead(silent []string) {
	m.made(func() {
		for _, field := range mintFields {
			shown := 1.0
			if slices.Contains(silent, field) {
				shown = 0
				mintsUnproven.WithLabelValues(m.gateway, field).Inc()
			}
			mintShown.WithLabelValues(m.gateway, field).Set(shown)
		}
	})
}

// changeKinds are the changes of a credential that there are.
var changeKinds = []string{"create", "rotate", "suspend", "resume", "extend", "narrow", "revoke", "end", "lock"}

// CredentialChanged counts a change of a stored credential, by its kind.
func (m *Metrics) CredentialChanged(change string) {
	if slices.Contains(changeKinds, change) {
		m.made(func() { credentialChanges.WithLabelValues(m.gateway, change).Inc() })
	}
}

// RetiredKeyUsed counts a key that was used although another had replaced it.
func (m *Metrics) RetiredKeyUsed(team string) {
	m.made(func() { retiredKeys.WithLabelValues(m.gateway, m.teams.list[m.teams.of(team)]).Inc() })
}
