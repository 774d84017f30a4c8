package credential

import (
	"crypto/subtle"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// keyRoom is how many keys of a stored credential are found without memory
// being allocated, and how many are compared at least, so that time does not
// tell how many there are, nor that there is a credential at all.
const keyRoom = 8

// keyring is the keys that a stored credential has had, newest first.
type keyring struct {
	n    int
	room [keyRoom]generation
	more []generation // those that room does not hold
}

// generation is one key of a stored credential.
type generation struct {
	hash      Hash
	number    int
	ends      int64 // microseconds since 1970; 0 is with its credential
	ended     bool  // whatever this machine's clock says
	endsOnUse bool
}

func (k *keyring) add(g generation) {
	if k.n < keyRoom {
		k.room[k.n] = g
	} else {
		k.more = append(k.more, g)
	}
	k.n++
}

func (k *keyring) at(i int) *generation {
	if i < keyRoom {
		return &k.room[i]
	}
	return &k.more[i-keyRoom]
}

// live reports whether the key of a place works. However many a row says are
// in use, no more than the newest MaxVerifiers are.
func (k *keyring) live(i int, now time.Time) bool {
	if i >= k.n || i >= MaxVerifiers {
		return false
	}
	g := k.at(i)
	return !g.ended && (g.ends == 0 || now.UnixMicro() < g.ends)
}

// prove finds the key that has the hash and tells what it is worth. It does
// the same work whether there is a credential or none, how many keys it has
// (up to keyRoom), and which of them is right.
func (c *Credential) prove(hash Hash, now time.Time) policy.Reason {
	own := len(c.Verifiers)
	right := -1
	for i := range max(own+c.keys.n, keyRoom) {
		var h Hash // the hash of no key
		switch {
		case i < own:
			h = c.Verifiers[i].Hash
		case i < own+c.keys.n:
			h = c.keys.at(i - own).hash
		}
		right = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(h[:], hash[:]), i, right)
	}
	switch {
	case right < 0:
		return policy.UnknownCredential
	case right < own:
		return c.Standing(now)
	}
	right -= own
	c.Generation = c.keys.at(right).number
	if !c.keys.live(right, now) {
		return policy.CredentialRetired
	}
	reason := c.Standing(now)
	if reason == policy.Allowed && right == 0 && c.keys.live(1, now) && c.keys.at(1).endsOnUse {
		c.Supersedes = c.keys.at(1).number
	}
	return reason
}
