package tokens_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

var zones = []string{"UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Pacific/Kiritimati", "Etc/GMT+12"}

// fuzzCaller makes a caller and rules out of a few numbers.
func fuzzCaller(t *testing.T, flags, zoneAt uint8, ttl, expires uint16) (*policy.Identity, tokens.Rules) {
	t.Helper()
	id := caller(func(m *policy.MintGrant, id *policy.Identity) {
		m.Clamp = flags&1 != 0
		if flags&2 != 0 {
			m.AnyIP, m.AllowedIPs = true, nil
		}
		if flags&4 != 0 {
			m.AllowedIPs = append(m.AllowedIPs, netip.MustParsePrefix("0.0.0.0/0"))
		}
		if flags&8 != 0 {
			id.Scopes = scopes.All()
			m.Scopes = scopes.All()
		}
		if flags&16 != 0 {
			id.Expires = now.Add(time.Duration(expires) * time.Hour / 7)
		}
		m.MaxTTL = time.Duration(ttl) * time.Hour / 3
	})
	if int(zoneAt) >= len(zones) {
		return id, tokens.Rules{}
	}
	return id, zone(t, zones[zoneAt])
}

// holdShape holds what must be true of Shape whatever the body is.
func holdShape(t *testing.T, b []byte, id *policy.Identity, r tokens.Rules) (accepted bool) {
	t.Helper()
	before := bytes.Clone(b)
	m, refusal := tokens.Shape(b, id, r, now)
	if !bytes.Equal(before, b) {
		t.Fatal("Shape changed its argument")
	}
	if refusal != nil {
		switch refusal.Reason {
		case policy.BodyTooLarge, policy.MalformedBody, policy.MintInvalid, policy.MintScopes, policy.MintExpiry, policy.MintAddresses:
		default:
			t.Fatalf("refused for %s", refusal.Reason)
		}
		if m != nil || refusal.Detail == "" || len(refusal.Field) > 40 || len(refusal.Detail) > 1500 {
			t.Fatalf("%+v, %+v", m, refusal)
		}
		return false
	}
	withinGrant(t, m, id, r)
	if t.Failed() {
		t.Fatalf("from %s", b)
	}
	if !id.Team.Mint.Clamp && (len(m.Clamped) > 0 || m.Scopes != m.Requested) {
		t.Fatalf("narrowed %v without being told to", m.Clamped)
	}
	if !m.Requested.Contains(m.Scopes) {
		t.Fatalf("sent %s, asked for %s", m.Scopes, m.Requested)
	}
	// What was sent may be sent again: it is its own shape.
	again, refusal := tokens.Shape(m.Body(), id, r, now)
	if refusal != nil {
		t.Fatalf("%s sent, then refused: %v", m.Body(), refusal)
	}
	want := *m
	want.Clamped, want.Requested = nil, m.Scopes
	if diff := cmp.Diff(&want, again, cmp.AllowUnexported(scopes.Set{})); diff != "" {
		t.Fatal(diff)
	}
	return true
}

// FuzzShape holds that whatever the body is, what upstream receives is within
// the caller's grant.
func FuzzShape(f *testing.F) {
	for _, b := range nearlyValid(200) {
		f.Add([]byte(b), uint8(0), uint8(0), uint16(2160), uint16(0))
		f.Add([]byte(b), uint8(1+16), uint8(9), uint16(2160), uint16(700))
	}
	f.Fuzz(func(t *testing.T, b []byte, flags, zoneAt uint8, ttl, expires uint16) {
		id, r := fuzzCaller(t, flags, zoneAt, ttl, expires)
		holdShape(t, b, id, r)
	})
}

// TestShapeNeverWidens does the same for bodies that are made to be nearly
// right, a good part of which must pass.
func TestShapeNeverWidens(t *testing.T) {
	accepted := 0
	bodies := nearlyValid(8_000)
	random := rand.New(rand.NewPCG(1, 2))
	for _, b := range bodies {
		id, r := fuzzCaller(t, uint8(random.Uint32()), uint8(random.IntN(8)), uint16(random.IntN(5000)), uint16(random.IntN(9000)))
		if holdShape(t, []byte(b), id, r) {
			accepted++
		}
	}
	if accepted < len(bodies)/20 {
		t.Errorf("only %d of %d bodies passed", accepted, len(bodies))
	}
}

