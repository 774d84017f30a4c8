package credential

import (
	"fmt"
	"time"
)

// Static is a Lookup over credentials that are all known beforehand.
type Static struct{ byID map[string]*Credential }

// NewStatic indexes credentials by the ids of their keys; they are not to be
// changed any more. What Find gives is a copy whose Identity.Credential is the
// id that was asked for, so that records tell which of two keys a team still
// uses. Two credentials may not
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
			s.byID[v.ID] = c
		}
	}
	return s, nil
}

// Find finds the credential that has a key with the given id. It never fails.
func (s *Static) Find(id string, into *Credential) (Found, error) {
	c, ok := s.byID[id]
	if !ok {
		*into = Credential{}
		return Unknown, nil
	}
	c.as(id, into)
	return Configured, nil
}

// as gives a copy whose id is that of one of its keys. The text is the
// configuration's: the caller's is a part of the header with the secret in it.
func (c *Credential) as(id string, into *Credential) {
	*into = *c
	for i := range c.Verifiers {
		if c.Verifiers[i].ID == id {
			into.Identity.Credential = c.Verifiers[i].ID
		}
	}
}

// Ended lists the ids of those that are revoked or have expired.
func (s *Static) Ended(now time.Time) (ids []string) {
	for id, c := range s.byID {
		if c.State == Revoked || !c.Expires.IsZero() && !now.Before(c.Expires) {
			ids = append(ids, id)
		}
	}
	return ids
}

// named names a credential of a team for error messages.
func named(c *Credential) string {
	return fmt.Sprintf("credential %q of team %q", c.Identity.Name, c.Identity.Team.Name)
}
