package tokens_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

func TestShapeEncodesAnew(t *testing.T) {
	asked := ` { "allowed_ips" : [ "::ffff:203.0.113.10", "2001:DB8:0:0::/64", "203.0.113.10/32" ] ,
		"allowed_scopes" : [ "systems.read-all", "members.read", "system.read-all" ] ,
		"n\u0061me" : "caf\u00e9 \u0022x\u0022", "expires_at":"2026-12-01 00:00:00" } `
	m, refusal := tokens.Shape([]byte(asked), caller(), zone(t, "UTC"), now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := &tokens.Mint{
		Name: `café "x"`, Scopes: set("members.read", "system.read-all"), Requested: set("members.read", "system.read-all"),
		ExpiresAt: "2026-12-01 00:00:00", Expires: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		AllowedIPs: []string{"203.0.113.10", "2001:db8::/64"},
	}
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(scopes.Set{})); diff != "" {
		t.Error(diff)
	}
	const sent = `{"name":"café \"x\"","expires_at":"2026-12-01 00:00:00","allowed_ips":["203.0.113.10","2001:db8::/64"],"allowed_scopes":["system.read-all","members.read"]}`
	if got := string(m.Body()); got != sent {
		t.Errorf("sent %s\nwant %s", got, sent)
	}
	withinGrant(t, m, caller(), zone(t, "UTC"))
}

