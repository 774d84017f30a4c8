package policy_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

var (
	lists = map[string][]netip.Prefix{
		"anywhere": nil,
		"IPv4":     {netip.MustParsePrefix("10.0.0.0/8")},
		"IPv6":     {netip.MustParsePrefix("2001:db8::/32")},
		"both":     {netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48")},
		"everyone": {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	}
	// Which lists an address is in, by hand.
	addresses = []struct {
		addr netip.Addr
		in   []string
	}{
		{netip.MustParseAddr("10.0.0.1"), []string{"anywhere", "IPv4", "everyone"}},
		{netip.MustParseAddr("10.1.0.1"), []string{"anywhere", "IPv4", "both", "everyone"}},
		{netip.MustParseAddr("11.0.0.1"), []string{"anywhere", "everyone"}},
		{netip.MustParseAddr("2001:db8::1"), []string{"anywhere", "IPv6", "everyone"}},
		{netip.MustParseAddr("2001:db8:1::1"), []string{"anywhere", "IPv6", "both", "everyone"}},
		// An address that nobody made plain before, and one that nobody
		// could read, are in no list.
		{netip.MustParseAddr("::ffff:10.1.0.1"), []string{"anywhere", "everyone"}},
		{netip.MustParseAddr("2001:db8::1%eth0"), []string{"anywhere"}},
		{netip.Addr{}, []string{"anywhere"}},
	}
	outcomes = []scopes.Outcome{
		scopes.Unknown, scopes.NotCanonical, scopes.Off, scopes.WrongMethod, scopes.InvalidID, scopes.Matched, 99,
	}
	limits = []policy.Reason{policy.Allowed, policy.RateLimited, policy.TooManyInFlight}
)

// operations are all that a match can name: the catalogue, one of the
// gateway's own, one of an operator's, none.
func operations(t testing.TB) []*scopes.Operation {
	t.Helper()
	added, err := scopes.NewOperation("GET", "/api/v1/new/{id}", "devices.read")
	if err != nil {
		t.Fatal(err)
	}
	return append(scopes.Operations(), added, scopes.Local("whoami", "GET", "/_scopegate/v1/whoami"), nil)
}

// TestDecideAllowsOnly checks every kind of question there is. The conditions
// stand side by side here and not in an order: each alone must refuse.
func TestDecideAllowsOnly(t *testing.T) {
	for _, op := range operations(t) {
		var needed scopes.Set
		if op != nil {
			if s, ok := op.Scope(); ok {
				needed = scopes.Of(s)
			}
		}
		for _, held := range []scopes.Set{{}, needed, scopes.All().Minus(needed), scopes.All()} {
			for teamList, teamIPs := range lists {
				for ownList, ownIPs := range lists {
					id := &policy.Identity{Team: &policy.Team{AllowedIPs: teamIPs, Scopes: scopes.All()}, AllowedIPs: ownIPs, Scopes: held}
					for _, from := range addresses {
						for _, outcome := range outcomes {
							for _, limit := range limits {
								m := scopes.Match{Outcome: outcome, Operation: op}
								d := policy.Decide(id, m, policy.Facts{Client: from.addr, Limit: limit})

								want := op != nil && outcome == scopes.Matched && held.Contains(needed) &&
									slices.Contains(from.in, teamList) && slices.Contains(from.in, ownList) && limit == policy.Allowed
								if d.Allow() != want || (d.Reason == policy.Allowed) != want {
									t.Fatalf("%+v of a caller with %q, team from %s, itself from %s, at %s, limits %s: %s",
										m, held, teamList, ownList, from.addr, limit, d.Reason)
								}
								if d.Operation != op {
									t.Fatal("the decision is about another operation")
								}
							}
						}
					}
				}
			}
		}
	}
}

// Every pair of a scope held and an operation asked for: only the one that
// the operation names will do, and no other is needed.
func TestDecideAsksForOneScopeEach(t *testing.T) {
	for _, op := range operations(t) {
		if op == nil {
			continue
		}
		needed, asks := op.Scope()
		for _, s := range scopes.All().Scopes() {
			for _, held := range []scopes.Set{scopes.Of(s), scopes.All().Minus(scopes.Of(s))} {
				id := &policy.Identity{Team: &policy.Team{}, Scopes: held}
				d := policy.Decide(id, scopes.Match{Outcome: scopes.Matched, Operation: op}, policy.Facts{Limit: policy.Allowed})
				if want := !asks || held.Has(needed); d.Allow() != want {
					t.Errorf("%s with %q: %s", op.ID, held, d.Reason)
				}
			}
		}
	}
}

// The order of the questions is the order of the refusals that callers see.
// Each case is wrong in all that is asked later, too.
func TestDecideNamesTheFirstReason(t *testing.T) {
	op := scopes.Operations()[1]
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	here, elsewhere := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")
	tests := []struct {
		name    string
		from    netip.Addr
		outcome scopes.Outcome
		op      *scopes.Operation
		held    scopes.Set
		limit   policy.Reason
		want    policy.Reason
	}{
		{"address", elsewhere, scopes.NotCanonical, nil, scopes.Set{}, policy.RateLimited, policy.ClientAddress},
		{"unusable address", netip.Addr{}, scopes.Matched, op, scopes.All(), policy.Allowed, policy.ClientAddress},
		{"spelling of the path", here, scopes.NotCanonical, nil, scopes.Set{}, policy.RateLimited, policy.PathNotCanonical},
		{"path", here, scopes.Unknown, nil, scopes.Set{}, policy.RateLimited, policy.UnknownPath},
		{"path, all scopes", here, scopes.Unknown, nil, scopes.All(), policy.Allowed, policy.UnknownPath},
		{"outcome of a later version", here, 99, op, scopes.All(), policy.Allowed, policy.UnknownPath},
		{"match without an operation", here, scopes.Matched, nil, scopes.All(), policy.Allowed, policy.UnknownPath},
		{"bad id without an operation", here, scopes.InvalidID, nil, scopes.All(), policy.Allowed, policy.UnknownPath},
		{"off", here, scopes.Off, op, scopes.Set{}, policy.RateLimited, policy.OperationOff},
		{"off, scope held", here, scopes.Off, op, scopes.All(), policy.Allowed, policy.OperationOff},
		{"method", here, scopes.WrongMethod, nil, scopes.Set{}, policy.RateLimited, policy.MethodNotAllowed},
		{"scope", here, scopes.Matched, op, scopes.Set{}, policy.RateLimited, policy.InsufficientScope},
		// Who may not ask at all learns nothing of ids.
		{"scope and id", here, scopes.InvalidID, op, scopes.Set{}, policy.RateLimited, policy.InsufficientScope},
		{"id", here, scopes.InvalidID, op, scopes.All(), policy.RateLimited, policy.InvalidID},
		{"rate", here, scopes.Matched, op, scopes.All(), policy.RateLimited, policy.RateLimited},
		{"in flight", here, scopes.Matched, op, scopes.All(), policy.TooManyInFlight, policy.TooManyInFlight},
		{"nothing", here, scopes.Matched, op, scopes.All(), policy.Allowed, policy.Allowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := &policy.Identity{Team: &policy.Team{AllowedIPs: inside}, Scopes: tt.held}
			d := policy.Decide(id, scopes.Match{Outcome: tt.outcome, Operation: tt.op}, policy.Facts{Client: tt.from, Limit: tt.limit})
			if d.Reason != tt.want {
				t.Errorf("%s, want %s", d.Reason, tt.want)
			}
		})
	}
}

// The team's scopes are not the caller's: a credential that was narrowed must
// not get back what its team has.
func TestDecideAsksTheCallerNotTheTeam(t *testing.T) {
	op := scopes.Operations()[1]
	id := &policy.Identity{Team: &policy.Team{Scopes: scopes.All()}}
	if d := policy.Decide(id, scopes.Match{Outcome: scopes.Matched, Operation: op}, policy.Facts{Limit: policy.Allowed}); d.Allow() {
		t.Error("a caller without scopes got its team's")
	}
}

// With less to hold, to come from or to spare, nothing becomes allowed.
func TestDecideIsMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ops, all := operations(t), scopes.All().Scopes()
	var names []string
	for name := range lists {
		names = append(names, name)
	}
	random := func() scopes.Set {
		var held scopes.Set
		for _, s := range all {
			if r.IntN(2) == 0 {
				held = held.Union(scopes.Of(s))
			}
		}
		return held
	}
	for range 20_000 {
		held := random()
		m := scopes.Match{Outcome: outcomes[r.IntN(len(outcomes))], Operation: ops[r.IntN(len(ops))]}
		if r.IntN(2) == 0 {
			m.Outcome = scopes.Matched
		}
		f := policy.Facts{Client: addresses[r.IntN(len(addresses))].addr, Limit: limits[r.IntN(len(limits))]}
		id := policy.Identity{
			Team:   &policy.Team{AllowedIPs: lists[names[r.IntN(len(names))]], Mint: &policy.MintGrant{Scopes: random()}},
			Scopes: held, AllowedIPs: lists[names[r.IntN(len(names))]],
		}
		before, mintable := policy.Decide(&id, m, f).Allow(), id.Mintable()
		for _, s := range held.Scopes() {
			less := id
			less.Scopes = held.Minus(scopes.Of(s))
			if policy.Decide(&less, m, f).Allow() && !before {
				t.Fatalf("%+v is allowed without %s and not with it", m, s)
			}
			if !mintable.Contains(less.Mintable()) {
				t.Fatalf("without %s more can be minted", s)
			}
		}
		if narrow := id; len(id.AllowedIPs) > 1 {
			narrow.AllowedIPs = id.AllowedIPs[:1]
			if policy.Decide(&narrow, m, f).Allow() && !before {
				t.Fatalf("%s is let in from fewer networks", f.Client)
			}
		}
	}
}

