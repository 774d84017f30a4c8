package limits_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
)

func headers(v limits.Verdict) map[string]string {
	h := map[string]string{}
	v.Headers(func(name, value string) { h[name] = value })
	return h
}

func TestHeaders(t *testing.T) {
	second := func(n int, per time.Duration, burst int) limits.Limit {
		return limits.Limit{Rate: &limits.Rate{N: n, Per: per, Burst: burst}}
	}
	tests := []struct {
		name   string
		lims   lims
		enters int
		want   map[string]string
	}{
		{"no limits", nil, 1, map[string]string{}},
		{"places alone", lims{team: atOnce(9)}, 1, map[string]string{}},
		{"no place", lims{team: atOnce(1)}, 2, map[string]string{"Retry-After": "1"}},
		{"team", lims{team: perMinute(120, 0)}, 71, map[string]string{
			"Ratelimit-Policy": `"team";q=120;w=60`, "Ratelimit": `"team";r=49;t=36`,
		}},
		{"credential", lims{ci: perMinute(120, 0)}, 1, map[string]string{
			"Ratelimit-Policy": `"credential";q=120;w=60`, "Ratelimit": `"credential";r=119;t=1`,
		}},
		{"both", lims{team: perMinute(120, 0), ci: perMinute(30, 60)}, 3, map[string]string{
			"Ratelimit-Policy": `"credential";q=30;w=60, "team";q=120;w=60`,
			"Ratelimit":        `"credential";r=57;t=6, "team";r=117;t=2`,
		}},
		{"refused by the credential", lims{team: perMinute(60, 0), ci: perMinute(2, 0)}, 4, map[string]string{
			"Ratelimit-Policy": `"credential";q=2;w=60, "team";q=60;w=60`,
			"Ratelimit":        `"credential";r=0;t=30, "team";r=58;t=2`,
			"Retry-After":      "30",
		}},
		{"refused by the team", lims{team: perMinute(2, 0), ci: perMinute(60, 0)}, 4, map[string]string{
			"Ratelimit-Policy": `"credential";q=60;w=60, "team";q=2;w=60`,
			"Ratelimit":        `"credential";r=56;t=4, "team";r=0;t=30`,
			"Retry-After":      "30",
		}},
		{"no place, with a rate", lims{team: {MaxInFlight: 1, Rate: &limits.Rate{N: 60, Per: time.Minute}}}, 3, map[string]string{
			"Ratelimit-Policy": `"team";q=60;w=60`, "Ratelimit": `"team";r=59;t=1`, "Retry-After": "1",
		}},
		{"the last one says when the next is", lims{team: perMinute(2, 0)}, 2, map[string]string{
			"Ratelimit-Policy": `"team";q=2;w=60`, "Ratelimit": `"team";r=0;t=30`,
		}},
		{"a window of part of a second is not told", lims{team: second(10, 1500*time.Millisecond, 0)}, 1, map[string]string{
			"Ratelimit-Policy": `"team";q=10`, "Ratelimit": `"team";r=9;t=1`,
		}},
		{"more than a field can hold", lims{team: second(1<<62, time.Second, 0)}, 1, map[string]string{
			"Ratelimit-Policy": `"team";q=999999999999999;w=1`, "Ratelimit": `"team";r=999999999999999;t=0`,
		}},
		{"longer than a duration can hold", lims{team: second(1, 1<<63-1, 1<<50)}, 1, map[string]string{
			"Ratelimit-Policy": `"team";q=1`, "Ratelimit": `"team";r=999999999999999;t=9223372036`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlan(t, tt.lims)
				var v limits.Verdict
				for range tt.enters {
					v = p.Enter("billing", "ci", "", time.Now())
				}
				got := headers(v)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
				for name := range got {
					if http.CanonicalHeaderKey(name) != name {
						t.Errorf("%q is not canonical and would be set beside itself", name)
					}
				}
			})
		})
	}
}

