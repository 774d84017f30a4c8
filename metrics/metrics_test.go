package metrics_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
)

// scrape returns the lines of one gateway as Prometheus would read them,
// without the buckets and sums of histograms, and sorted.
func scrape(t *testing.T, reg prometheus.Gatherer, gateway string) (lines []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatalf("gathering: %v", err)
	}
	for _, f := range families {
		var text strings.Builder
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			line = strings.TrimSpace(line)
			name, _, _ := strings.Cut(line, "{")
			if !strings.Contains(line, `gateway="`+gateway+`"`) ||
				strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") {
				continue
			}
			line = strings.Replace(line, `gateway="`+gateway+`"`, "", 1)
			lines = append(lines, strings.NewReplacer("{,", "{", "{}", "", ",,", ",", ",}", "}", "scopegate_", "").Replace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

// open opens metrics for the test and fails it if that fails.
func open(t *testing.T, reg prometheus.Registerer, gateway string, teams, operations []string) *metrics.Metrics {
	t.Helper()
	m, err := metrics.New(reg, gateway, teams, operations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// everyEvent makes one of each.
func everyEvent(m *metrics.Metrics) {
	m.InFlight(1)
	m.Decided("billing", "listMembers", policy.Allowed, 2, time.Millisecond)
	m.Upstream("listMembers", time.Second)
	m.Coalesced("billing")
	m.AuditWrite(time.Millisecond, nil)
	m.AuditWrite(time.Millisecond, errors.New("disk full"))
	m.AuditSuppressed(7)
	m.AuditSync(time.Millisecond)
	m.AuditReserved()
	m.AuditReopened()
	m.AuditAnchored(time.Unix(1_700_000_000, 0), nil)
	m.AuditAnchored(time.Unix(1_800_000_000, 0), errors.New("no answer"))
	m.MirrorCut()
	m.MirrorDropped()
	m.Mint("billing", metrics.Clamped)
	m.Breaker(2)
	m.MasterLoaded(time.Unix(1_700_000_000, 0))
	m.MasterExpires(time.Unix(1_800_000_000, 500_000_000))
	m.MasterRejected()
	m.CredentialChanged("rotate")
	m.CredentialChanged("unheard of")
	m.RetiredKeyUsed("billing")
	m.MintWidened()
	m.MintRead([]string{"name"})
	m.WouldDeny("billing", "listMembers", policy.RateLimited)
}

// idle is what a gateway shows before anything happened.
var idle = []string{
	"audit_anchor_failures_total 0", "audit_failures_total 0", "audit_mirror_cut_total 0", "audit_mirror_dropped_total 0",
	"audit_reopened_total 0", "audit_reserved_total 0", "audit_suppressed_total 0",
	"audit_sync_duration_seconds_count 0", "audit_write_duration_seconds_count 0", "breaker_state 0",
	`credential_changes_total{change="create"} 0`, `credential_changes_total{change="end"} 0`,
	`credential_changes_total{change="extend"} 0`, `credential_changes_total{change="lock"} 0`,
	`credential_changes_total{change="narrow"} 0`, `credential_changes_total{change="resume"} 0`,
	`credential_changes_total{change="revoke"} 0`, `credential_changes_total{change="rotate"} 0`,
	`credential_changes_total{change="suspend"} 0`,
	"master_token_rejected_total 0", "mints_widened_total 0", "requests_in_flight 0",
}

func TestNewShowsWhatAlertsNeed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	open(t, reg, "idle", []string{"billing"}, []string{"listMembers"})
	if diff := cmp.Diff(idle, scrape(t, reg, "idle")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestEvents(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := open(t, reg, "events", []string{"billing"}, []string{"listMembers"})
	everyEvent(m)
	want := []string{
		"audit_anchor_failures_total 1", "audit_anchored_timestamp_seconds 1.7e+09",
		"audit_failures_total 1", "audit_mirror_cut_total 1", "audit_mirror_dropped_total 1",
		"audit_reopened_total 1", "audit_reserved_total 1", "audit_suppressed_total 7",
		"audit_sync_duration_seconds_count 1", "audit_write_duration_seconds_count 2", "breaker_state 2",
		`coalesced_total{team="billing"} 1`,
		`credential_changes_total{change="create"} 0`, `credential_changes_total{change="end"} 0`,
		`credential_changes_total{change="extend"} 0`, `credential_changes_total{change="lock"} 0`,
		`credential_changes_total{change="narrow"} 0`, `credential_changes_total{change="resume"} 0`,
		`credential_changes_total{change="revoke"} 0`, `credential_changes_total{change="rotate"} 1`,
		`credential_changes_total{change="suspend"} 0`,
		`decision_duration_seconds_count{operation="listMembers"} 1`,
		"master_token_expires_timestamp_seconds 1.8000000005e+09",
		"master_token_loaded_timestamp_seconds 1.7e+09",
		"master_token_rejected_total 1",
		`mint_field_shown{field="allowed_ips"} 1`, `mint_field_shown{field="allowed_scopes"} 1`,
		`mint_field_shown{field="expires_at"} 1`, `mint_field_shown{field="name"} 0`,
		`mint_fields_not_shown_total{field="name"} 1`,
		`mints_total{outcome="clamped",team="billing"} 1`, "mints_widened_total 1",
		`operations_total{decision="allow",operation="listMembers",status_class="2xx"} 1`,
		"requests_in_flight 1",
		`requests_total{decision="allow",reason="allowed",team="billing"} 1`,
		`retired_key_uses_total{team="billing"} 1`,
		`upstream_duration_seconds_count{operation="listMembers"} 1`,
		`would_deny_total{operation="listMembers",reason="rate_limited",team="billing"} 1`,
	}
	if diff := cmp.Diff(want, scrape(t, reg, "events")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	m.InFlight(-1)
	m.Breaker(0)
	got := scrape(t, reg, "events")
	for _, line := range []string{"requests_in_flight 0", "breaker_state 0"} {
		if !slices.Contains(got, line) {
			t.Errorf("no %q after the end of both: %q", line, got)
		}
	}
}

// Whatever a request brings, its labels come from closed sets: a client that
// could choose one could fill the memory of this process and of Prometheus.
func TestDecidedRejectsForeignLabels(t *testing.T) {
	tests := []struct {
		name            string
		team, operation string
		reason          policy.Reason
		class           int
		want            []string
	}{
		{
			"no identity, no operation", "", "", policy.NoCredential, 4,
			[]string{
				`operations_total{decision="deny",operation="none",status_class="4xx"} 1`,
				`requests_total{decision="deny",reason="no_credential",team="unidentified"} 1`,
			},
		},
		{
			"unlisted team and operation", "ops\"\n", "../../etc/passwd", policy.UnknownPath, 4,
			[]string{
				`operations_total{decision="deny",operation="none",status_class="4xx"} 1`,
				`requests_total{decision="deny",reason="unknown_path",team="unidentified"} 1`,
			},
		},
		{
			"upstream failed", "billing", "getToken", policy.UpstreamTimeout, 5,
			[]string{
				`operations_total{decision="allow",operation="getToken",status_class="5xx"} 1`,
				`requests_total{decision="allow",reason="upstream_timeout",team="billing"} 1`,
			},
		},
		{
			"no answer", "billing", "getToken", policy.ClientGone, 0,
			[]string{
				`operations_total{decision="allow",operation="getToken",status_class="none"} 1`,
				`requests_total{decision="allow",reason="client_gone",team="billing"} 1`,
			},
		},
		{
			"a class beyond all", "billing", "getToken", policy.Allowed, 42,
			[]string{
				`operations_total{decision="allow",operation="getToken",status_class="none"} 1`,
				`requests_total{decision="allow",reason="allowed",team="billing"} 1`,
			},
		},
		{
			"a class below all", "billing", "getToken", policy.Allowed, -1,
			[]string{
				`operations_total{decision="allow",operation="getToken",status_class="none"} 1`,
				`requests_total{decision="allow",reason="allowed",team="billing"} 1`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			m := open(t, reg, "labels", []string{"billing"}, []string{"getToken"})
			m.Decided(tt.team, tt.operation, tt.reason, tt.class, time.Millisecond)
			got := slices.DeleteFunc(scrape(t, reg, "labels"), func(line string) bool {
				return !strings.HasPrefix(line, "requests_total") && !strings.HasPrefix(line, "operations_total")
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
			m.Close() // or the next case would count on
		})
	}
}

func TestMintRejectsForeignLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := open(t, reg, "mints", []string{"billing"}, nil)
	for _, o := range []metrics.Outcome{
		metrics.Minted, metrics.Clamped, metrics.Refused, metrics.Failed, metrics.Unknown, "", "made up",
	} {
		m.Mint("billing", o)
	}
	m.Mint("nobody", metrics.Refused)
	want := []string{
		`mints_total{outcome="clamped",team="billing"} 1`,
		`mints_total{outcome="failed",team="billing"} 1`,
		`mints_total{outcome="minted",team="billing"} 1`,
		`mints_total{outcome="refused",team="billing"} 1`,
		`mints_total{outcome="refused",team="unidentified"} 1`,
		`mints_total{outcome="unknown",team="billing"} 3`, "mints_widened_total 0",
	}
	got := slices.DeleteFunc(scrape(t, reg, "mints"), func(line string) bool { return !strings.HasPrefix(line, "mints") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// Each reason, class and operation must land in its own series: an index that
// is one off would show one refusal as another.
func TestDecidedKeepsSeriesApart(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	teams, ops := []string{"a", "b"}, []string{"x", "y"}
	m := open(t, reg, "apart", teams, ops)
	var want []string
	for _, team := range append(teams, "unidentified") {
		for _, r := range policy.Reasons() {
			m.Decided(team, "x", r, 3, 0)
			decision := "deny"
			if !r.Denies() {
				decision = "allow"
			}
			want = append(want, `requests_total{decision="`+decision+`",reason="`+r.String()+`",team="`+team+`"} 1`)
		}
	}
	slices.Sort(want)
	got := slices.DeleteFunc(scrape(t, reg, "apart"), func(line string) bool { return !strings.HasPrefix(line, "requests_total") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	m.Close()

	m = open(t, reg, "apart", teams, ops)
	want = nil
	for _, op := range append(ops, "none") {
		for class, name := range []string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"} {
			m.Decided("a", op, policy.Allowed, class, 0)
			m.Decided("a", op, policy.RateLimited, class, 0)
			for _, decision := range []string{"allow", "deny"} {
				want = append(want, `operations_total{decision="`+decision+`",operation="`+op+`",status_class="`+name+`"} 1`)
			}
		}
	}
	slices.Sort(want)
	got = slices.DeleteFunc(scrape(t, reg, "apart"), func(line string) bool { return !strings.HasPrefix(line, "operations_total") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestInfo(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	open(t, reg, "info", nil, nil)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if strings.HasSuffix(f.GetName(), "_info") {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{
		`scopegate_catalogue_info{operations="53",scopes="52",version="`,
		`scopegate_build_info{goversion="` + runtime.Version() + `",version="`,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in\n%s", want, text.String())
		}
	}
}

func TestLint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	everyEvent(open(t, reg, "lint", []string{"billing"}, []string{"listMembers"}))
	s := metrics.NewStore("lint")
	defer s.Close()
	everyStoreEvent(s)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if len(families) != 42 {
		t.Errorf("linted %d families, want all 42", len(families))
	}
	for _, f := range families {
		if help := f.GetHelp(); !strings.HasSuffix(help, ".") || strings.ToUpper(help[:1]) != help[:1] {
			t.Errorf("%s: help %q is no sentence", f.GetName(), help)
		}
	}
}

func TestEventsDoNotAllocate(t *testing.T) {
	m := open(t, prometheus.NewPedanticRegistry(), "allocs", []string{"billing"}, []string{"listMembers"})
	failure := errors.New("disk full")
	events := func() {
		m.InFlight(1)
		m.Decided("billing", "listMembers", policy.Allowed, 2, time.Millisecond)
		m.Decided("", "", policy.NoCredential, 4, time.Millisecond)
		m.Upstream("listMembers", time.Second)
		m.Coalesced("billing")
		m.AuditWrite(time.Millisecond, nil)
		m.AuditWrite(time.Millisecond, failure)
		m.AuditSuppressed(1)
		m.AuditSync(time.Millisecond)
		m.AuditReserved()
		m.MirrorDropped()
		m.MasterRejected()
		m.InFlight(-1)
	}
	if n := testing.AllocsPerRun(1000, events); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestEventsFromManyRequestsAtOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	var wg sync.WaitGroup
	m := open(t, reg, "race", []string{"billing"}, []string{"listMembers"})
	for range 8 {
		wg.Go(func() {
			for range 100 {
				everyEvent(m)
				m.InFlight(-1)
			}
		})
	}
	for range 20 {
		scrape(t, reg, "race")
	}
	wg.Wait()
	got := scrape(t, reg, "race")
	for _, line := range []string{
		`requests_total{decision="allow",reason="allowed",team="billing"} 800`,
		`operations_total{decision="allow",operation="listMembers",status_class="2xx"} 800`,
		`decision_duration_seconds_count{operation="listMembers"} 800`,
		`upstream_duration_seconds_count{operation="listMembers"} 800`,
		`mints_total{outcome="clamped",team="billing"} 800`,
		"audit_suppressed_total 5600", "requests_in_flight 0",
	} {
		if !slices.Contains(got, line) {
			t.Errorf("no %s in %q", line, got)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	m, err := metrics.New(prometheus.NewPedanticRegistry(), "bench", []string{"billing"}, []string{"listMembers"})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	b.ReportAllocs()
	for b.Loop() {
		m.InFlight(1)
		m.Decided("billing", "listMembers", policy.Allowed, 2, time.Millisecond)
		m.Upstream("listMembers", time.Millisecond)
		m.AuditWrite(time.Millisecond, nil)
		m.InFlight(-1)
	}
}
