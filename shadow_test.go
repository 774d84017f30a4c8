package scopegate

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate/metrics"
)

func TestShadowMode(t *testing.T) {
	soon := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	w := newWorld(t, "scopes members.read\n\t\trate_limit 2 1h\n\t\tenforce off until "+soon)
	reg := prometheus.NewPedanticRegistry()
	if err := metrics.Register(reg); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if rec := w.do(t, "GET", "/api/v1/members", ""); rec.Code != 200 || rec.Header().Get("Retry-After") != "" {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
	if rec := w.do(t, "POST", "/api/v1/group", `{"name":"x"}`); rec.Code != 403 {
		t.Errorf("a change: %d %s", rec.Code, rec.Body)
	}
	log := string(readFile(t, w.log))
	if n := strings.Count(log, `"would_deny":"insufficient_scope"`); n != 8 {
		t.Errorf("%d records say what would be denied, want two of each request\n%s", n, log)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		if f.GetName() == "scopegate_would_deny_total" {
			for _, m := range f.GetMetric() {
				counted += m.GetCounter().GetValue()
			}
		}
	}
	if counted != 4 {
		t.Errorf("%v requests counted", counted)
	}
	for _, bad := range []string{"enforce off", "enforce on until 2027-01-31", "enforce off until soon"} {
		file := caddyfile.NewTestDispenser("scopegate {\n team red {\n " + bad + "\n }\n}")
		if err := new(Gateway).UnmarshalCaddyfile(file); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
