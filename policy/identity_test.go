package policy_test

import (
	"testing"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// Mintable is the one place that bounds what works at GoodAccess without the
// gateway, so it must hold whatever grant it is handed.
func TestMintable(t *testing.T) {
	expand := func(patterns ...string) (s scopes.Set) {
		for _, p := range patterns {
			e, err := scopes.Expand(p)
			if err != nil {
				t.Fatal(err)
			}
			s = s.Union(e.Set)
		}
		return s
	}
	tests := []struct {
		name string
		mint *policy.MintGrant
		own  scopes.Set
		want scopes.Set
	}{
		{"no grant", nil, scopes.All(), scopes.Set{}},
		{"empty grant", &policy.MintGrant{}, scopes.All(), scopes.Set{}},
		{"within the caller's own", &policy.MintGrant{Scopes: expand("members.read")}, expand("members.*"), expand("members.read")},
		// A credential that was narrowed must not mint itself back.
		{"beyond the caller's own", &policy.MintGrant{Scopes: expand("members.*")}, expand("members.read", "groups.read"), expand("members.read")},
		{"nothing in common", &policy.MintGrant{Scopes: expand("members.*")}, expand("groups.*"), scopes.Set{}},
		// A token that may make tokens may equal the master.
		{"token scopes", &policy.MintGrant{Scopes: expand("token.*", "members.read")}, scopes.All(), expand("members.read")},
		{"everything", &policy.MintGrant{Scopes: scopes.All()}, scopes.All(), scopes.All().Minus(expand("token.*"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := &policy.Identity{Team: &policy.Team{Mint: tt.mint, Scopes: scopes.All()}, Scopes: tt.own}
			if got := id.Mintable(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