// nearlyValid generates bodies of a mint, each with a few things odd or none.
func nearlyValid(n int) []string {
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	scopeNames := append(scopes.All().Names(), "systems.read-all", "members.read", "members.read-all", "system.read-all")
	array := func(element func() string) string {
		var list []string
		for range 1 + random.IntN(4) {
			list = append(list, element())
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	odd := func(usual string) string {
		if random.IntN(30) > 0 {
			return usual
		}
		return pick("null", "0", "true", `""`, "[]", "{}", "[null]", `[[]]`, `"*"`, `["*"]`, "-1", `"\u0000"`)
	}
	var bodies []string
	for range n {
		members := []string{
			`"name":` + odd(pick(goodName, `"é\u0301"`, `"`+strings.Repeat("n", 1+random.IntN(130))+`"`)),
			`"allowed_scopes":` + odd(array(func() string {
				if random.IntN(3) > 0 {
					return pick(`"members.read"`, `"members.read-all"`, `"systems.read-all"`)
				}
				return `"` + pick(scopeNames...) + `"`
			})),
			`"expires_at":` + odd(`"`+now.Add(time.Duration(random.IntN(3000)-100)*time.Hour).Format(time.DateTime)+`"`),
			`"allowed_ips":` + odd(array(func() string {
				bits := []byte{203, 0, 113, byte(random.Uint32())}
				if random.IntN(4) == 0 {
					bits[random.IntN(4)] = byte(random.Uint32())
				}
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte(bits)), 24+random.IntN(9))
				if random.IntN(6) == 0 {
					p = netip.PrefixFrom(p.Addr(), random.IntN(33))
				}
				if random.IntN(6) > 0 {
					p = p.Masked()
				}
				text := pick(p.String(), p.Addr().String(), p.Masked().String())
				if random.IntN(5) == 0 {
					text = pick("::ffff:"+p.Addr().String(), "2001:db8::/48", "::/0", "0.0.0.0/0", "2001:db8::1%1", "::ffff:203.0.113.0/120", "198.51.100.7")
				}
				return `"` + text + `"`
			})),
		}
		random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		switch random.IntN(25) {
		case 0:
			members = members[1:]
		case 1:
			members = append(members, members[0])
		case 2:
			members = append(members, strings.ToUpper(members[0]))
		case 3:
			members = append(members, `"scopes":["token.create"]`)
		}
		b := "{" + strings.Join(members, pick(",", " , ", ",\n")) + "}"
		if random.IntN(25) == 0 { // break one byte
			at := random.IntN(len(b))
			b = b[:at] + string(rune(random.IntN(256))) + b[at+1:]
		}
		bodies = append(bodies, b)
	}
	return bodies
}

var answers = []string{
	`[` + full + `,` + foreign + `]`, `{"data":[` + full + `],"total":1}`, `{"items":[]}`, `[{"id":"` + ours + `","name":{}}]`,
	full, `{"token":` + full + `}`, `{"data":{"created_id":"` + ours + `"}}`, `[` + full + `][]`, `{"data":[],"items":[` + full + `]}`,
	`[{"id":"` + theirs + `","\u0069d":"` + ours + `"}]`, "", "null",
	`[` + stamped + `]`, `{"item":` + stamped + `}`, `{"data":[` + strings.ToUpper(stamped) + `]}`,
}

// stamped is a token as this gateway would have made it.
const stamped = `{"id":"` + ours + `","name":"job-sg-abcdefg2-hijklmn3-opqrstuvwxyzabcdefgh-ijklmnopqrstuvwx","created_at":"2026-01-31 10:00:00",` +
	`"expires_at":"2026-12-01 00:00:00","allowed_ips":["203.0.113.10"],"allowed_scopes":["members.read","systems.read-all"]}`

