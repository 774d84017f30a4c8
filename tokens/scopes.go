package tokens

import (
	"strings"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// narrowScopes holds the scopes against what the caller may give away.
func (g *grant) narrowScopes(asked scopes.Set) (granted scopes.Set, narrowed bool, refusal *Refusal) {
	granted = asked.Intersect(g.scopes)
	beyond := asked.Minus(granted)
	if beyond.Empty() {
		return granted, false, nil
	}
	if g.clamp && !granted.Empty() {
		return granted, true, nil
	}
	detail := "beyond what this credential may give to a token: " + strings.Join(beyond.Names(), ", ")
	if !beyond.Intersect(scopes.TokenScopes()).Empty() {
		// Such a token works at GoodAccess directly and may equal the master.
		detail += "; no token made here ever carries a token.* scope"
	}
	return scopes.Set{}, false, &Refusal{Reason: policy.MintScopes, Field: fieldScopes, Detail: detail}
}
