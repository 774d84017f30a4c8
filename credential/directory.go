package credential

import (
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// Directory is a Lookup over the store's credentials, and those of one
// configuration behind them.
type Directory struct {
	cache  *Cache
	static *Static
	teams  map[string]*policy.Team
}

// NewDirectory returns a Directory over what the cache finds and what the
// configuration has: its credentials, and its teams by their names.
func NewDirectory(cache *Cache, static *Static, teams map[string]*policy.Team) *Directory {
	return &Directory{cache, static, teams}
}

// decoy stands in for the row of an unknown id, so that finding one takes no
// longer than finding none.
var (
	decoy, _ = decode(encode(nil, &store.Credential{
		State: Active.String(), Team: "decoy", Generations: []store.Generation{{Number: 1}},
	}))
	decoyTeams = map[string]*policy.Team{"decoy": {}}
)

// Find finds the credential that has a key with the given id. The store's row
// comes first: one that was revoked there is revoked, whatever a line of the
// configuration says. What a row grants is cut down to what its team has
// today. For a row in memory nothing is allocated, unless it has networks of
// its own or more than eight keys, or its team is gone.
func (d *Directory) Find(id string, into *Credential) (Found, error) {
	var buf [rowRoom]byte
	fixed := d.static.byID[id]
	r, found, err := d.cache.find(id, fixed != nil, buf[:0])
	switch {
	case err != nil:
		*into = Credential{}
		return Unknown, err
	case found && !r.static():
		r.fill(id, d.teams, into)
		return Stored, nil
	case fixed != nil:
		fixed.as(id, into)
		into.override(&r)
		return Configured, nil
	default:
		decoy.fill(id, decoyTeams, into)
		*into = Credential{}
		return Unknown, nil
	}
}

// override lets a row take from a credential of the configuration; it gives
// nothing back that the configuration took. Of two states the later is the
// worse.
func (c *Credential) override(r *row) {
	c.Revision = r.revision
	if s := r.state(); s == Suspended || s == Revoked {
		c.State = max(c.State, s)
	}
}

// Name returns the name of the credential with the id within its team, ""
// where there is none or the store cannot be asked. Find leaves it out.
func (d *Directory) Name(id string) string {
	if fixed := d.static.byID[id]; fixed != nil {
		return fixed.Identity.Name
	}
	var buf [rowRoom]byte
	r, _, err := d.cache.find(id, false, buf[:0])
	if err != nil {
		return ""
	}
	return string(r.name)
}
