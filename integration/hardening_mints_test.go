package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	invalid, malformedBody                  = "mint_invalid", "malformed_body"
	beyondScopes, beyondLife, beyondAddress = "mint_scopes", "mint_expiry", "mint_addresses"
)

// The fields of a mint as JSON, in the order in which the gateway sends them.
var mintFields = []string{"name", "expires_at", "allowed_ips", "allowed_scopes"}

func goodFields() map[string]string {
	return map[string]string{
		"name": `"report"`, "expires_at": `"` + in(3*24*time.Hour) + `"`,
		"allowed_ips": `["198.51.100.9"]`, "allowed_scopes": `["members.read"]`,
	}
}

// mintBody puts fields together, leaving out those that are empty.
func mintBody(fields map[string]string, more ...string) string {
	var list []string
	for _, name := range mintFields {
		if fields[name] != "" {
			list = append(list, fmt.Sprintf("%q:%s", name, fields[name]))
		}
	}
	return "{" + strings.Join(append(list, more...), ",") + "}"
}

// mint sends a mint that is refused.
func (h *hardening) mint(t *testing.T, by *holder, name, body, reason string) {
	t.Helper()
	status := http.StatusForbidden
	switch reason {
	case invalid:
		status = http.StatusUnprocessableEntity
	case malformedBody:
		status = http.StatusBadRequest
	}
	h.do(t, exchange{
		name: name, call: call{method: "POST", target: "/api/v1/token", key: by.key, body: body},
		as: by, status: status, reason: reason,
	})
}