// members.update does not say that it can take an administrator's account.
func TestDecideBodyKeepsPasswords(t *testing.T) {
	for _, tt := range []struct {
		allowed, sets bool
		want          policy.Reason
	}{
		{false, false, policy.Allowed},
		{false, true, policy.MemberPassword},
		{true, false, policy.Allowed},
		{true, true, policy.Allowed},
	} {
		id := &policy.Identity{Team: &policy.Team{MemberPasswords: tt.allowed}, Scopes: scopes.All()}
		if got := policy.DecideBody(id, tt.sets); got != tt.want {
			t.Errorf("member_passwords %v, a password %v: %s", tt.allowed, tt.sets, got)
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	id, m, f := question()
	if n := testing.AllocsPerRun(100, func() { policy.Decide(id, m, f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	id, m, f := question()
	b.ReportAllocs()
	for b.Loop() {
		policy.Decide(id, m, f)
	}
}

func question() (*policy.Identity, scopes.Match, policy.Facts) {
	id := &policy.Identity{Team: &policy.Team{AllowedIPs: lists["both"]}, Scopes: scopes.All(), AllowedIPs: lists["both"]}
	m := scopes.Match{Outcome: scopes.Matched, Operation: scopes.Operations()[1]}
	return id, m, policy.Facts{Client: netip.MustParseAddr("2001:db8:1::1")}
}