// FuzzList holds that a list that passes is one to the standard library too,
// shows the tokens to keep and no other, and no member that is not on the
// list of those that may be shown.
func FuzzList(f *testing.F) {
	for _, s := range answers {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		// Keep by what the id is made of, so that the fuzzer can reach both.
		keep := func(id []byte) bool { return bytes.ContainsRune(id, '7') }
		got, err := tokens.List(bytes.NewReader(body), keep)
		again, againErr := tokens.List(iotest.OneByteReader(bytes.NewReader(body)), keep)
		if (err == nil) != (againErr == nil) || !bytes.Equal(got, again) {
			t.Fatalf("%s, %v; byte by byte %s, %v", got, err, again, againErr)
		}
		if err != nil {
			if got != nil {
				t.Fatal("an answer beside an error")
			}
			return
		}
		var want []any
		for _, token := range listOf(t, body) {
			if keep([]byte(token["id"].(string))) {
				want = append(want, filtered(token))
			}
		}
		var have []any
		for _, token := range listOf(t, got) {
			have = append(have, token)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatal(diff)
		}
	})
}

// listOf finds the tokens of a list by means of the standard library.
func listOf(t *testing.T, body []byte) (list []map[string]any) {
	t.Helper()
	var wrapped map[string]json.RawMessage
	if err := json.Unmarshal(body, &wrapped); err == nil {
		for _, name := range []string{"data", "items"} {
			if inner := bytes.TrimSpace(wrapped[name]); len(inner) > 0 && inner[0] == '[' {
				body = inner
			}
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&list); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("%s: something behind", body)
	}
	return list
}

// filtered is what a team may see of a token.
func filtered(token map[string]any) map[string]any {
	out := map[string]any{}
	for name, value := range token {
		if slices.Contains([]string{"id", "name", "created_at", "expires_at", "allowed_ips", "allowed_scopes"}, name) {
			out[name] = value
		}
	}
	if name, ok := out["name"].(string); ok {
		out["name"] = cutStamp(name)
	}
	return out
}

// FuzzObject holds the same of a single token, and that it is the one asked
// for.
func FuzzObject(f *testing.F) {
	for _, s := range answers {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := tokens.Object(body, ours)
		if err != nil {
			return
		}
		token := holder(decode(t, got), true)
		if id, _ := token["id"].(string); !strings.EqualFold(id, ours) {
			t.Fatalf("%s", got)
		}
		if diff := cmp.Diff(filtered(holder(decode(t, body), false)), token); diff != "" {
			t.Fatal(diff)
		}
	})
}

// holder finds the object of an answer that has an id, or that stands alone in
// its wrapping.
func holder(outer map[string]any, alone bool) map[string]any {
	for _, wrapper := range []string{"data", "item", "token"} {
		inner, ok := outer[wrapper].(map[string]any)
		if _, is := inner["id"]; ok && outer["id"] == nil && (is || alone && len(outer) == 1) {
			return inner
		}
	}
	return outer
}

// FuzzEach holds that of each token that List keeps, Each shows the same, and
// that both take the same answers.
func FuzzEach(f *testing.F) {
	for _, s := range answers {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var seen []tokens.Seen
		err := tokens.Each(bytes.NewReader(body), func(s tokens.Seen) error {
			seen = append(seen, s)
			return nil
		})
		if _, listErr := tokens.List(bytes.NewReader(body), keepNone); (err == nil) != (listErr == nil) {
			t.Fatalf("%v, but List says %v", err, listErr)
		}
		if err != nil {
			return
		}
		list := listOf(t, body)
		if len(list) != len(seen) {
			t.Fatalf("%d tokens of %d", len(seen), len(list))
		}
		for i, token := range list {
			if seen[i].ID != strings.ToLower(token["id"].(string)) {
				t.Fatalf("the id %q of %v", seen[i].ID, token["id"])
			}
			holdSeen(t, seen[i], token)
		}
	})
}