// mints asks for tokens that are wider than the grant, or that two readers of
// the body could take for different ones.
func (h *hardening) mints(t *testing.T) {
	by := h.callers.reader
	for _, field := range mintFields {
		replaced := func(with string) map[string]string {
			f := goodFields()
			f[field] = with
			return f
		}
		good := goodFields()[field]
		h.mint(t, by, "without "+field, mintBody(replaced("")), invalid)
		list := strings.HasPrefix(good, "[")
		for _, value := range []string{"null", "true", "0", "1.5", "{}", `""`, "[]", `[""]`, "[null]", "[[]]", "[{}]", "[1]", `{"0":"x"}`} {
			h.mint(t, by, field+" "+value, mintBody(replaced(value)), invalid)
		}
		if list {
			h.mint(t, by, field+" as a string", mintBody(replaced(strings.Trim(good, "[]"))), invalid)
			h.mint(t, by, field+" and null", mintBody(replaced(strings.Replace(good, "]", ",null]", 1))), invalid)
		} else {
			h.mint(t, by, field+" as a list", mintBody(replaced("["+good+"]")), invalid)
		}
		for _, other := range []string{
			strings.ToUpper(field), strings.ToUpper(field[:1]) + field[1:], strings.ReplaceAll(field, "_", "-"), field + "[]", " " + field,
			field + " ", field + `\u0000`, strings.Replace(field, "s", "ſ", 1) + "x", strings.Replace(field, "a", "а", 1),
		} {
			if other == field {
				continue
			}
			key := `"` + other + `":` + good
			h.mint(t, by, "another spelling for "+field, mintBody(replaced(""), key), invalid)
			h.mint(t, by, "another spelling beside "+field, mintBody(goodFields(), key), invalid)
		}
		h.mint(t, by, field+" twice", mintBody(goodFields(), `"`+field+`":`+good), malformedBody)
		escaped := fmt.Sprintf(`"\u%04x%s":%s`, field[0], field[1:], good)
		h.mint(t, by, field+" twice, once escaped", mintBody(goodFields(), escaped), malformedBody)
		h.mint(t, by, field+" wrapped", `{"data":`+mintBody(goodFields())+`}`, invalid)
	}
	for _, field := range []string{
		"id", "token", "scopes", "scope", "permissions", "admin", "role", "is_master", "expiresAt", "expires_in", "never_expires", "ttl",
		"allowedScopes", "allowed_scope", "ips", "__proto__", "constructor", "data", "", "member_id", "$where",
	} {
		for _, value := range []string{`null`, `true`, `["*"]`} {
			h.mint(t, by, "also "+field, mintBody(goodFields(), `"`+field+`":`+value), invalid)
		}
	}
	for _, body := range []string{"", "[]", "null", `"x"`, "1", "[" + mintBody(goodFields()) + "]", mintBody(goodFields()) + mintBody(goodFields()), "\ufeff" + mintBody(goodFields()), mintBody(goodFields()) + ",", "{", "name=x"} {
		x := exchange{
			name: "body " + body[:min(len(body), 20)], call: call{method: "POST", target: "/api/v1/token", key: by.key, body: body},
			as: by, status: 400, reason: malformedBody,
		}
		if body == "" {
			x.status, x.reason = 415, "unsupported_media_type"
		}
		h.do(t, x)
	}
	h.mint(t, by, "too deep", mintBody(goodFields(), `"x":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)), malformedBody)
	h.mintNames(t, by)
	h.mintScopes(t, by)
	h.mintExpiries(t, by)
	h.mintAddresses(t, by)
	h.mintGrants(t)
}

func (h *hardening) mintNames(t *testing.T, by *holder) {
	for _, name := range []string{
		`" "`, `"\t"`, `"\u00a0\u3000"`, `"\u200b"`, `"a\u0000b"`, `"a\nb"`, `"a\u001bb"`, `"a\u0085b"`, `"a\u202eb"`, `"a\u2066b"`, `"a\u200fb"`,
		`"a\u2028b"`, `"a\u2029b"`, `"a\ufeffb"`,
		`"` + strings.Repeat("a", 70) + `"`, `"` + strings.Repeat("é", 70) + `"`, `"` + strings.Repeat("a", 129) + `"`, `"` + strings.Repeat("é", 129) + `"`,
		`"` + aStamp + `"`, `"x` + aStamp + `"`, `"x` + strings.ToUpper(aStamp) + `"`, `"x` + strings.Replace(aStamp, "sg", "Sg", 1) + `"`, `"\u002dsg` + aStamp[3:] + `"`,
		`"` + aStamp[:9] + aStamp + `"`,
	} {
		f := goodFields()
		f["name"] = name
		h.mint(t, by, "name "+name, mintBody(f), invalid)
	}
	for _, name := range []string{
		`"` + strings.Repeat("é", 69) + `"`, `"<b>&'"`, `"日本語 😀"`,
		`"` + aStamp + `x"`, `"` + aStamp[:len(aStamp)-1] + `"`, `"` + aStamp[1:] + `"`, `"x` + strings.Replace(aStamp, "s", "ſ", 1) + `"`, `"x` + strings.Replace(aStamp, "aa", "a1", 1) + `"`,
	} {
		f := goodFields()
		f["name"] = name
		h.minted(t, by, "name "+name, mintBody(f), mintBody(f))
	}
	// A stamp that the gateway made itself.
	for _, genuine := range slices.Sorted(maps.Keys(h.stamps))[:3] {
		f := goodFields()
		f["name"] = `"report` + genuine + `"`
		h.mint(t, by, "a genuine stamp", mintBody(f), invalid)
	}
}

// aStamp has the form of a stamp, and was made by nobody.
const aStamp = "-sg-aaaaaaaa-bbbbbbbb-cccccccccccccccccccc-dddddddddddddddd"

// minted sends a mint that is permitted, and says what of it arrives.
func (h *hardening) minted(t *testing.T, by *holder, name, body, arrives string) *answer {
	t.Helper()
	x := exchange{
		name: name, call: call{method: "POST", target: "/api/v1/token?x=1", key: by.key, body: body},
		as: by, status: 200, sent: mintSent, with: arrives,
	}
	if by == h.callers.clamped {
		x.to = h.second
	}
	return h.do(t, x)
}

func (h *hardening) mintScopes(t *testing.T, by *holder) {
	for list, reason := range map[string]string{
		`["*"]`: invalid, `["members.*"]`: invalid, `["members"]`: invalid, `["all"]`: invalid, `["MEMBERS.READ"]`: invalid, `[" members.read"]`: invalid,
		`["members.read "]`: invalid, `["members.read\u0000"]`: invalid, `["members.read,members.delete"]`: invalid, `["members.read members.delete"]`: invalid,
		`["members.reаd"]`: invalid, `["members.read",["members.delete"]]`: invalid, `["members.read",1]`: invalid, `["` + strings.Repeat("a", 5000) + `"]`: invalid,
		`["unknown.read"]`: invalid, `["members.read","nonsense"]`: invalid,

		`["members.delete"]`: beyondScopes, `["members.read","members.delete"]`: beyondScopes, `["members.update"]`: beyondScopes, // held, but not mintable
		`["systems.read-all"]`: beyondScopes, `["system.read-all"]`: beyondScopes, `["admin-logs.read"]`: beyondScopes,
		`["token.create"]`: beyondScopes, `["members.read","token.read-all"]`: beyondScopes, `["token.read"]`: beyondScopes, `["token.delete"]`: beyondScopes,
	} {
		f := goodFields()
		f["allowed_scopes"] = list
		h.mint(t, by, "scopes "+list[:min(len(list), 60)], mintBody(f), reason)
	}
	for _, op := range api { // everyone holds everything here, and no token ever carries these
		f := goodFields()
		f["allowed_scopes"] = `["` + op.scope + `"]`
		switch {
		case op.scope == "":
		case op.tokens():
			h.mint(t, h.callers.full, "scope "+op.scope, mintBody(f), beyondScopes)
		default:
			h.minted(t, h.callers.full, "scope "+op.scope, mintBody(f), mintBody(f))
		}
	}
	for asked, want := range map[string]string{
		`["members.read","members.read"]`:                         `["members.read"]`,
		`["members\u002eread"]`:                                   `["members.read"]`,
		`["systems.read-all"]`:                                    `["system.read-all"]`,
		`["systems.read-all","system.read-all","members.delete"]`: `["system.read-all","members.delete"]`,
	} {
		f, g := goodFields(), goodFields()
		f["allowed_scopes"], g["allowed_scopes"] = asked, want
		h.minted(t, h.callers.full, "scopes "+asked, mintBody(f), mintBody(g))
	}
}

func (h *hardening) mintExpiries(t *testing.T, by *holder) {
	const day = 24 * time.Hour
	next := time.Now().Year() + 1
	for _, text := range []string{
		"2000-01-01 00:00:00", in(-time.Hour), in(-time.Second),
		in(30 * day), in(30*day - 11*time.Hour), in(31 * day), in(10000 * day), "9999-12-31 23:59:59",
	} {
		f := goodFields()
		f["expires_at"] = `"` + text + `"`
		h.mint(t, by, "expiry "+text, mintBody(f), beyondLife)
	}
	for _, text := range []string{
		"never", "tomorrow", "+1 year", "0", "-1", "1893456000", "@1893456000", "2030-01-01", "2030-01-01T00:00:00", "2030-01-01T00:00:00Z", "2030-01-01 00:00:00Z",
		"2030-01-01 00:00:00 +0000", "2030-01-01 00:00:00.5", "2030-1-1 0:0:0", "2030-01-01 00:00", " 2030-01-01 00:00:00", "2030-01-01 00:00:00 ", "2030-01-01  00:00:00",
		"2030-13-01 00:00:00", "2030-00-10 00:00:00", "2030-01-00 00:00:00", fmt.Sprintf("%d-02-30 00:00:00", next), "2030-02-29 00:00:00", "2030-01-01 24:00:00", "2030-01-01 00:60:00",
		"2030-01-01 23:59:60", "0000-00-00 00:00:00", "12030-01-01 00:00:00", "-2030-01-01 00:00:00", "01/01/2030 00:00:00", "2030/01/01 00:00:00", "２０３０-01-01 00:00:00", "2030-01-01 00:00:00\\u0000", "2030-01-01\\t00:00:00",
	} {
		f := goodFields()
		f["expires_at"] = `"` + text + `"`
		h.mint(t, by, "expiry "+text, mintBody(f), invalid)
	}
	for _, value := range []string{"1893456000", "1e10", "-1", "false"} {
		f := goodFields()
		f["expires_at"] = value
		h.mint(t, by, "expiry "+value, mintBody(f), invalid)
	}
	f := goodFields()
	f["expires_at"] = `"` + in(30*day-13*time.Hour) + `"`
	h.minted(t, by, "the last expiry", mintBody(f), mintBody(f))
	// The credential ends in five days; what it makes ends before.
	h.mint(t, h.callers.narrow, "longer than its maker", mintBody(f), beyondLife)
	f["expires_at"] = `"` + in(5*day-13*time.Hour) + `"`
	h.minted(t, h.callers.narrow, "as long as its maker", mintBody(f), mintBody(f))
}

func (h *hardening) mintAddresses(t *testing.T, by *holder) {
	for list, reason := range map[string]string{
		`["0.0.0.0/0"]`: beyondAddress, `["::/0"]`: beyondAddress, `["0.0.0.0"]`: beyondAddress, `["::"]`: beyondAddress, `["::ffff:0.0.0.0/96"]`: beyondAddress,
		`["::ffff:0:0/95"]`: invalid, `["198.51.100.0/23"]`: beyondAddress, `["198.51.0.0/16"]`: beyondAddress, `["203.0.113.7"]`: beyondAddress, `["198.51.101.0"]`: beyondAddress,
		`["198.51.100.9","203.0.113.7"]`: beyondAddress, `["198.51.100.9","0.0.0.0/0"]`: beyondAddress, `["::ffff:203.0.113.7"]`: beyondAddress,
		`["2001:db8:2::1"]`: beyondAddress, `["2001:db8::/32"]`: beyondAddress, `["64:ff9b::c633:6409"]`: beyondAddress, `["2002:c633:6409::"]`: beyondAddress, `["127.0.0.1"]`: beyondAddress,
		`["::198.51.100.9"]`: beyondAddress,

		`["198.51.100.9/24"]`: invalid, `["198.51.100.9/33"]`: invalid, `["198.51.100.9/-1"]`: invalid, `["198.51.100.9/"]`: invalid, `["198.51.100.9/024"]`: invalid, `["/24"]`: invalid,
		`["198.51.100.9/255.255.255.0"]`: invalid, `["198.51.100.0-198.51.100.9"]`: invalid, `["198.51.100.*"]`: invalid, `["198.51.100"]`: invalid, `["198.51.100.256"]`: invalid, `["198.51.100.09"]`: invalid,
		`["0xC6336409"]`: invalid, `["3325256713"]`: invalid, `["0306.063.0144.011"]`: invalid, `["198.51.100.9:443"]`: invalid, `[" 198.51.100.9"]`: invalid, `["198.51.100.9 "]`: invalid,
		`["198.51.100.9,0.0.0.0/0"]`: invalid, `["198.51.100.9\u0000"]`: invalid, `["198.51.100.9%eth0"]`: invalid, `["2001:db8::1%eth0"]`: invalid, `["[2001:db8::1]"]`: invalid, `["any"]`: invalid, `["*"]`: invalid,
		`["localhost"]`: invalid, `["example.com"]`: invalid, `["１９８.51.100.9"]`: invalid, `["198.51.100.9",""]`: invalid, `[["198.51.100.9"]]`: invalid, `[3325256713]`: invalid,
	} {
		f := goodFields()
		f["allowed_ips"] = list
		h.mint(t, by, "addresses "+list, mintBody(f), reason)
	}
	for asked, want := range map[string]string{
		`["198.51.100.0/24"]`:                          `["198.51.100.0/24"]`,
		`["198.51.100.9/32","198.51.100.9"]`:           `["198.51.100.9"]`,
		`["::ffff:198.51.100.9","::ffff:c633:640a"]`:   `["198.51.100.9","198.51.100.10"]`,
		`["::ffff:198.51.100.0/120"]`:                  `["198.51.100.0/24"]`,
		`["2001:DB8:0:0:0::1","2001:db8:0:ffff::/64"]`: `["2001:db8::1","2001:db8:0:ffff::/64"]`,
		`["198.51.100.128/25","2001:db8::/48"]`:        `["198.51.100.128/25","2001:db8::/48"]`,
		`["198.51.100\u002e9"]`:                        `["198.51.100.9"]`,
	} {
		f, g := goodFields(), goodFields()
		f["allowed_ips"], g["allowed_ips"] = asked, want
		h.minted(t, by, "addresses "+asked, mintBody(f), mintBody(g))
	}
}

// mintGrants asks for tokens by callers whose grant is less than it seems, and
// by one whose requests are narrowed.
func (h *hardening) mintGrants(t *testing.T) {
	h.mint(t, h.callers.unminting, "no mint block", mintBody(goodFields()), "mint_not_granted")
	h.mint(t, h.callers.narrow, "its team's scope, not its own", strings.Replace(mintBody(goodFields()), "members.read", "members.read-all", 1), beyondScopes)
	h.mint(t, h.callers.only["token.create"], "nothing of its own", mintBody(goodFields()), beyondScopes)

	clamped := h.callers.clamped
	for _, c := range []struct{ field, asked, want string }{
		{"allowed_scopes", `["members.read","members.delete","token.create"]`, `["members.read"]`},
		{"allowed_ips", `["0.0.0.0/0"]`, `["198.51.100.0/24"]`},
		{"allowed_ips", `["203.0.113.7","198.51.100.9","198.51.0.0/16"]`, `["198.51.100.9","198.51.100.0/24"]`},
	} {
		f, g := goodFields(), goodFields()
		f[c.field], g[c.field] = c.asked, c.want
		if a := h.minted(t, clamped, "narrowed "+c.field, mintBody(f), mintBody(g)); a.header.Get("Scopegate-Clamped") != c.field {
			t.Errorf("Scopegate-Clamped: %q", a.header.Get("Scopegate-Clamped"))
		}
	}
	for _, c := range []struct{ field, value, reason string }{
		{"allowed_scopes", `["groups.read"]`, beyondScopes},
		{"allowed_scopes", `["token.create"]`, beyondScopes},
		{"allowed_scopes", `["members.*"]`, invalid},
		{"allowed_ips", `["203.0.113.7"]`, beyondAddress},
		{"allowed_ips", `["198.51.100.9/24"]`, invalid},
		{"expires_at", `"2000-01-01 00:00:00"`, beyondLife},
		{"expires_at", `"never"`, invalid},
	} {
		f := goodFields()
		f[c.field] = c.value
		h.do(t, exchange{
			name: "not to be narrowed " + c.value, to: h.second, as: clamped, reason: c.reason,
			status: map[bool]int{true: 422, false: 403}[c.reason == invalid],
			call:   call{method: "POST", target: "/api/v1/token", key: clamped.key, body: mintBody(f)},
		})
	}
}

// randomMints puts bodies together from all that was asked for above and
// more. Whether one is refused is not foretold; that what arrives upstream is
// within the grant is, and that a refusal is one.
func (h *hardening) randomMints(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 53))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	list := func(from ...string) string {
		var some []string
		for range 1 + random.IntN(3) {
			some = append(some, `"`+pick(from...)+`"`)
		}
		return "[" + strings.Join(some, ",") + "]"
	}
	const day = 24 * time.Hour
	for i := range 300 {
		f := map[string]string{
			"name":       pick(`"a"`, `"b c"`, `"é\u0301"`, `"\ud83d\ude00"`, `" x "`),
			"expires_at": `"` + in(time.Duration(random.Int64N(int64(40*day)))) + `"`,
			"allowed_ips": list("198.51.100.9", "198.51.100.64/26", "198.51.100.0/24", "198.51.100.0/23", "0.0.0.0/0", "::ffff:198.51.100.1", "2001:db8::/64", "2001:db8::/32",
				"203.0.113.0/24", "::", "0.0.0.0/1"),
			"allowed_scopes": list("members.read", "members.read-all", "members.read", "members.update", "systems.read-all", "token.create", "groups.read"),
		}
		body := mintBody(f)
		if random.IntN(4) == 0 {
			n := random.IntN(len(body))
			body = body[:n] + pick(`"`, `}`, ` `, `,`, `\u0000`, `x`, "") + body[min(n+1, len(body)):]
		}
		by, to := h.callers.reader, h.addr
		switch i % 3 {
		case 1:
			by, to = h.callers.clamped, h.second
		case 2:
			by = h.callers.narrow
		}
		h.randomMint(t, by, to, body)
	}
}

func (h *hardening) randomMint(t *testing.T, by *holder, to, body string) {
	t.Helper()
	h.made++
	x := exchange{name: body, to: to, as: by, call: call{method: "POST", target: "/api/v1/token", key: by.key, body: body}}
	a := send(t, to, x.call)
	arrived := h.theirs(t, x)
	x.status, x.reason = a.status, a.Reason
	gateway := map[bool]string{true: "default", false: "plain"}[to == h.addr]
	switch {
	case a.status == http.StatusOK && len(arrived) == 1 && json.Valid([]byte(body)):
		x.sent = mintSent
	case a.status/100 == 4 && a.Reason != "" && len(arrived) == 0:
	default:
		t.Errorf("%s: status %d, %d requests upstream: %s", body, a.status, len(arrived), a.body)
	}
	h.note(x, gateway, a)
}
