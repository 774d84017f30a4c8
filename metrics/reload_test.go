package metrics_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
)

var (
	billing = []string{"billing"}
	list    = []string{"listMembers"}
)

// Caddy gives each configuration a registry of its own; counters that began
// anew there would look to Prometheus like a restart.
func TestReloadKeepsValues(t *testing.T) {
	first, second := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	before := open(t, first, "reload", billing, list)
	everyEvent(before)
	shown := scrape(t, first, "reload")

	after := open(t, second, "reload", billing, list)
	before.InFlight(-1) // the last request of the old configuration
	before.Close()
	before.Close() // closing twice is harmless
	want := slices.DeleteFunc(slices.Clone(shown), func(line string) bool {
		// What a configuration says of itself ends with it.
		return strings.HasPrefix(line, "master_token_loaded") || strings.HasPrefix(line, "master_token_expires") ||
			strings.HasPrefix(line, "breaker") || strings.HasPrefix(line, "requests_in_flight")
	})
	want = append(want, "breaker_state 0", "requests_in_flight 0")
	slices.Sort(want)
	if diff := cmp.Diff(want, scrape(t, second, "reload")); diff != "" {
		t.Errorf("after the reload (-want +got):\n%s", diff)
	}

	after.Decided("billing", "listMembers", policy.Allowed, 2, 0)
	for _, reg := range []*prometheus.Registry{first, second} {
		if got := scrape(t, reg, "reload"); !slices.Contains(got, `requests_total{decision="allow",reason="allowed",team="billing"} 2`) {
			t.Errorf("does not count on: %q", got)
		}
	}
}

// A team that was removed is not shown for as long as the process runs, and a
// request of it that ends late does not bring it back.
func TestCloseRemovesWhatNobodyNames(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	before := open(t, reg, "removal", []string{"billing", "ops"}, []string{"listMembers", "custom"})
	count := func(m *metrics.Metrics) {
		for _, team := range []string{"billing", "ops", ""} {
			for _, op := range []string{"listMembers", "custom", ""} {
				m.Decided(team, op, policy.Allowed, 2, 0)
				m.Upstream(op, 0)
				m.Mint(team, metrics.Minted)
			}
		}
	}
	count(before)
	after := open(t, reg, "removal", []string{"billing", "sales"}, list)
	other := open(t, reg, "neighbour", []string{"ops"}, []string{"custom"})
	other.Decided("ops", "custom", policy.Allowed, 2, 0)

	if got := strings.Join(scrape(t, reg, "removal"), "\n"); !strings.Contains(got, `"ops"`) {
		t.Errorf("ops is gone while its requests may still run:\n%s", got)
	}
	before.Close()
	check := func(when string) {
		t.Helper()
		got := strings.Join(scrape(t, reg, "removal"), "\n")
		for _, gone := range []string{`"ops"`, `"custom"`} {
			if strings.Contains(got, gone) {
				t.Errorf("%s: still shows %s:\n%s", when, gone, got)
			}
		}
		for _, kept := range []string{`"billing"`, `"unidentified"`, `"listMembers"`, `"none"`} {
			if !strings.Contains(got, kept) {
				t.Errorf("%s: lost %s:\n%s", when, kept, got)
			}
		}
		if got := scrape(t, reg, "neighbour"); !slices.Contains(got, `requests_total{decision="allow",reason="allowed",team="ops"} 1`) {
			t.Errorf("%s: the gateway beside it lost its team: %q", when, got)
		}
	}
	check("after the reload")

	count(before)
	before.Decided("ops", "custom", policy.RateLimited, 4, 0) // a series that never was
	before.Mint("ops", metrics.Failed)
	check("after late events")

	late := `requests_total{decision="allow",reason="allowed",team="billing"} 6`
	if got := scrape(t, reg, "removal"); !slices.Contains(got, late) {
		t.Errorf("late events of a team that remains are lost, want %s: %q", late, got)
	}
	after.Close()
	if got := scrape(t, reg, "removal"); len(got) > 0 {
		t.Errorf("the gateway is gone and still shows %q", got)
	}
	everyEvent(after)
	if got := scrape(t, reg, "removal"); len(got) > 0 {
		t.Errorf("late events brought the gateway back: %q", got)
	}
	if got := scrape(t, reg, "neighbour"); len(got) == 0 {
		t.Error("the gateway beside it is gone too")
	}
}

