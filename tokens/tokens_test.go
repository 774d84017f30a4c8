package tokens_test

import (
	"fmt"
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

func TestShapeRejectsMalformed(t *testing.T) {
	good := body(goodName, goodScopes, goodExpires, goodIPs)
	long := strings.Repeat("a", 128)
	for _, tc := range []struct {
		name, body string
		reason     policy.Reason
		field      string
		detail     string // part of it
	}{
		// The body as a whole.
		{"empty", "", policy.MalformedBody, "", "ends too early"},
		{"cut", good[:len(good)-1], policy.MalformedBody, "", "ends too early"},
		{"array", "[" + good + "]", policy.MalformedBody, "", "not an array"},
		{"string", `"x"`, policy.MalformedBody, "", "not a string"},
		{"null", `null`, policy.MalformedBody, "", "not null"},
		{"two", good + good, policy.MalformedBody, "", "follows"},
		{"byte order mark", "\xef\xbb\xbf" + good, policy.MalformedBody, "", "byte order mark"},
		{"UTF-16", "\xfe\xff\x00{\x00}", policy.MalformedBody, "", "UTF-8"},
		{"form", "name=x&allowed_scopes[]=members.read", policy.MalformedBody, "", "not valid JSON"},
		{"too large", good + strings.Repeat(" ", tokens.MaxBody), policy.BodyTooLarge, "", "65536 bytes"},
		{"deep", strings.Repeat(`{"name":`, 65), policy.MalformedBody, "", "nested"},
		// Go takes the last, others the first.
		{"duplicate field", good[:len(good)-1] + `,"allowed_scopes":["members.delete"]}`, policy.MalformedBody, "", "same name twice"},
		{"duplicate field, escaped", good[:len(good)-1] + `,"allowed\u005fscopes":["members.delete"]}`, policy.MalformedBody, "", "same name twice"},

		// Keys.
		{"key in another case", strings.Replace(good, `"name"`, `"Name"`, 1), policy.MintInvalid, "name", "case-sensitive"},
		{"key in another case beside", good[:len(good)-1] + `,"ALLOWED_SCOPES":["members.delete"]}`, policy.MintInvalid, "allowed_scopes", "case-sensitive"},
		// Go's folding takes U+017F for an s.
		{"key with a long s", good[:len(good)-1] + `,"allowed_\u017fcopes":["members.delete"]}`, policy.MintInvalid, "allowed_scopes", "case-sensitive"},
		{"unknown field", good[:len(good)-1] + `,"scopes":[]}`, policy.MintInvalid, "scopes", "unknown field"},
		{"unknown field of no word", good[:len(good)-1] + `,"sgk_0000":1}`, policy.MintInvalid, "", "unknown field"},
		{"unknown field, long", good[:len(good)-1] + `,"` + strings.Repeat("x", 33) + `":1}`, policy.MintInvalid, "", "unknown field"},
		{"key with a NUL", good[:len(good)-1] + `,"name\u0000":1}`, policy.MintInvalid, "", "unknown field"},
		{"key with a space", good[:len(good)-1] + `,"name ":1}`, policy.MintInvalid, "", "unknown field"},
		{"empty key", good[:len(good)-1] + `,"":1}`, policy.MintInvalid, "", "unknown field"},
		{"PHP array key", good[:len(good)-1] + `,"allowed_scopes[]":"members.delete"}`, policy.MintInvalid, "", "unknown field"},

		// Absent and null: nobody knows whether upstream then takes all.
		{"no fields", `{}`, policy.MintInvalid, "name", "required"},
		{"no name", body("", goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "required"},
		{"no scopes", body(goodName, "", goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes", "required"},
		{"no expiry", body(goodName, goodScopes, "", goodIPs), policy.MintInvalid, "expires_at", "required"},
		{"no addresses", body(goodName, goodScopes, goodExpires, ""), policy.MintInvalid, "allowed_ips", "required"},
		{"null name", body("null", goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "null"},
		{"null scopes", body(goodName, "null", goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes", "null"},
		{"null expiry", body(goodName, goodScopes, "null", goodIPs), policy.MintInvalid, "expires_at", "null"},
		{"null addresses", body(goodName, goodScopes, goodExpires, "null"), policy.MintInvalid, "allowed_ips", "null"},

		// The name.
		{"name of another kind", body(`1`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "a number"},
		{"empty name", body(`""`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "128 characters, not 0"},
		{"long name", body(`"`+long+`a"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "not 129"},
		{"blank name", body(`" \u00a0\u3000"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "blank"},
		{"invisible name", body(`"\u200b\u00ad"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "blank"},
		{"NUL in the name", body(`"a\u0000"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+0000"},
		{"line feed in the name", body(`"a\nb"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+000A"},
		{"DEL in the name", body(`"a\u007f"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+007F"},
		{"C1 in the name", body(`"a\u0085"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+0085"},
		{"line separator in the name", body(`"a\u2028"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+2028"},
		{"paragraph separator in the name", body(`"a\u2029"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+2029"},
		{"BOM in the name", body(`"a\ufeff"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+FEFF"},
		// Such a name reads as another on an administrator's screen.
		{"override in the name", body(`"a\u202eb"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+202E"},
		{"isolate in the name", body(`"a\u2066b"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+2066"},
		{"mark in the name", body(`"a\u200fb"`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "U+200F"},

		// Scopes.
		{"scopes as a string", body(goodName, `"members.read"`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes", "a string"},
		{"scopes as an object", body(goodName, `{"0":"members.read"}`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes", "an object"},
		{"empty scopes", body(goodName, `[]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes", "empty"},
		{"null among scopes", body(goodName, `["members.read",null]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[1]", "null"},
		{"number among scopes", body(goodName, `[0]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "a number"},
		{"nested scopes", body(goodName, `[["members.read"]]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "an array"},
		{"misspelt scope", body(goodName, `["members.read","member.reed"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[1]", `did you mean "members.read"?`},
		{"glob", body(goodName, `["members.*"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"star", body(goodName, `["*"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"empty scope", body(goodName, `[""]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"scope in another case", body(goodName, `["Members.read"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"scope with a space", body(goodName, `["members.read "]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"scope with a NUL", body(goodName, `["members.read\u0000"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"two scopes in one", body(goodName, `["members.read members.delete"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},
		{"endless scope", body(goodName, `["`+strings.Repeat("x", 60_000)+`"]`, goodExpires, goodIPs), policy.MintInvalid, "allowed_scopes[0]", "unknown scope"},

		// The expiry.
		{"expiry as a number", body(goodName, goodScopes, `1796083200`, goodIPs), policy.MintInvalid, "expires_at", "a number"},
		{"empty expiry", body(goodName, goodScopes, `""`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry as RFC 3339", body(goodName, goodScopes, `"2026-12-01T00:00:00Z"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry without time", body(goodName, goodScopes, `"2026-12-01"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a zone", body(goodName, goodScopes, `"2026-12-01 00:00:00 +0100"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a fraction", body(goodName, goodScopes, `"2026-12-01 00:00:00.5"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a comma", body(goodName, goodScopes, `"2026-12-01 00:00:00,5"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with short month", body(goodName, goodScopes, `"2026-1-01 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with short hour", body(goodName, goodScopes, `"2026-12-01 1:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with five-digit year", body(goodName, goodScopes, `"12026-12-01 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a space", body(goodName, goodScopes, `" 2026-12-01 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a tab", body(goodName, goodScopes, `"2026-12-01\t00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry with a NUL", body(goodName, goodScopes, `"2026-12-01 00:00:00\u0000"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry in Arabic digits", body(goodName, goodScopes, `"٢٠٢٦-12-01 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		{"expiry in words", body(goodName, goodScopes, `"+30 days"`, goodIPs), policy.MintInvalid, "expires_at", "written as"},
		// PHP makes March 2nd of it.
		{"February 30th", body(goodName, goodScopes, `"2027-02-30 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},
		{"no leap year", body(goodName, goodScopes, `"2027-02-29 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},
		{"month 13", body(goodName, goodScopes, `"2026-13-01 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},
		{"day zero", body(goodName, goodScopes, `"2026-12-00 00:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},
		{"hour 24", body(goodName, goodScopes, `"2026-12-01 24:00:00"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},
		{"leap second", body(goodName, goodScopes, `"2026-11-30 23:59:60"`, goodIPs), policy.MintInvalid, "expires_at", "that exist"},

		// Addresses.
		{"addresses as a string", body(goodName, goodScopes, goodExpires, `"203.0.113.10"`), policy.MintInvalid, "allowed_ips", "a string"},
		{"empty addresses", body(goodName, goodScopes, goodExpires, `[]`), policy.MintInvalid, "allowed_ips", "empty"},
		{"null among addresses", body(goodName, goodScopes, goodExpires, `["203.0.113.10",null]`), policy.MintInvalid, "allowed_ips[1]", "null"},
		{"number among addresses", body(goodName, goodScopes, goodExpires, `[3405803786]`), policy.MintInvalid, "allowed_ips[0]", "a number"},
		{"empty address", body(goodName, goodScopes, goodExpires, `[""]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"host name", body(goodName, goodScopes, goodExpires, `["example.com"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"star for an address", body(goodName, goodScopes, goodExpires, `["*"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"range", body(goodName, goodScopes, goodExpires, `["203.0.113.1-203.0.113.9"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"two addresses in one", body(goodName, goodScopes, goodExpires, `["203.0.113.1,0.0.0.0/0"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"address with a port", body(goodName, goodScopes, goodExpires, `["203.0.113.1:80"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"address with a space", body(goodName, goodScopes, goodExpires, `["203.0.113.1 "]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"address with a NUL", body(goodName, goodScopes, goodExpires, `["203.0.113.1\u0000"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"netmask", body(goodName, goodScopes, goodExpires, `["203.0.113.0/255.255.255.0"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		// inet_aton reads octal, hexadecimal and short forms.
		{"octal address", body(goodName, goodScopes, goodExpires, `["0313.0.0161.012"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"hexadecimal address", body(goodName, goodScopes, goodExpires, `["0xcb00710a"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"short address", body(goodName, goodScopes, goodExpires, `["203.0.28938"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"long prefix", body(goodName, goodScopes, goodExpires, `["203.0.113.0/33"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"prefix with a zero", body(goodName, goodScopes, goodExpires, `["203.0.113.0/024"]`), policy.MintInvalid, "allowed_ips[0]", "expected an address"},
		{"zone", body(goodName, goodScopes, goodExpires, `["2001:db8::1%eth0"]`), policy.MintInvalid, "allowed_ips[0]", "with a zone"},
		{"zone in a prefix", body(goodName, goodScopes, goodExpires, `["2001:db8::%eth0/64"]`), policy.MintInvalid, "allowed_ips[0]", "with a zone"},
		{"zone on a mapped address", body(goodName, goodScopes, goodExpires, `["::ffff:203.0.113.10%eth0"]`), policy.MintInvalid, "allowed_ips[0]", "with a zone"},
		{"host bits", body(goodName, goodScopes, goodExpires, `["203.0.113.10/24"]`), policy.MintInvalid, "allowed_ips[0]", "write 203.0.113.0/24 or 203.0.113.10"},
		{"host bits, mapped", body(goodName, goodScopes, goodExpires, `["::ffff:203.0.113.10/120"]`), policy.MintInvalid, "allowed_ips[0]", "write 203.0.113.0/24 or 203.0.113.10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// What is malformed is refused where wider requests are narrowed, too.
			for _, id := range []*policy.Identity{caller(), caller(clamping), caller(clamping, anyIP)} {
				m, refusal := tokens.Shape([]byte(tc.body), id, zone(t, "UTC"), now)
				if refusal == nil {
					t.Fatalf("sent %s", m.Body())
				}
				if refusal.Reason != tc.reason || refusal.Field != tc.field || !strings.Contains(refusal.Detail, tc.detail) {
					t.Errorf("refused for %s at %q: %s", refusal.Reason, refusal.Field, refusal.Detail)
				}
			}
		})
	}
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
			caller(clamping), []string{"allowed_scopes", "expires_at", "allowed_ips"},
			`{"name":"siem-export","expires_at":"2026-12-24 12:00:00","allowed_ips":["203.0.113.0/24"],"allowed_scopes":["members.read"]}`,
		},
		{
			"every address becomes the permitted ones", body(goodName, goodScopes, goodExpires, `["0.0.0.0/0"]`), caller(clamping), []string{"allowed_ips"},
			`{"name":"siem-export","expires_at":"2026-12-01 00:00:00","allowed_ips":["203.0.113.0/24","198.51.100.7"],"allowed_scopes":["members.read"]}`,
		},
		{
			"floor to the second", body(goodName, goodScopes, goodExpires, goodIPs), caller(clamping, expiring(now.Add(90*time.Minute+999*time.Millisecond))), []string{"expires_at"},
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
			b.Fatal(fmt.Errorf("no body"))
		}
	}
}
