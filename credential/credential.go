// Package credential decides who a caller is: it makes and reads the keys
// that callers present, knows them again by their hashes, and tells whether
// the credential behind a key is in force. It also holds the rules of their
// life: what may be made, and what may become of it. It never stores a key,
// never decides what a caller may do, and grants nothing that a team lacks.
package credential

import (
	"fmt"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// State is what an operator made of a credential.
type State uint8

// The states. The zero value is none of them and is refused, so that a
// credential which nobody set to active is not.
const (
	Active State = iota + 1
	Suspended
	Revoked
)

var stateNames = [...]string{Active: "active", Suspended: "suspended", Revoked: "revoked"}

// ParseState reads the name of a state.
func ParseState(name string) (State, error) {
	for s := Active; s <= Revoked; s++ {
		if stateNames[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("state %q: expected active, suspended or revoked", name)
}

// String returns the name that ParseState reads.
func (s State) String() string {
	if s < Active || s > Revoked {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// MaxVerifiers is how many keys of one credential may be in use at once: the
// old one and the new one while they are exchanged.
const MaxVerifiers = 2

// Credential is what a gateway knows of a caller that presents one of its
// keys, as a Lookup filled it in.
type Credential struct {
	// Identity is who a proven caller is. The name is left out where it would
	// have to be made anew for each request; Directory.Name gives it.
	Identity policy.Identity

	// Verifiers are the keys that the configuration has of the credential.
	Verifiers []Verifier

	State State

	// NotBefore is the first instant at which the credential works, Expires
	// the first at which it no longer does. Zero is always and never.
	NotBefore, Expires time.Time

	// Revision is that of the store's row, 0 where there is none.
	Revision int64

	// TeamGone says that the configuration no longer has the team. Then
	// Identity.Team has the name alone, which is no configured one.
	TeamGone bool

	// Generation is the number of the key that was proven, 0 if it is one of
	// the configuration's.
	Generation int

	// Supersedes is the number of an older key that ends by this use of the
	// newest one; 0 is none. Whoever sees one hands it to Registry.End.
	Supersedes int

	keys keyring
}

// Proven reports whether Authenticate found out whose key it was. A proven
// credential need not be in force.
func (c *Credential) Proven() bool { return c.Identity.Team != nil }

// Standing tells whether a proven credential is in force.
func (c *Credential) Standing(now time.Time) policy.Reason {
	switch {
	case c.State == Suspended:
		return policy.CredentialSuspended
	case c.State != Active:
		return policy.CredentialRevoked
	case c.TeamGone:
		return policy.TeamGone
	case now.Before(c.NotBefore):
		return policy.CredentialNotYetValid
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return policy.CredentialExpired
	default:
		return policy.Allowed
	}
}

// Found says where a credential was found.
type Found uint8

// The places. The zero value is none.
const (
	Unknown    Found = iota // nowhere
	Stored                  // in the store
	Configured              // in the configuration
)

// Lookup finds the credential that has a key with the given id, and writes it
// to into. What was there before is gone, whatever comes back. An error says
// that nobody knows whether there is such a credential.
type Lookup interface {
	Find(id string, into *Credential) (Found, error)
}
