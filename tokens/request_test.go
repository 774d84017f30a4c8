package tokens_test

import (
	"strings"
	"testing"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/tokens"
)

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
		{"empty name", body(`""`, goodScopes, goodExpires, goodIPs), policy.MintInvalid, "name", "69 characters, not 0"},
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
