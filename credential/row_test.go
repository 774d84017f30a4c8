package credential_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

var whole = cmp.Options{
	cmpopts.EquateComparable(netip.Prefix{}, scopes.Set{}), cmpopts.IgnoreUnexported(credential.Credential{}),
}

// expected is what a row means, written a second time from the row itself.
func expected(row *store.Credential) credential.Credential {
	c := credential.Credential{NotBefore: row.NotBefore, Expires: row.Expires, Revision: row.Revision}
	c.State = map[string]credential.State{"active": credential.Active, "suspended": credential.Suspended}[row.State]
	if c.State == 0 {
		c.State = credential.Revoked
	}
	team := teams[row.Team]
	if team == nil {
		team, c.TeamGone = &policy.Team{Name: row.Team}, true
	}
	c.Identity = policy.Identity{Team: team, Credential: row.ID, Scopes: team.Scopes, Expires: row.Expires}
	if row.Scopes != nil {
		c.Identity.Scopes = scopes.Set{}
		for _, name := range row.Scopes {
			if s, err := scopes.Parse(name); err == nil && team.Scopes.Has(s) {
				c.Identity.Scopes = c.Identity.Scopes.Union(scopes.Of(s))
			}
		}
	}
	for _, text := range row.AllowedIPs {
		if p, err := netip.ParsePrefix(text); err == nil {
			c.Identity.AllowedIPs = append(c.Identity.AllowedIPs, p)
		}
	}
	if row.AllowedIPs != nil && c.Identity.AllowedIPs == nil {
		c.Identity.AllowedIPs = []netip.Prefix{{}}
	}
	return c
}

// random makes a row of what there is and what there should not be.
func random(r *rand.Rand) store.Credential {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	when := func() time.Time {
		if r.IntN(2) == 0 {
			return time.Time{}
		}
		return now.Add(time.Duration(r.IntN(7)-3) * time.Hour)
	}
	some := func(list ...string) []string {
		if r.IntN(3) == 0 {
			return nil
		}
		out := []string{}
		for range r.IntN(4) {
			out = append(out, list[r.IntN(len(list))])
		}
		return out
	}
	row := store.Credential{
		ID:         credential.Generate().ID(),
		Team:       one("billing", "billing", "gone", "", strings.Repeat("x", 300)),
		Name:       one("ci", "", "héllo", strings.Repeat("n", 200)),
		State:      one("active", "active", "suspended", "revoked", "", "Active", "paused"),
		Static:     r.IntN(5) == 0,
		Scopes:     some("members.read", "members.delete", "token.create", "no.such", "admin-logs.read", ""),
		AllowedIPs: some("192.0.2.0/24", "2001:db8::/32", "192.0.2.1", "0.0.0.0/0", "::ffff:192.0.2.0/120", "x", "192.0.2.9/24"),
		NotBefore:  when(), Expires: when(), Changed: now.Add(-time.Minute),
		Revision: r.Int64N(1 << r.IntN(62)),
	}
	for n := range r.IntN(12) {
		g := store.Generation{Number: n + 1, Ends: when(), EndsOnUse: r.IntN(2) == 0}
		for i := range g.Hash {
			g.Hash[i] = byte(r.Uint32())
		}
		row.Generations = append([]store.Generation{g}, row.Generations...)
	}
	return row
}

func TestRowMeansTheSameWhenRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		row := random(r)
		var got credential.Credential
		name, ok := credential.Decode(credential.Encode(&row), row.ID, teams, &got)
		if !ok || name != row.Name {
			t.Fatalf("%+v reads as %q, %v", row, name, ok)
		}
		if diff := cmp.Diff(expected(&row), got, whole); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", row, diff)
		}
	}
}

func TestRowsAreSmall(t *testing.T) {
	row := stored(credential.Generate())
	row.Name, row.Expires = "deploy-eu-west-1", now.Add(time.Hour)
	if n := len(credential.Encode(&row)); n > 100 {
		t.Errorf("%d bytes", n)
	}
}

// A row can be damaged in memory, or be of another form. It is then no row:
// whatever is read from it gives no right that its team lacks.
func FuzzRow(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		row := random(r)
		b := credential.Encode(&row)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{1, 0x61, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := *holder("left", "over", credential.Generate())
		_, ok := credential.Decode(b, "0123456789AB", teams, &c)
		if !ok {
			return
		}
		id := &c.Identity
		if id.Team == nil || id.Credential != "0123456789AB" || len(c.Verifiers) > 0 {
			t.Fatalf("%x: %+v", b, c)
		}
		if !billing.Scopes.Contains(id.Scopes) || c.TeamGone && !id.Scopes.Empty() {
			t.Fatalf("%x grants %s", b, id.Scopes)
		}
		c.Standing(now)
		if _, ok := credential.Decode(append(slices.Clone(b), 0), "", teams, &c); ok {
			t.Fatalf("%x may have anything behind it", b)
		}
		if _, ok := credential.Decode(b[:len(b)-1], "", teams, &c); ok {
			t.Fatalf("%x may be cut", b)
		}
	})
}

// Whatever bytes fill a row's fields, it reads back as it was.
func FuzzEncode(f *testing.F) {
	f.Add("billing", "ci", "active", "members.read members.delete", "192.0.2.0/24", int64(7), int64(0), int64(1_800_000_000_000_000), uint8(3), uint64(9))
	f.Add("", "", "", "", "", int64(-1), int64(-1), int64(1<<62), uint8(255), uint64(0))
	f.Fuzz(func(t *testing.T, team, name, state, scopeList, networks string, revision, notBefore, expires int64, generations uint8, seed uint64) {
		row := store.Credential{ID: "0123456789AB", Team: team, Name: name, State: state, Revision: revision}
		if len(team)+len(name) > 10_000 {
			return
		}
		if scopeList != "" {
			row.Scopes = strings.Split(scopeList, " ")
		}
		if networks != "" {
			row.AllowedIPs = strings.Split(networks, " ")
		}
		const span = 200_000_000_000_000_000 // some 6,000 years in microseconds
		if notBefore != 0 {
			row.NotBefore = time.UnixMicro(notBefore % span).UTC()
		}
		if expires != 0 {
			row.Expires = time.UnixMicro(expires % span).UTC()
		}
		for n := range generations {
			row.Generations = append(row.Generations, store.Generation{Number: int(n), Ends: time.UnixMicro(int64(seed) % span)})
		}
		var got credential.Credential
		gotName, ok := credential.Decode(credential.Encode(&row), row.ID, teams, &got)
		if !ok || gotName != name {
			t.Fatalf("%+v reads as %q, %v", row, gotName, ok)
		}
		if diff := cmp.Diff(expected(&row), got, whole); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", row, diff)
		}
	})
}
