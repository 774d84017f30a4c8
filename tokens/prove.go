package tokens

import (
	"slices"
	"strings"

	"github.com/scopegate/scopegate/scopes"
)

// Made is how a token was asked for.
type Made struct {
	Name       string // with its stamp
	Scopes     []string
	AllowedIPs []string
	ExpiresAt  string
}

// Proof is what a read of a new token proves about it.
type Proof struct {
	// Wider are the fields that are not as they were asked for. A smaller set
	// of scopes or addresses is not wider; an empty one is, since to upstream
	// that may be all. Texts are compared as they are: what is written in
	// another way may be read in another way.
	Wider []string

	// Silent are the fields that upstream does not show, of which nothing is
	// proved.
	Silent []string

	// Another tells that this is a token which the mint did not make: neither
	// its name nor its end is what was asked for. What cuts a stamp off leaves
	// the beginning of a name, and what makes a token wider leaves its name.
	Another bool
}

// Prove holds a token as upstream shows it against what was asked for.
func (m *Mint) Prove(seen Seen) Proof {
	made := Made{Name: m.sent(), Scopes: m.Scopes.Names(), AllowedIPs: m.AllowedIPs, ExpiresAt: m.ExpiresAt}
	var p Proof
	for _, field := range fields {
		switch {
		case !slices.Contains(seen.Shown, field):
			p.Silent = append(p.Silent, field)
		case !made.holds(seen, field):
			p.Wider = append(p.Wider, field)
		}
	}
	p.Another = slices.Contains(p.Wider, fieldName) && !strings.HasPrefix(made.Name, seen.Name) &&
		(slices.Contains(p.Wider, fieldExpiresAt) || slices.Contains(p.Silent, fieldExpiresAt))
	return p
}

// NotShown are the fields that upstream does not show of a token.
func NotShown(seen Seen) (silent []string) {
	for _, field := range fields {
		if !slices.Contains(seen.Shown, field) {
			silent = append(silent, field)
		}
	}
	return silent
}

// Differs are the fields that upstream shows and that are not as they were
// asked for.
func Differs(seen Seen, made Made) (differs []string) {
	for _, field := range seen.Shown {
		if !made.holds(seen, field) || !seen.holds(made, field) {
			differs = append(differs, field)
		}
	}
	return differs
}

// holds reports whether a token as it is seen is no wider in one field than it
// was asked for.
func (made Made) holds(seen Seen, field string) bool {
	switch field {
	case fieldName:
		return seen.Name == made.Name
	case fieldExpiresAt:
		return seen.ExpiresAt == made.ExpiresAt
	case fieldIPs:
		return partOf(seen.AllowedIPs, made.AllowedIPs)
	default:
		return partOf(canonical(seen.Scopes), canonical(made.Scopes))
	}
}

func (s Seen) holds(made Made, field string) bool {
	return Made{s.Name, s.Scopes, s.AllowedIPs, s.ExpiresAt}.holds(
		Seen{Name: made.Name, Scopes: made.Scopes, AllowedIPs: made.AllowedIPs, ExpiresAt: made.ExpiresAt}, field)
}

// partOf reports whether a list is a part of another. No list is a part of one
// that has something in it: empty is everything.
func partOf(part, whole []string) bool {
	if len(part) == 0 {
		return len(whole) == 0
	}
	for _, one := range part {
		if !slices.Contains(whole, one) {
			return false
		}
	}
	return true
}

// canonical spells the one scope alike that has two documented names.
func canonical(names []string) []string {
	list := make([]string, 0, len(names))
	for _, name := range names {
		if s, err := scopes.Parse(name); err == nil {
			name = s.String()
		}
		list = append(list, name)
	}
	return list
}
