package credential_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

func TestDirectoryCutsRowsDownToTheirTeam(t *testing.T) {
	networks := func(list ...string) (out []netip.Prefix) {
		for _, text := range list {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	tests := []struct {
		name   string
		alter  func(*store.Credential)
		want   policy.Reason
		scopes scopes.Set
		ips    []netip.Prefix
	}{
		{"follows its team", func(*store.Credential) {}, policy.Allowed, billing.Scopes, nil},
		{"narrowed", func(c *store.Credential) { c.Scopes = []string{"members.read"} }, policy.Allowed, expand("members.read"), nil},
		{"narrowed to what the team lost since", func(c *store.Credential) { c.Scopes = []string{"members.read", "devices.read"} }, policy.Allowed, expand("members.read"), nil},
		{"narrowed to nothing", func(c *store.Credential) { c.Scopes = []string{} }, policy.Allowed, scopes.Set{}, nil},
		{"narrowed to what is unknown", func(c *store.Credential) { c.Scopes = []string{"members.fly"} }, policy.Allowed, scopes.Set{}, nil},
		{"networks", func(c *store.Credential) { c.AllowedIPs = []string{"192.0.2.0/24", "2001:db8::/32"} }, policy.Allowed, billing.Scopes, networks("192.0.2.0/24", "2001:db8::/32")},
		// An empty list of networks must not become a list of none, which
		// policy takes for anywhere.
		{"no network", func(c *store.Credential) { c.AllowedIPs = []string{} }, policy.Allowed, billing.Scopes, []netip.Prefix{{}}},
		{"a network that cannot be read", func(c *store.Credential) { c.AllowedIPs = []string{"everywhere"} }, policy.Allowed, billing.Scopes, []netip.Prefix{{}}},
		{"team gone", func(c *store.Credential) { c.Team = "gone" }, policy.TeamGone, scopes.Set{}, nil},
		{"team gone and revoked", func(c *store.Credential) { c.Team, c.State = "gone", "revoked" }, policy.CredentialRevoked, scopes.Set{}, nil},
		{"suspended", func(c *store.Credential) { c.State = "suspended" }, policy.CredentialSuspended, billing.Scopes, nil},
		{"revoked", func(c *store.Credential) { c.State = "revoked" }, policy.CredentialRevoked, billing.Scopes, nil},
		{"a state of a later version", func(c *store.Credential) { c.State = "resting" }, policy.CredentialRevoked, billing.Scopes, nil},
		{"not yet", func(c *store.Credential) { c.NotBefore = now.Add(time.Microsecond) }, policy.CredentialNotYetValid, billing.Scopes, nil},
		{"expired", func(c *store.Credential) { c.Expires = now }, policy.CredentialExpired, billing.Scopes, nil},
		{"in time", func(c *store.Credential) { c.NotBefore, c.Expires = now, now.Add(time.Microsecond) }, policy.Allowed, billing.Scopes, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := credential.Generate()
			row := stored(k)
			tt.alter(&row)
			d, _, _ := directory(t, newMemory(row))
			a := credential.NewAuthenticator(d)
			for _, from := range []string{"store", "memory"} {
				c, reason := ask(a, key(k), "")
				if reason != tt.want || !c.Proven() {
					t.Fatalf("from %s: %s, want %s; proven %v", from, reason, tt.want, c.Proven())
				}
				id := c.Identity
				if id.Credential != k.ID() || id.Team.Name != row.Team || id.Scopes != tt.scopes || !id.Expires.Equal(row.Expires) || c.Generation != 1 || c.Revision == 0 {
					t.Errorf("from %s: %+v", from, c)
				}
				if len(id.AllowedIPs) != len(tt.ips) || len(tt.ips) > 0 && id.AllowedIPs[0] != tt.ips[0] {
					t.Errorf("from %s: networks %v, want %v", from, id.AllowedIPs, tt.ips)
				}
				if c.TeamGone != (row.Team == "gone") {
					t.Errorf("from %s: team gone: %v", from, c.TeamGone)
				}
			}
			if got := d.Name(k.ID()); got != "ci" {
				t.Errorf("name %q", got)
			}
		})
	}
}

// Whatever a row looks like, a policy that has no such scope grants none, and
// a policy that changes is followed without the store being asked.
func TestDirectoryFollowsThePolicy(t *testing.T) {
	k := credential.Generate()
	m := newMemory(stored(k))
	d, cache, _ := directory(t, m)
	if _, reason := ask(credential.NewAuthenticator(d), key(k), ""); reason != policy.Allowed {
		t.Fatal(reason)
	}
	static, _ := credential.NewStatic(nil)
	less := map[string]*policy.Team{"billing": {Name: "billing", Scopes: expand("members.read")}}
	c, reason := ask(credential.NewAuthenticator(credential.NewDirectory(cache, static, less)), key(k), "")
	if reason != policy.Allowed || c.Identity.Scopes != expand("members.read") {
		t.Errorf("a narrower team: %s, %s", reason, c.Identity.Scopes)
	}
	if _, reason := ask(credential.NewAuthenticator(credential.NewDirectory(cache, static, nil)), key(k), ""); reason != policy.TeamGone {
		t.Errorf("no team: %s", reason)
	}
	if m.asked != 1 {
		t.Errorf("the store was asked %d times", m.asked)
	}
}

func TestDirectoryPutsTheStoreBeforeTheConfiguration(t *testing.T) {
	k, other := credential.Generate(), credential.Generate()
	states := []credential.State{credential.Active, credential.Suspended, credential.Revoked, 0, 200}
	reasons := map[credential.State]policy.Reason{credential.Active: policy.Allowed, credential.Suspended: policy.CredentialSuspended}
	for _, line := range states {
		for _, row := range []string{"", "active", "suspended", "revoked", "later"} {
			m := newMemory()
			if row != "" {
				m.put(store.Credential{ID: k.ID(), Team: "billing", Name: "ci", State: row, Static: true})
			}
			c := holder("billing", "ci", k)
			c.Identity.Team, c.State = billing, line
			d, _, _ := directory(t, m, c)
			got, reason := ask(credential.NewAuthenticator(d), key(k), "")
			if !got.Proven() || got.Identity.Name != "ci" || got.Generation != 0 {
				t.Errorf("line %s, row %q: %+v", line, row, got)
			}
			denied := line != credential.Active || row != "" && row != "active"
			if denied != (reason != policy.Allowed) {
				t.Errorf("line %s, row %q: %s", line, row, reason)
			}
			if want, ok := reasons[line]; ok && row == "" && reason != want {
				t.Errorf("line %s alone: %s, want %s", line, reason, want)
			}
			if row == "revoked" && line <= credential.Revoked && reason != policy.CredentialRevoked {
				t.Errorf("line %s, row revoked: %s", line, reason)
			}
			if d.Name(k.ID()) != "ci" || d.Name(other.ID()) != "" {
				t.Error("names")
			}
		}
	}
}

// A whole row with the id of a line decides alone: the line is not asked, or
// revoking the row would leave the line's key.
func TestDirectoryLetsARowHideALine(t *testing.T) {
	keys := successors(t, 2)
	line := holder("billing", "line", keys[0])
	line.Identity.Team = billing
	row := stored(keys[1])
	for state, want := range map[string]policy.Reason{"active": policy.Allowed, "revoked": policy.CredentialRevoked} {
		row.State = state
		d, _, _ := directory(t, newMemory(row), line)
		a := credential.NewAuthenticator(d)
		if _, reason := ask(a, key(keys[0]), ""); reason != policy.UnknownCredential {
			t.Errorf("the line's key: %s", reason)
		}
		if _, reason := ask(a, key(keys[1]), ""); reason != want {
			t.Errorf("the row's key: %s, want %s", reason, want)
		}
	}
	// A row that only takes from a line is nothing without it.
	d, _, _ := directory(t, newMemory(store.Credential{ID: keys[0].ID(), Team: "billing", State: "active", Static: true}))
	if c, reason := ask(credential.NewAuthenticator(d), key(keys[0]), ""); reason != policy.UnknownCredential {
		t.Errorf("no line: %+v, %s", c, reason)
	}
}

// Nobody knows whether a line of the configuration was revoked while the store
// cannot be asked, so its key does not work then, either.
func TestDirectoryFailsClosed(t *testing.T) {
	k, fixed, known := credential.Generate(), credential.Generate(), credential.Generate()
	line := holder("billing", "line", fixed)
	line.Identity.Team = billing
	m := newMemory(stored(k), stored(known))
	d, cache, n := directory(t, m, line)
	a := credential.NewAuthenticator(d)
	if _, reason := ask(a, key(known), ""); reason != policy.Allowed {
		t.Fatal(reason)
	}
	m.fail(errors.New("no route to host"))
	for _, k := range []credential.Key{k, fixed, credential.Generate()} {
		if c, reason := ask(a, key(k), ""); reason != policy.StoreUnavailable || c.Proven() {
			t.Errorf("%s: %v", reason, c.Proven())
		}
	}
	// For how long what is known goes on is for others to say.
	if _, reason := ask(a, key(known), ""); reason != policy.Allowed {
		t.Errorf("a known one: %s", reason)
	}
	cache.Forget(known.ID())
	if _, reason := ask(a, key(known), ""); reason != policy.StoreUnavailable {
		t.Errorf("a known one that changed: %s", reason)
	}
	if d.Name(fixed.ID()) != "line" || d.Name(known.ID()) != "" {
		t.Error("names")
	}
	n.is(t, 1, 0, 5)

	m.fail(nil) // a failure is not remembered
	for _, k := range []credential.Key{k, fixed, known} {
		if _, reason := ask(a, key(k), ""); reason != policy.Allowed {
			t.Errorf("afterwards: %s", reason)
		}
	}
}

// folding finds a row whatever the case of the id, as some databases do.
type folding struct{ row store.Credential }

func (f folding) Credential(_ context.Context, id string) (store.Credential, error) {
	if strings.EqualFold(id, f.row.ID) {
		return f.row, nil
	}
	return store.Credential{}, store.ErrNotFound
}

// The secret decides, not what the store found: a row without a key, or with
// another one, lets nobody in.
func TestDirectoryTrustsNoStore(t *testing.T) {
	k := parse(t, goodKey)
	folded := stored(k)
	folded.ID = strings.ToLower(folded.ID)
	none, zero := stored(), stored()
	none.ID, zero.ID = k.ID(), k.ID()
	zero.Generations = make([]store.Generation, 12)
	other := stored(credential.Generate())
	other.ID = k.ID()
	for name, row := range map[string]store.Credential{"another id": folded, "no key": none, "zero hashes": zero, "another key": other} {
		t.Run(name, func(t *testing.T) {
			d, _, _ := directory(t, folding{row})
			if c, reason := ask(credential.NewAuthenticator(d), key(k), ""); reason != policy.UnknownCredential || c.Proven() {
				t.Errorf("%+v, %s", c, reason)
			}
		})
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	keys := successors(t, credential.KeyRoom)
	narrow := stored(keys...)
	narrow.Scopes, narrow.Name, narrow.Team = []string{"members.read"}, strings.Repeat("n", 64), "billing"
	narrow.Expires, narrow.NotBefore = now.Add(time.Hour), now.Add(-time.Hour)
	for i := range narrow.Generations[1:] {
		narrow.Generations[i+1].Ends = now.Add(time.Minute)
	}
	fixed := credential.Generate()
	line := holder("billing", "line", fixed)
	d, _, _ := directory(t, newMemory(narrow), line)
	a := credential.NewAuthenticator(d)
	forged, err := credential.GenerateWithID(keys[0].ID())
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]credential.Key{
		"stored": keys[len(keys)-1], "retired": keys[0], "wrong secret": forged, "unknown": credential.Generate(), "configured": fixed,
	} {
		var c credential.Credential
		h := with("Bearer " + k.Reveal())
		a.Authenticate(h, "", now, &c)
		if n := testing.AllocsPerRun(100, func() { a.Authenticate(h, "", now, &c) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Time tells nobody that an id exists: what is done for an unknown one that is
// in memory is what is done for a known one.
func BenchmarkFind(b *testing.B) {
	k := credential.Generate()
	narrow := stored(credential.Generate())
	narrow.Scopes, narrow.Expires = []string{"members.read", "members.read-all"}, now.Add(time.Hour)
	rotated := stored(successors(b, 20)...)
	d, _, _ := directory(b, newMemory(stored(k), narrow, rotated))
	for _, bb := range []struct{ name, id string }{
		{"stored", k.ID()}, {"narrowed", narrow.ID}, {"20 keys", rotated.ID}, {"unknown", credential.Generate().ID()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var c credential.Credential
			if _, err := d.Find(bb.id, &c); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = d.Find(bb.id, &c)
			}
		})
	}
}