// holdSeen holds what was seen against the token as the standard library
// decodes it.
func holdSeen(t *testing.T, seen tokens.Seen, token map[string]any) {
	t.Helper()
	want := tokens.Seen{ID: seen.ID}
	for _, field := range []string{"name", "expires_at", "allowed_ips", "allowed_scopes"} {
		value, there := token[field]
		text, isText := value.(string)
		texts, isTexts := stringsOf(value)
		shown := there && isNone(value)
		switch field {
		case "name":
			want.Name, shown = text, shown || isText
		case "expires_at":
			want.ExpiresAt, shown = text, shown || isText
		case "allowed_ips":
			want.AllowedIPs, shown = texts, shown || isTexts
		case "allowed_scopes":
			want.Scopes, shown = texts, shown || isTexts
		}
		if shown {
			want.Shown = append(want.Shown, field)
		}
	}
	slices.Sort(want.Shown)
	slices.Sort(seen.Shown)
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Fatal(diff)
	}
}

func stringsOf(v any) (list []string, ok bool) {
	elements, ok := v.([]any)
	for _, element := range elements {
		text, is := element.(string)
		if !is {
			return nil, false
		}
		list = append(list, text)
	}
	return list, ok
}

func isNone(v any) bool {
	object, isObject := v.(map[string]any)
	return v == nil || v == false || v == json.Number("0") || isObject && len(object) == 0
}

// FuzzProve holds that no token is called proven, or not shown, that is wider
// in any way than what was asked for.
func FuzzProve(f *testing.F) {
	m := &tokens.Mint{
		Name: "job", Sent: "job-sg-abcdefg2-hijklmn3-opqrstuvwxyzabcdefgh-ijklmnopqrstuvwx", ExpiresAt: "2026-12-01 00:00:00",
		AllowedIPs: []string{"203.0.113.10", "2001:db8::/48"}, Scopes: named(f, "system.read-all", "members.read"),
	}
	may := []string{"members.read", "system.read-all", "systems.read-all"}
	for _, s := range append(answers, strings.ReplaceAll(stamped, "10:00:00", "00:00:00"), `{"id":"`+ours+`","allowed_ips":[],"name":null,"allowed_scopes":["*"]}`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		seen, err := tokens.Read(body, ours)
		if err != nil {
			return
		}
		proof, token := m.Prove(seen), holder(decode(t, body), false)
		holdSeen(t, seen, token)
		for _, field := range []string{"name", "expires_at", "allowed_ips", "allowed_scopes"} {
			value, there := token[field]
			list, isList := stringsOf(value)
			_, isText := value.(string)
			var as bool // it is as it was asked for, or narrower
			switch field {
			case "name":
				as, isList = value == m.Sent, false
			case "expires_at":
				as, isList = value == m.ExpiresAt, false
			case "allowed_ips":
				as, isText = subset(list, m.AllowedIPs), false
			case "allowed_scopes":
				as, isText = subset(list, may), false
			}
			silent := !there || !isText && !isList && !isNone(value)
			if slices.Contains(proof.Silent, field) != silent || slices.Contains(proof.Wider, field) != (!silent && !as) {
				t.Fatalf("%s in %s: %+v", field, body, proof)
			}
		}
	})
}

func subset(part, whole []string) bool {
	return len(part) > 0 && !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

// FuzzMintedID holds that an id that is found is a UUID, stands in the answer
// and is the one that the standard library finds where it has to be.
func FuzzMintedID(f *testing.F) {
	for _, s := range answers {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		id, err := tokens.MintedID(body)
		if (err == nil) != scopes.IsUUID(id) {
			t.Fatalf("%q, %v", id, err)
		}
		if err != nil {
			return
		}
		outer := decode(t, body)
		holders := []map[string]any{outer}
		for _, wrapper := range []string{"data", "item", "token"} {
			if inner, ok := outer[wrapper].(map[string]any); ok {
				holders = append(holders, inner)
			}
		}
		for _, holder := range holders {
			if holder["created_id"] == id || holder["created_id"] == nil && holder["id"] == id {
				return
			}
		}
		t.Fatalf("%s in none of %v", id, holders)
	})
}

func decode(t *testing.T, body []byte) (m map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return m
}
