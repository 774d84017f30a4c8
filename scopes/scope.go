package scopes

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Scope is one documented scope. Its number is its place in the embedded
// catalogue: it is never stored or sent, only the name is.
type Scope uint8

// ErrUnknown is wrapped by every error about a name or a glob that stands for
// no documented scope.
var ErrUnknown = errors.New("unknown scope")

// String returns the spelling that the vendor's enum uses, which is the one
// sent upstream.
func (s Scope) String() string {
	if int(s) >= len(catalogue.scopes) {
		return fmt.Sprintf("scope(%d)", uint8(s))
	}
	return catalogue.scopes[s].Name
}

// Parse finds a scope by its exact name or by an alias of it. Nothing is
// folded or trimmed: `Token.read` is unknown.
func Parse(name string) (Scope, error) {
	if s, ok := catalogue.byName[name]; ok {
		return s, nil
	}
	if near := Nearest(name, catalogue.names); near != "" {
		return 0, fmt.Errorf("%w %q; did you mean %q?", ErrUnknown, name, near)
	}
	return 0, fmt.Errorf("%w %q", ErrUnknown, name)
}

// Nearest returns the word that a misspelt name most likely stands for, or
// "" where none is near.
func Nearest(name string, words []string) string {
	best, bestAt := "", len(name)/3+2
	for _, w := range words {
		if d := levenshtein.ComputeDistance(name, w); d < bestAt {
			best, bestAt = w, d
		}
	}
	return best
}

// Set is a set of scopes. The zero value is empty. The catalogue has 52, so
// one word holds them all and a subset test is one comparison.
type Set struct{ bits uint64 }

// Of returns the set of the given scopes.
func Of(list ...Scope) Set {
	var s Set
	for _, one := range list {
		s.bits |= 1 << one
	}
	return s
}

// All returns every documented scope.
func All() Set { return Set{1<<len(catalogue.scopes) - 1} }

// TokenScopes returns the scopes of the token API itself, which no minted
// token ever carries.
func TokenScopes() Set { return catalogue.tokenScopes }

// Has reports whether the scope is in the set.
func (s Set) Has(one Scope) bool { return s.bits&(1<<one) != 0 }

// Contains reports whether every scope of sub is in the set.
func (s Set) Contains(sub Set) bool { return sub.bits&^s.bits == 0 }

// Intersect returns what is in both sets.
func (s Set) Intersect(t Set) Set { return Set{s.bits & t.bits} }

// Union returns what is in either set.
func (s Set) Union(t Set) Set { return Set{s.bits | t.bits} }

// Minus returns what is in the set and not in t.
func (s Set) Minus(t Set) Set { return Set{s.bits &^ t.bits} }

// Empty reports whether nothing is in the set.
func (s Set) Empty() bool { return s.bits == 0 }

// Len returns how many scopes are in the set.
func (s Set) Len() int { return bits.OnesCount64(s.bits) }

// Scopes returns the members in the catalogue's order.
func (s Set) Scopes() []Scope {
	list := make([]Scope, 0, s.Len())
	for rest := s.bits; rest != 0; rest &= rest - 1 {
		list = append(list, Scope(bits.TrailingZeros64(rest)))
	}
	return list
}

// Names returns the names of the members in the catalogue's order.
func (s Set) Names() []string {
	names := make([]string, 0, s.Len())
	for _, one := range s.Scopes() {
		names = append(names, one.String())
	}
	return names
}

// String returns the names separated by spaces, as OAuth writes a scope list.
func (s Set) String() string { return strings.Join(s.Names(), " ") }