// What a configuration that failed to load said of itself must not be shown
// as the state of the one that runs on.
func TestFailedReloadLeavesTheOldState(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	running := open(t, reg, "failed", billing, list)
	running.Breaker(2)
	running.MasterLoaded(time.Unix(1000, 0))
	want := scrape(t, reg, "failed")

	failed := open(t, prometheus.NewPedanticRegistry(), "failed", []string{"sales"}, list)
	failed.MasterLoaded(time.Unix(2000, 0))
	failed.MasterExpires(time.Unix(3000, 0))
	failed.Breaker(0)
	failed.Decided("sales", "listMembers", policy.Allowed, 2, 0)
	if got := scrape(t, reg, "failed"); !slices.Contains(got, "master_token_loaded_timestamp_seconds 2000") ||
		!slices.Contains(got, "breaker_state 0") {
		t.Errorf("the newest configuration does not show: %q", got)
	}
	running.MasterLoaded(time.Unix(1500, 0)) // the old one goes on beneath it
	if got := scrape(t, reg, "failed"); !slices.Contains(got, "master_token_loaded_timestamp_seconds 2000") {
		t.Errorf("the older configuration shows over the newer: %q", got)
	}
	running.MasterLoaded(time.Unix(1000, 0))
	failed.Close()
	failed.Breaker(1) // too late to matter

	got := slices.DeleteFunc(scrape(t, reg, "failed"), func(line string) bool {
		// That the operation was counted stays true; it is still configured.
		return strings.Contains(line, "listMembers")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the failed load (-want +got):\n%s", diff)
	}
}

func TestTwoGatewaysShareARegistry(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	a, b := open(t, reg, "east", billing, list), open(t, reg, "west", billing, list)
	everyEvent(a)
	a.Decided("billing", "listMembers", policy.Allowed, 2, 0)
	b.Decided("billing", "listMembers", policy.Allowed, 2, 0)
	for gateway, want := range map[string]string{
		"east": `requests_total{decision="allow",reason="allowed",team="billing"} 2`,
		"west": `requests_total{decision="allow",reason="allowed",team="billing"} 1`,
	} {
		if got := scrape(t, reg, gateway); !slices.Contains(got, want) {
			t.Errorf("%s: no %s in %q", gateway, want, got)
		}
	}
	if got := scrape(t, reg, "west"); !slices.Contains(got, "breaker_state 0") {
		t.Errorf("west shows east's state: %q", got)
	}
}

type refusing struct{ prometheus.Registerer }

var errRefused = errors.New("refused")

func (refusing) Register(prometheus.Collector) error { return errRefused }

type capturing struct {
	prometheus.Registerer
	prometheus.Collector
}

func (c *capturing) Register(one prometheus.Collector) error { c.Collector = one; return nil }

type foreign struct{ prometheus.Collector }

func TestNewRejectsARegistryThatDoes(t *testing.T) {
	if _, err := metrics.New(refusing{}, "refused", billing, list); !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}

	// Another plugin has a family of that name: ours would count into nothing.
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "scopegate_requests_total", Help: "x"}))
	if _, err := metrics.New(reg, "refused", billing, list); err == nil {
		t.Error("no error beside a foreign family of the same name")
	}

	// The same families, of another copy of this package: likewise.
	var ours capturing
	open(t, &ours, "accepted", billing, list)
	reg = prometheus.NewPedanticRegistry()
	reg.MustRegister(foreign{ours.Collector})
	if _, err := metrics.New(reg, "refused", billing, list); err == nil {
		t.Error("no error beside foreign families that look like ours")
	}

	good := prometheus.NewPedanticRegistry()
	open(t, good, "accepted", billing, list)
	if got := scrape(t, good, "refused"); len(got) > 0 {
		t.Errorf("a gateway that failed to open shows %q", got)
	}
}

// A gateway may say so of a team of this name; it must not take the label of
// the callers without one away when it goes.
func TestTeamNamedUnidentified(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	before := open(t, reg, "names", []string{metrics.Unidentified}, []string{metrics.NoOperation})
	before.Decided("", "", policy.NoCredential, 4, 0)
	before.Decided(metrics.Unidentified, metrics.NoOperation, policy.NoCredential, 4, 0)
	open(t, reg, "names", billing, list)
	before.Close()
	want := `requests_total{decision="deny",reason="no_credential",team="unidentified"} 2`
	if got := scrape(t, reg, "names"); !slices.Contains(got, want) {
		t.Errorf("no %s in %q", want, got)
	}
}

func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	const workers, events, reloads = 4, 500, 50
	reg := prometheus.NewPedanticRegistry()
	var mu sync.RWMutex
	current := open(t, reg, "load", billing, list)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range events {
				mu.RLock()
				m := current
				mu.RUnlock()
				m.Decided("billing", "listMembers", policy.Allowed, 2, 0) // may be closed by now
			}
		})
	}
	for range reloads {
		next := open(t, prometheus.NewPedanticRegistry(), "load", billing, list)
		mu.Lock()
		old := current
		current = next
		mu.Unlock()
		old.Close()
	}
	wg.Wait()
	want := `requests_total{decision="allow",reason="allowed",team="billing"} 2000`
	if got := scrape(t, reg, "load"); !slices.Contains(got, want) {
		t.Errorf("no %s in %q", want, got)
	}
}
