package policy

import (
	"net/netip"
	"time"

	"github.com/scopegate/scopegate/scopes"
)

// Team is a named group of callers with what they may do, as the
// configuration says it. It is not changed once the configuration is loaded.
type Team struct {
	Name   string
	Scopes scopes.Set

	// AllowedIPs is where callers may come from. Empty means anywhere.
	AllowedIPs []netip.Prefix

	// Mint is nil where the team may make no upstream tokens.
	Mint *MintGrant

	// MemberPasswords allows a change of a member that sets a password. An
	// administrator's password is full control over the account, so the scope
	// members.update alone does not allow it.
	MemberPasswords bool

	// ShadowUntil is until when documented reads beyond the team's scopes and
	// limits are permitted, and noted. The zero time is never.
	ShadowUntil time.Time

	// AllTokens shows the team every upstream token. It lets it delete none.
	AllTokens bool
}

// MintGrant bounds the upstream tokens that a team may make.
type MintGrant struct {
	// Scopes is what a minted token may carry; never a token.* scope.
	Scopes scopes.Set

	// AllowedIPs is what a minted token must be bound to. AnyIP, which the
	// configuration calls `any`, is the only way to lift that.
	AllowedIPs []netip.Prefix
	AnyIP      bool

	// MaxTTL is the longest life of a minted token.
	MaxTTL time.Duration

	// MaxLive is how many minted tokens may be alive at once; 0 is no limit.
	MaxLive int

	// Clamp narrows a request that asks for too much instead of refusing it.
	Clamp bool
}

// Identity is a proven caller: a credential of a team, with the rights that
// are left when what the credential narrows is taken from the team's.
type Identity struct {
	Team       *Team
	Credential string // the credential's id
	Name       string // the credential's name within the team

	// Scopes is the intersection of the team's scopes and the credential's.
	Scopes scopes.Set

	// AllowedIPs narrows the team's list further; a caller must be in both.
	AllowedIPs []netip.Prefix

	// Expires is when the credential ends; zero is never. A minted token may
	// not outlive the credential that made it.
	Expires time.Time
}

// Mintable is what a token minted by this caller may carry: the grant of the
// team, cut down to the caller's own scopes, and never a token.* scope, since
// a token that may make tokens works at GoodAccess directly and may equal the
// master.
func (id *Identity) Mintable() scopes.Set {
	if id.Team.Mint == nil {
		return scopes.Set{}
	}
	return id.Team.Mint.Scopes.Intersect(id.Scopes).Minus(scopes.TokenScopes())
}
