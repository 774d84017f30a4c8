package scopes_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
)

func scope(t testing.TB, name string) scopes.Scope {
	t.Helper()
	s, err := scopes.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func set(t testing.TB, names ...string) (s scopes.Set) {
	t.Helper()
	for _, n := range names {
		s = s.Union(scopes.Of(scope(t, n)))
	}
	return s
}

func TestParseReadsEveryName(t *testing.T) {
	for _, s := range scopes.All().Scopes() {
		if back, err := scopes.Parse(s.String()); err != nil || back != s {
			t.Errorf("%s reads back as %s, %v", s, back, err)
		}
	}
}

// The vendor spells one scope in two ways; upstream gets the enum's.
func TestParseMakesTheAliasCanonical(t *testing.T) {
	if got := scope(t, "systems.read-all").String(); got != "system.read-all" {
		t.Errorf("systems.read-all became %s", got)
	}
}

func TestParseRejects(t *testing.T) {
	tests := []struct{ name, near string }{
		{"member.read", "members.read"},
		{"members.reed", "members.read"},
		{"token.craete", "token.create"},
		{"gateways.read-all", "gateway.read-all"},
		{"Members.read", "members.read"},
		{" members.read", "members.read"},
		{"members.read\n", "members.read"},
		{"members.read ", "members.read"},
		{"", ""},
		{"quite-another-thing.entirely", ""},
		{"members", ""},
		{"*", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := scopes.Parse(tt.name)
			if !errors.Is(err, scopes.ErrUnknown) {
				t.Fatalf("%s, error %v", s, err)
			}
			if tt.near != "" && !strings.Contains(err.Error(), `did you mean "`+tt.near+`"`) {
				t.Errorf("error %q does not offer %s", err, tt.near)
			}
		})
	}
}

func TestScopeOutsideTheCatalogue(t *testing.T) {
	if got := scopes.Scope(52).String(); got != "scope(52)" {
		t.Errorf("prints %q", got)
	}
	for _, s := range []scopes.Scope{52, 63, 64, 255} {
		if scopes.All().Has(s) {
			t.Errorf("All has %s", s)
		}
	}
}

// Sets are bit patterns; here they are held against maps.
func TestSetAgainstAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := scopes.All().Scopes()
	random := func() (scopes.Set, map[scopes.Scope]bool) {
		var s scopes.Set
		m := map[scopes.Scope]bool{}
		for n := r.IntN(len(all) + 1); n > 0; n-- {
			one := all[r.IntN(len(all))]
			s, m[one] = s.Union(scopes.Of(one)), true
		}
		return s, m
	}
	for range 2000 {
		a, inA := random()
		b, inB := random()
		subset := true
		for _, s := range all {
			if a.Has(s) != inA[s] || b.Has(s) != inB[s] {
				t.Fatalf("Has(%s)", s)
			}
			if a.Union(b).Has(s) != (inA[s] || inB[s]) || a.Intersect(b).Has(s) != (inA[s] && inB[s]) ||
				a.Minus(b).Has(s) != (inA[s] && !inB[s]) {
				t.Fatalf("%s in %q and %q", s, a, b)
			}
			subset = subset && (inA[s] || !inB[s])
		}
		if a.Contains(b) != subset || a.Len() != len(inA) || a.Empty() != (len(inA) == 0) {
			t.Fatalf("%q against %q", a, b)
		}
		if back := scopes.Of(a.Scopes()...); back != a {
			t.Fatalf("%q came back as %q", a, back)
		}
	}
}

func TestSetPrintsAsOAuthDoes(t *testing.T) {
	s := set(t, "members.read", "token.create")
	if got := s.String(); got != "token.create members.read" {
		t.Errorf("prints %q", got)
	}
	if diff := cmp.Diff([]string{"token.create", "members.read"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	if got := (scopes.Set{}).String(); got != "" {
		t.Errorf("the empty set prints %q", got)
	}
}

func TestTokenScopes(t *testing.T) {
	want := set(t, "token.create", "token.read", "token.read-all", "token.delete")
	if scopes.TokenScopes() != want {
		t.Errorf("%s", scopes.TokenScopes())
	}
}
