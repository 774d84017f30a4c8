package metrics_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate/metrics"
)

// everyStoreEvent makes one of each.
func everyStoreEvent(s *metrics.Store) {
	s.CredentialLoaded("found")
	s.CredentialLoaded("unheard of")
	s.Lag(3 * time.Millisecond)
	s.Synced(time.Unix(1_700_000_000, 0))
	s.SyncFailed()
	s.Skew(-1500 * time.Millisecond)
	s.Replicas(3)
	s.Ledger([]metrics.LedgerCount{{Team: "gone", State: "live", N: 9}}, 1, time.Minute)
	s.Ledger([]metrics.LedgerCount{{Team: "billing", State: "live", N: 7}, {Team: "billing", State: "revoking", N: 2}}, 2, time.Minute)
	s.Reconciliation(time.Unix(1_700_000_000, 0), map[string]int{"stray": 1}, true)
}

func TestStoreEvents(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	if err := metrics.Register(reg); err != nil {
		t.Fatal(err)
	}
	s := metrics.NewStore("stored")
	everyStoreEvent(s)
	want := []string{
		`credential_loads_total{outcome="failed"} 0`, `credential_loads_total{outcome="found"} 1`,
		`credential_loads_total{outcome="unknown"} 0`,
		"reconcile_last_success_timestamp_seconds 1.7e+09", "reconcile_stopped 1", `reconcile_tokens{finding="stray"} 1`,
		"replicas_live 3", "revocation_lag_seconds_count 1", "revocations_pending 2", "revocations_pending_oldest_seconds 60",
		"store_clock_skew_seconds -1.5", "store_last_sync_timestamp_seconds 1.7e+09", "store_sync_failures_total 1", "store_up 0",
		`tokens{state="live",team="billing"} 7`, `tokens{state="revoking",team="billing"} 2`,
	}
	if diff := cmp.Diff(want, scrape(t, reg, "stored")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	s.Close()
	s.Close()
	everyStoreEvent(s)
	if got := scrape(t, reg, "stored"); len(got) > 0 {
		t.Errorf("left behind, or brought back by late events: %q", got)
	}
}

// A reload that exchanges the store opens the new one before it closes the
// old, whose end must not take the new one's series away.
func TestStoreOutlivesTheOneBefore(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	if err := metrics.Register(reg); err != nil {
		t.Fatal(err)
	}
	before := metrics.NewStore("exchanged")
	before.CredentialLoaded("found")
	after := metrics.NewStore("exchanged")
	after.Synced(time.Unix(2000, 0))
	before.Close()
	before.Close()
	before.SyncFailed() // late, and of another store than the one in use
	after.CredentialLoaded("found")
	got := scrape(t, reg, "exchanged")
	for _, line := range []string{
		`credential_loads_total{outcome="found"} 2`, "store_up 1", "store_last_sync_timestamp_seconds 2000", "store_sync_failures_total 0",
	} {
		if !slices.Contains(got, line) {
			t.Errorf("no %s in %q", line, got)
		}
	}
	after.Close()
}

// The last configuration of a gateway that goes must leave the series of a
// store that is still open alone.
func TestMetricsLeaveTheStoresAlone(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := open(t, reg, "beside", []string{"billing"}, nil)
	s := metrics.NewStore("beside")
	defer s.Close()
	s.Synced(time.Now())
	m.Close()
	if got := scrape(t, reg, "beside"); len(got) == 0 {
		t.Error("the store's series are gone")
	}
}
