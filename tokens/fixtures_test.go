package tokens_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests name zones

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

// now is the instant of all tests: 2026-11-24 12:00:00 UTC.
var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func set(names ...string) scopes.Set {
	var s scopes.Set
	for _, name := range names {
		one, err := scopes.Parse(name)
		if err != nil {
			panic(err)
		}
		s = s.Union(scopes.Of(one))
	}
	return s
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// caller may mint tokens that read members and systems, for 30 days, bound to
// 203.0.113.0/24, one address of 198.51.100.0/24 or 2001:db8::/32.
func caller(change ...func(*policy.MintGrant, *policy.Identity)) *policy.Identity {
	own := set("token.create", "token.read", "members.read", "members.read-all", "members.update", "system.read-all")
	mint := &policy.MintGrant{
		// The last two are beyond the caller's own: the grant of the team is
		// wider than this credential.
		Scopes:     set("members.read", "members.read-all", "system.read-all", "groups.read", "token.create"),
		AllowedIPs: prefixes("203.0.113.0/24", "198.51.100.7/32", "2001:db8::/32"),
		MaxTTL:     30 * day,
	}
	id := &policy.Identity{Team: &policy.Team{Name: "billing", Scopes: scopes.All(), Mint: mint}, Credential: "c", Scopes: own}
	for _, f := range change {
		f(mint, id)
	}
	return id
}

func clamping(m *policy.MintGrant, _ *policy.Identity) { m.Clamp = true }
func anyIP(m *policy.MintGrant, _ *policy.Identity)    { m.AnyIP, m.AllowedIPs = true, nil }

func expiring(t time.Time) func(*policy.MintGrant, *policy.Identity) {
	return func(_ *policy.MintGrant, id *policy.Identity) { id.Expires = t }
}

func zone(t testing.TB, name string) tokens.Rules {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return tokens.Rules{Zone: z}
}

// body writes a mint out of JSON values; an empty one is left out.
func body(name, scopes, expires, ips string) string {
	var members []string
	for _, m := range [][2]string{{"name", name}, {"allowed_scopes", scopes}, {"expires_at", expires}, {"allowed_ips", ips}} {
		if m[1] != "" {
			members = append(members, `"`+m[0]+`":`+m[1])
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

const (
	goodName    = `"siem-export"`
	goodScopes  = `["members.read"]`
	goodExpires = `"2026-12-01 00:00:00"`
	goodIPs     = `["203.0.113.10"]`
)

// withinGrant holds what is sent upstream against the grant, by means that
// the package does not use: the standard library's JSON, which takes the last
// of two names and any case, the scopes as words, and a clock in every zone.
func withinGrant(t *testing.T, m *tokens.Mint, id *policy.Identity, r tokens.Rules) {
	t.Helper()
	sent := m.Body()
	var got struct {
		Name          *string
		ExpiresAt     *string  `json:"expires_at"`
		AllowedIPs    []string `json:"allowed_ips"`
		AllowedScopes []string `json:"allowed_scopes"`
	}
	var members map[string]json.RawMessage
	d := json.NewDecoder(strings.NewReader(string(sent)))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%s: %v", sent, err)
	}
	if err := json.Unmarshal(sent, &members); err != nil || len(members) != 4 {
		t.Fatalf("%s: %v", sent, err)
	}
	if got.Name == nil || strings.TrimSpace(*got.Name) == "" || *got.Name != m.Name {
		t.Errorf("sent the name %v, said %q", got.Name, m.Name)
	}

	if len(got.AllowedScopes) == 0 {
		t.Error("sent no scopes")
	}
	mintable := strings.Fields(id.Team.Mint.Scopes.String())
	own := strings.Fields(id.Scopes.String())
	for _, name := range got.AllowedScopes {
		if !contains(mintable, name) || !contains(own, name) || strings.HasPrefix(name, "token.") {
			t.Errorf("sent the scope %s", name)
		}
	}
	if strings.Join(got.AllowedScopes, " ") != m.Scopes.String() {
		t.Errorf("sent %v, said %s", got.AllowedScopes, m.Scopes)
	}

	if len(got.AllowedIPs) == 0 {
		t.Error("sent no addresses")
	}
	for _, text := range got.AllowedIPs {
		first, last := ends(t, text)
		ok := id.Team.Mint.AnyIP
		for _, p := range id.Team.Mint.AllowedIPs {
			ok = ok || p.Contains(first) && p.Contains(last)
		}
		if !ok {
			t.Errorf("sent the address %s", text)
		}
		all := netip.MustParseAddr("::ffff:192.0.2.1") // in the dress of IPv6
		if !id.Team.Mint.AnyIP && (first.IsUnspecified() || first.Is6() && first.Compare(all) <= 0 && last.Compare(all) >= 0) {
			t.Errorf("sent %s, which may be every address", text)
		}
	}

	limit := now.Add(id.Team.Mint.MaxTTL)
	if !id.Expires.IsZero() && id.Expires.Before(limit) {
		limit = id.Expires
	}
	readings := readings(t, *got.ExpiresAt, r.Zone)
	for _, at := range readings {
		if at.After(limit) || !at.After(now) || at.After(m.Expires) {
			t.Errorf("sent %s, which may be %s; now %s, limit %s, said %s", *got.ExpiresAt, at.UTC(), now, limit, m.Expires.UTC())
		}
	}
	if len(readings) == 0 {
		t.Errorf("sent %s, which is no time", *got.ExpiresAt)
	}
}

// ends returns the first and the last address of an address or a CIDR.
func ends(t *testing.T, text string) (first, last netip.Addr) {
	t.Helper()
	if a, err := netip.ParseAddr(text); err == nil {
		return a, a
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		t.Fatal(err)
	}
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(bytes)
	return p.Addr(), last
}

// readings returns every instant at which a clock in the zone shows the text.
// Where the zone is unknown it returns those from UTC-12 to UTC: further east
// a token only ends earlier still.
func readings(t *testing.T, text string, z *time.Location) (list []time.Time) {
	t.Helper()
	wall, err := time.Parse(time.DateTime, text)
	if err != nil {
		t.Fatal(err)
	}
	for quarters := -12 * 4; quarters <= 14*4; quarters++ {
		at := wall.Add(-time.Duration(quarters) * 15 * time.Minute)
		if z == nil && quarters <= 0 || z != nil && at.In(z).Format(time.DateTime) == text {
			list = append(list, at)
		}
	}
	return list
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}
