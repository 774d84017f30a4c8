package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// In shadow mode documented reads go on beyond scopes and limits, and nothing
// else does.
func TestShadow(t *testing.T) {
	until := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	added, err := scopes.NewOperation("GET", "/api/v1/new/{id}", "devices.read")
	if err != nil {
		t.Fatal(err)
	}
	router, err := scopes.NewRouter(true, added)
	if err != nil {
		t.Fatal(err)
	}
	home := netip.MustParsePrefix("192.0.2.0/24")
	team := &policy.Team{Name: "red", ShadowUntil: until, AllowedIPs: []netip.Prefix{home}}
	before := until.Add(-time.Nanosecond)
	for _, c := range []struct {
		name, method, path string
		limit              policy.Reason
		from               string
		now                time.Time
		want, would        policy.Reason
	}{
		{"a read without its scope", "GET", "/api/v1/members", policy.Allowed, "192.0.2.1", before, policy.Allowed, policy.InsufficientScope},
		{"too many", "GET", "/api/v1/test-connection", policy.RateLimited, "192.0.2.1", before, policy.Allowed, policy.RateLimited},
		{"too many at once", "GET", "/api/v1/test-connection", policy.TooManyInFlight, "192.0.2.1", before, policy.Allowed, policy.TooManyInFlight},
		{"what is permitted", "GET", "/api/v1/test-connection", policy.Allowed, "192.0.2.1", before, policy.Allowed, policy.Undecided},
		{"when it is over", "GET", "/api/v1/members", policy.Allowed, "192.0.2.1", until, policy.InsufficientScope, policy.Undecided},
		{"without a clock", "GET", "/api/v1/members", policy.Allowed, "192.0.2.1", time.Time{}, policy.InsufficientScope, policy.Undecided},
		{"a change", "POST", "/api/v1/group", policy.Allowed, "192.0.2.1", before, policy.InsufficientScope, policy.Undecided},
		{"tokens", "GET", "/api/v1/tokens", policy.Allowed, "192.0.2.1", before, policy.InsufficientScope, policy.Undecided},
		{"a token", "GET", "/api/v1/token/6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e", policy.Allowed, "192.0.2.1", before, policy.InsufficientScope, policy.Undecided},
		{"an inferred operation", "GET", "/api/v1/admin-logs", policy.Allowed, "192.0.2.1", before, policy.InsufficientScope, policy.Undecided},
		{"an added operation", "GET", "/api/v1/new/x", policy.Allowed, "192.0.2.1", before, policy.InsufficientScope, policy.Undecided},
		{"from elsewhere", "GET", "/api/v1/members", policy.Allowed, "198.51.100.1", before, policy.ClientAddress, policy.Undecided},
		{"an unknown path", "GET", "/api/v1/nothing", policy.Allowed, "192.0.2.1", before, policy.UnknownPath, policy.Undecided},
		{"another spelling", "GET", "/api/v1//members", policy.Allowed, "192.0.2.1", before, policy.PathNotCanonical, policy.Undecided},
		{"another method", "DELETE", "/api/v1/members", policy.Allowed, "192.0.2.1", before, policy.MethodNotAllowed, policy.Undecided},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := policy.Decide(&policy.Identity{Team: team}, router.Match(c.method, c.path),
				policy.Facts{Client: netip.MustParseAddr(c.from), Limit: c.limit, Now: c.now})
			if d.Reason != c.want || d.WouldDeny != c.would {
				t.Errorf("%s, would deny for %s; want %s and %s", d.Reason, d.WouldDeny, c.want, c.would)
			}
		})
	}
}