// Rates are counted in floating point, where many a sum of equal parts is a
// little less than the whole. Rounding that down would hide a request.
func TestRemainingIsWhole(t *testing.T) {
	for seconds := range 200 {
		synctest.Test(t, func(t *testing.T) {
			per := time.Duration(seconds+1) * time.Second
			p := newPlan(t, lims{team: {Rate: &limits.Rate{N: 1, Per: per, Burst: 3}}})
			admitted(p, "ci", 3)
			time.Sleep(2 * per)
			got := headers(p.Enter("billing", "ci", "", time.Now()))["Ratelimit"]
			if want := fmt.Sprintf(`"team";r=1;t=%d`, 2*(seconds+1)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// The one header that cannot be made when the configuration loads is the one
// allocation.
func TestHeadersAllocateOnce(t *testing.T) {
	p := newPlan(t, lims{team: perMinute(1<<30, 0), ci: perMinute(1<<30, 0)})
	v := p.Enter("billing", "ci", "", time.Now())
	set := func(string, string) {}
	if n := testing.AllocsPerRun(1000, func() { v.Headers(set) }); n > 1 {
		t.Errorf("%v allocations, want one at most", n)
	}
}

// A structured field (RFC 9651): a list of strings with integer parameters.
var (
	policyField = regexp.MustCompile(`^"(credential|team)";q=\d{1,15}(;w=\d{1,15})?(, "team";q=\d{1,15}(;w=\d{1,15})?)?$`)
	limitField  = regexp.MustCompile(`^"(credential|team)";r=\d{1,15};t=\d{1,15}(, "team";r=\d{1,15};t=\d{1,15})?$`)
)

// FuzzHeaders holds, for any limits that a configuration can have, that the
// fields parse, that whoever is refused is told to wait, and that waiting so
// long is enough.
func FuzzHeaders(f *testing.F) {
	f.Add(120, int64(time.Minute), 0, 60, int64(time.Second), 5, uint8(20))
	f.Add(1, int64(1), 1, 1, int64(1<<62), 1<<60, uint8(3))
	f.Add(7, int64(49*time.Second+12), 101, 1<<61, int64(167), 61, uint8(107)) // just above 7 s
	f.Fuzz(func(t *testing.T, n1 int, per1 int64, burst1, n2 int, per2 int64, burst2 int, enters uint8) {
		if n1 <= 0 || per1 <= 0 || burst1 < 0 || n2 <= 0 || per2 <= 0 || burst2 < 0 {
			return // refused when the configuration loads
		}
		p := limits.NewBook().Plan(lims{
			team: {Rate: &limits.Rate{N: n1, Per: time.Duration(per1), Burst: burst1}},
			ci:   {Rate: &limits.Rate{N: n2, Per: time.Duration(per2), Burst: burst2}},
		})
		defer p.Close()
		now := time.Now()
		var v limits.Verdict
		for range enters {
			v = p.Enter("billing", "ci", "", now)
		}
		h := headers(v)
		if enters == 0 {
			return
		}
		if !policyField.MatchString(h["Ratelimit-Policy"]) || !limitField.MatchString(h["Ratelimit"]) {
			t.Fatalf("malformed fields: %q", h)
		}
		retry, refused := h["Retry-After"]
		if refused != (v.Reason == policy.RateLimited) {
			t.Fatalf("%s with headers %q", v.Reason, h)
		}
		if !refused {
			return
		}
		seconds, err := strconv.ParseInt(retry, 10, 64)
		if err != nil || seconds < 1 || fmt.Sprint(seconds) != retry {
			t.Fatalf("Retry-After %q", retry)
		}
		if seconds > int64(30*24*time.Hour/time.Second) {
			return // floating point counts so long a time in more than nanoseconds
		}
		if got := p.Enter("billing", "ci", "", now.Add(time.Duration(seconds)*time.Second)).Reason; got != policy.Allowed {
			t.Fatalf("%s after Retry-After %s", got, retry)
		}
	})
}