func TestShapeRejectsBeyondTheGrant(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		id         *policy.Identity
		reason     policy.Reason
		field      string
		detail     string // part of it
	}{
		{"scope of the caller's, not mintable", body(goodName, `["members.read","members.update"]`, goodExpires, goodIPs), caller(), policy.MintScopes, "allowed_scopes", "members.update"},
		{"mintable, not the caller's", body(goodName, `["groups.read"]`, goodExpires, goodIPs), caller(), policy.MintScopes, "allowed_scopes", "groups.read"},
		{"all logs", body(goodName, `["admin-logs.read"]`, goodExpires, goodIPs), caller(), policy.MintScopes, "allowed_scopes", "admin-logs.read"},
		// It would be a second master, even though the grant names it.
		{"token scope", body(goodName, `["members.read","token.create"]`, goodExpires, goodIPs), caller(), policy.MintScopes, "allowed_scopes", "ever carries a token.* scope"},
		{"token scopes alone, clamped", body(goodName, `["token.create","token.read"]`, goodExpires, goodIPs), caller(clamping), policy.MintScopes, "allowed_scopes", "token.*"},
		{"nothing left, clamped", body(goodName, `["groups.read","members.update"]`, goodExpires, goodIPs), caller(clamping), policy.MintScopes, "allowed_scopes", "groups.read"},
		{"scopes before the expiry", body(goodName, `["groups.read"]`, `"2099-01-01 00:00:00"`, `["0.0.0.0/0"]`), caller(), policy.MintScopes, "allowed_scopes", "groups.read"},

		{"now", body(goodName, goodScopes, `"2026-11-24 12:00:00"`, goodIPs), caller(), policy.MintExpiry, "expires_at", "not in the future"},
		{"past", body(goodName, goodScopes, `"2026-11-24 11:59:59"`, goodIPs), caller(clamping), policy.MintExpiry, "expires_at", "not in the future"},
		{"zero date", body(goodName, goodScopes, `"0001-01-01 00:00:00"`, goodIPs), caller(clamping), policy.MintExpiry, "expires_at", "not in the future"},
		{"a second too late", body(goodName, goodScopes, `"2026-12-24 12:00:01"`, goodIPs), caller(), policy.MintExpiry, "expires_at", "latest permitted is 2026-12-24 12:00:00"},
		{"end of time", body(goodName, goodScopes, `"9999-12-31 23:59:59"`, goodIPs), caller(), policy.MintExpiry, "expires_at", "latest permitted"},
		{"beyond the credential", body(goodName, goodScopes, `"2026-11-25 00:00:01"`, goodIPs), caller(expiring(now.Add(12 * time.Hour))), policy.MintExpiry, "expires_at", "latest permitted is 2026-11-25 00:00:00"},
		{"credential ends within the second, clamped", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, expiring(now.Add(time.Second/2))), policy.MintExpiry, "expires_at", "ends too soon"},
		{"credential has ended, clamped", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, expiring(now.Add(-day))), policy.MintExpiry, "expires_at", "ends too soon"},
		{"no life granted", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, func(m *policy.MintGrant, _ *policy.Identity) { m.MaxTTL = 0 }), policy.MintExpiry, "expires_at", "ends too soon"},

		{"another address", body(goodName, goodScopes, goodExpires, `["203.0.113.10","192.0.2.1"]`), caller(), policy.MintAddresses, "allowed_ips[1]", "192.0.2.1 is not within"},
		{"wider prefix", body(goodName, goodScopes, goodExpires, `["203.0.112.0/23"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "203.0.112.0/23 is not within"},
		{"neighbour of a single address", body(goodName, goodScopes, goodExpires, `["198.51.100.6/31"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "not within"},
		{"every address", body(goodName, goodScopes, goodExpires, `["0.0.0.0/0"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "not within"},
		{"every IPv6 address", body(goodName, goodScopes, goodExpires, `["::/0"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "not within"},
		{"every IPv4 address, mapped", body(goodName, goodScopes, goodExpires, `["::ffff:0:0/96"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "0.0.0.0/0 is not within"},
		{"another address, mapped", body(goodName, goodScopes, goodExpires, `["::ffff:192.0.2.1"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "192.0.2.1 is not within"},
		{"wider prefix, mapped", body(goodName, goodScopes, goodExpires, `["::ffff:203.0.112.0/119"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "203.0.112.0/23 is not within"},
		{"IPv4-compatible IPv6", body(goodName, goodScopes, goodExpires, `["::203.0.113.10"]`), caller(), policy.MintAddresses, "allowed_ips[0]", "not within"},
		{"nothing left, clamped", body(goodName, goodScopes, goodExpires, `["192.0.2.1"]`), caller(clamping), policy.MintAddresses, "allowed_ips[0]", "not within"},
		{"no addresses configured", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, func(m *policy.MintGrant, _ *policy.Identity) { m.AllowedIPs = nil }), policy.MintAddresses, "allowed_ips[0]", "none are configured"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, refusal := tokens.Shape([]byte(tc.body), tc.id, zone(t, "UTC"), now)
			if refusal == nil {
				t.Fatalf("sent %s", m.Body())
			}
			if refusal.Reason != tc.reason || refusal.Field != tc.field || !strings.Contains(refusal.Detail, tc.detail) {
				t.Errorf("refused for %s at %q: %s", refusal.Reason, refusal.Field, refusal.Detail)
			}
			if refusal.Requested.Empty() {
				t.Error("the record does not learn which scopes were asked for")
			}
		})
	}
}

func TestShapeRejectsWhereMintingIsNotGranted(t *testing.T) {
	id := caller()
	id.Team.Mint = nil
	for _, b := range []string{"", body(goodName, goodScopes, goodExpires, goodIPs)} {
		if _, refusal := tokens.Shape([]byte(b), id, zone(t, "UTC"), now); refusal == nil || refusal.Reason != policy.MintNotGranted {
			t.Errorf("%q: %v", b, refusal)
		}
	}
}

// Only `any` lifts the binding to addresses. A list that holds /0 by a slip of
// the operator does not, and neither do the spellings that some servers read
// as "every address".
func TestShapeRejectsEveryAddressUnlessAny(t *testing.T) {
	slip := func(m *policy.MintGrant, _ *policy.Identity) { m.AllowedIPs = prefixes("0.0.0.0/0", "::/0") }
	for _, ip := range []string{
		"0.0.0.0/0", "::/0", "0.0.0.0", "::", "0.0.0.0/32", "::/128", "0.0.0.0/1", "::/1", "::/64", "::/80", "::ffff:0:0/96",
		"::ffff:0.0.0.0", "::ffff:0:0/97", "::fffe:0:0/95", "::8000:0:0/81",
	} {
		b := []byte(body(goodName, goodScopes, goodExpires, `["`+ip+`"]`))
		for _, id := range []*policy.Identity{caller(), caller(clamping), caller(slip), caller(slip, clamping)} {
			m, refusal := tokens.Shape(b, id, zone(t, "UTC"), now)
			switch {
			case refusal != nil && refusal.Reason != policy.MintAddresses:
				t.Errorf("%s: refused for %s", ip, refusal.Reason)
			case refusal == nil && !id.Team.Mint.Clamp:
				t.Errorf("%s: sent %v", ip, m.AllowedIPs)
			case refusal == nil:
				for _, sent := range m.AllowedIPs {
					if strings.HasPrefix(sent, "0.") || strings.HasPrefix(sent, "::") {
						t.Errorf("%s: sent %v", ip, m.AllowedIPs)
					}
				}
			}
		}
		if _, refusal := tokens.Shape(b, caller(anyIP), zone(t, "UTC"), now); refusal != nil {
			t.Errorf("any: %s: %v", ip, refusal)
		}
	}
}

func TestShapeClamps(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		id         *policy.Identity
		clamped    []string
		sent       string
	}{
		{
			"nothing to narrow", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping), nil,
			`{"name":"siem-export","expires_at":"2026-12-01 00:00:00","allowed_ips":["203.0.113.10"],"allowed_scopes":["members.read"]}`,
		},
		{
			"everything", body(goodName, `["token.create","members.read","members.update"]`, `"2099-01-01 00:00:00"`, `["192.0.2.1","203.0.0.0/16","203.0.113.0/24"]`),
			caller(clamping),
			[]string{"allowed_scopes", "expires_at", "allowed_ips"},
			`{"name":"siem-export","expires_at":"2026-12-24 12:00:00","allowed_ips":["203.0.113.0/24"],"allowed_scopes":["members.read"]}`,
		},
		{
			"every address becomes the permitted ones", body(goodName, goodScopes, goodExpires, `["0.0.0.0/0"]`), caller(clamping),
			[]string{"allowed_ips"},
			`{"name":"siem-export","expires_at":"2026-12-01 00:00:00","allowed_ips":["203.0.113.0/24","198.51.100.7"],"allowed_scopes":["members.read"]}`,
		},
		{
			"floor to the second", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, expiring(now.Add(90*time.Minute+999*time.Millisecond))),
			[]string{"expires_at"},
			`{"name":"siem-export","expires_at":"2026-11-24 13:30:00","allowed_ips":["203.0.113.10"],"allowed_scopes":["members.read"]}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, refusal := tokens.Shape([]byte(tc.body), tc.id, zone(t, "UTC"), now)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if diff := cmp.Diff(tc.clamped, m.Clamped); diff != "" {
				t.Error(diff)
			}
			if got := string(m.Body()); got != tc.sent {
				t.Errorf("sent %s\nwant %s", got, tc.sent)
			}
			withinGrant(t, m, tc.id, zone(t, "UTC"))
		})
	}
}

// A grant in the configuration may be written in the dress of IPv6, or with
// host bits. It then means what it would mean without.
func TestShapeReadsTheGrantAsItIsMeant(t *testing.T) {
	odd := func(m *policy.MintGrant, _ *policy.Identity) {
		m.Clamp, m.AllowedIPs = true, prefixes("::ffff:203.0.113.0/120", "198.51.100.7/24")
	}
	m, refusal := tokens.Shape([]byte(body(goodName, goodScopes, goodExpires, `["203.0.113.10","198.51.0.0/16"]`)), caller(odd), zone(t, "UTC"), now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if diff := cmp.Diff([]string{"203.0.113.10", "198.51.100.0/24"}, m.AllowedIPs); diff != "" {
		t.Error(diff)
	}
}

// Callers put keys into the wrong places. The answer must not repeat one.
func TestShapeRepeatsNoUnrecognisedText(t *testing.T) {
	const key = "sgk_0123456789ab_secretsecretsecretsecretsecretsecretsecret1crc32c"
	for _, b := range []string{
		body(`"`+key+`\n"`, goodScopes, goodExpires, goodIPs),
		body(goodName, `["`+key+`"]`, goodExpires, goodIPs),
		body(goodName, `["`+key[:20]+`"]`, goodExpires, goodIPs),
		body(goodName, goodScopes, `"`+key+`"`, goodIPs),
		body(goodName, goodScopes, goodExpires, `["`+key+`"]`),
		body(goodName, goodScopes, goodExpires, `["`+key+`/24"]`),
		`{"` + key + `":1}`, `{"` + key + `":1,"` + key + `":1}`, `"` + key + `"`, key, `{"a":"` + key,
	} {
		_, refusal := tokens.Shape([]byte(b), caller(), zone(t, "UTC"), now)
		if refusal == nil || strings.Contains(refusal.Error(), "sgk_") || len(refusal.Error()) > 300 {
			t.Errorf("%s: %v", b, refusal)
		}
	}
}

// TestShapeCrossProduct crosses what each field may say with what the grant
// may be, and knows the outcome of each: what is permitted passes, and what
// passes is within the grant.
func TestShapeCrossProduct(t *testing.T) {
	type choice struct {
		json   string
		reason policy.Reason // when refused
		clamp  bool          // narrowed instead, where the grant clamps
	}
	const ok = policy.Allowed
	names := []choice{{goodName, ok, false}, {`"é"`, ok, false}, {`""`, policy.MintInvalid, false}, {"", policy.MintInvalid, false}}
	scopeLists := []choice{
		{goodScopes, ok, false},
		{`["systems.read-all","members.read-all","members.read"]`, ok, false},
		{`["members.read","token.read"]`, policy.MintScopes, true},
		{`["members.read","groups.read","members.update"]`, policy.MintScopes, true},
		{`["groups.read"]`, policy.MintScopes, false},
		{`["members.read","nothing"]`, policy.MintInvalid, false},
		{`[]`, policy.MintInvalid, false},
	}
	expiries := []choice{
		{`"2026-11-25 12:00:00"`, ok, false},
		{`"2026-12-23 12:00:00"`, ok, false},
		{`"2026-12-26 12:00:00"`, policy.MintExpiry, true},
		{`"2100-02-28 23:59:59"`, policy.MintExpiry, true},
		{`"2026-11-23 12:00:00"`, policy.MintExpiry, false},
		{`"2100-02-29 23:59:59"`, policy.MintInvalid, false},
		{`null`, policy.MintInvalid, false},
	}
	addresses := []choice{
		{goodIPs, ok, false},
		{`["::ffff:203.0.113.0/121","198.51.100.7","2001:db8::/33"]`, ok, false},
		{`["203.0.113.10","192.0.2.1"]`, policy.MintAddresses, true},
		{`["203.0.0.0/16"]`, policy.MintAddresses, true},
		{`["2001::/16"]`, policy.MintAddresses, true},
		{`["0.0.0.0/0","::/0"]`, policy.MintAddresses, true},
		{`["192.0.2.1"]`, policy.MintAddresses, false},
		{`["203.0.113.0/24","203.0.113.1/24"]`, policy.MintInvalid, false},
		{`[""]`, policy.MintInvalid, false},
	}
	counts := map[policy.Reason]int{}
	for _, rules := range []tokens.Rules{zone(t, "Europe/Prague"), zone(t, "Pacific/Kiritimati"), zone(t, "Etc/GMT+12"), {}} {
		for _, clamp := range []bool{false, true} {
			id := caller(func(m *policy.MintGrant, _ *policy.Identity) { m.Clamp = clamp })
			for _, name := range names {
				for _, scopeList := range scopeLists {
					for _, expiry := range expiries {
						for _, ips := range addresses {
							want := ok
							// All fields are read before any is judged.
							for _, c := range []choice{name, scopeList, expiry, ips} {
								if want == ok && c.reason == policy.MintInvalid {
									want = c.reason
								}
							}
							for _, c := range []choice{scopeList, expiry, ips} {
								if want == ok && !(clamp && c.clamp) {
									want = c.reason
								}
							}
							b := body(name.json, scopeList.json, expiry.json, ips.json)
							m, refusal := tokens.Shape([]byte(b), id, rules, now)
							got := ok
							if refusal != nil {
								got = refusal.Reason
							}
							if got != want {
								t.Fatalf("%v clamp=%v %s: %s (%v), want %s", rules.Zone, clamp, b, got, refusal, want)
							}
							if counts[got]++; m != nil {
								withinGrant(t, m, id, rules)
							}
						}
					}
				}
			}
		}
	}
	for _, reason := range []policy.Reason{ok, policy.MintInvalid, policy.MintScopes, policy.MintExpiry, policy.MintAddresses} {
		if counts[reason] < 100 {
			t.Errorf("only %d cases came to %s", counts[reason], reason)
		}
	}
}

func TestCheckRules(t *testing.T) {
	for _, tc := range []struct {
		ttl  time.Duration
		zone *time.Location
		ok   bool
	}{
		{90 * day, nil, true},
		{day, nil, true},
		{day - 1, nil, false},
		{time.Hour, time.UTC, true},
		{0, time.UTC, false},
		{-day, nil, false},
	} {
		if err := tokens.CheckRules(tc.ttl, tc.zone); (err == nil) != tc.ok {
			t.Errorf("CheckRules(%s, %v) = %v", tc.ttl, tc.zone, err)
		}
	}
}

func BenchmarkShape(b *testing.B) {
	asked := []byte(body(goodName, `["members.read","members.read-all","system.read-all"]`, goodExpires, `["203.0.113.10","203.0.113.128/25"]`))
	id, rules := caller(), zone(b, "Europe/Prague")
	b.ReportAllocs()
	for b.Loop() {
		m, refusal := tokens.Shape(asked, id, rules, now)
		if refusal != nil {
			b.Fatal(refusal)
		}
		if len(m.Body()) == 0 {
			b.Fatal("no body")
		}
	}
}
