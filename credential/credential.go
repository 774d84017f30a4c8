// Package credential decides who a caller is: it makes and reads the keys
// that callers present, knows them again by their hashes, and tells whether
// the credential behind a key is in force. It never stores a key, and never
// decides what a caller may do.
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
// keys. It is not changed once an Authenticator may find it.
type Credential struct {
	Identity  policy.Identity
	Verifiers []Verifier
	State     State

	// NotBefore is the first instant at which the credential works, Expires
	// the first at which it no longer does. Zero is always and never.
	NotBefore, Expires time.Time
}

// Standing tells whether a proven credential is in force.
func (c *Credential) Standing(now time.Time) policy.Reason {
	switch {
	case c.State == Suspended:
		return policy.CredentialSuspended
	case c.State != Active:
		return policy.CredentialRevoked
	case now.Before(c.NotBefore):
		return policy.CredentialNotYetValid
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return policy.CredentialExpired
	default:
		return policy.Allowed
	}
}

// Lookup finds the credential that has a key with the given id.
type Lookup interface {
	Find(id string) (*Credential, bool)
}

// Static is a Lookup over credentials that are all known beforehand.
type Static struct{ byID map[string]*Credential }

// NewStatic indexes credentials by the ids of their keys. What Find returns
// is a copy whose Identity.Credential is the id that was asked for, so that
// records tell which of two keys a team still uses. Two credentials may not
// share an id: the records could not tell them apart.
func NewStatic(list []*Credential) (*Static, error) {
	s := &Static{make(map[string]*Credential, len(list))}
	for _, c := range list {
		if c.Identity.Team == nil {
			return nil, fmt.Errorf("credential %q is of no team", c.Identity.Name)
		}
		if n := len(c.Verifiers); n == 0 || n > MaxVerifiers {
			return nil, fmt.Errorf("%s has %d hashes; expected one, or %d while its key is being exchanged", named(c), n, MaxVerifiers)
		}
		own := map[string]bool{}
		for _, v := range c.Verifiers {
			if own[v.ID] {
				continue // a key exchanged for one with the same id
			}
			own[v.ID] = true
			if other, taken := s.byID[v.ID]; taken {
				return nil, fmt.Errorf("%s and %s have keys of one id, %s; make a key of its own for each with `scopegate key generate`", named(other), named(c), v.ID)
			}
			known := *c
			known.Identity.Credential = v.ID
			s.byID[v.ID] = &known
		}
	}
	return s, nil
}

// Find returns the credential that has a key with the given id.
func (s *Static) Find(id string) (*Credential, bool) {
	c, ok := s.byID[id]
	return c, ok
}

// named names a credential of a team for error messages.
func named(c *Credential) string {
	return fmt.Sprintf("credential %q of team %q", c.Identity.Name, c.Identity.Team.Name)
}
