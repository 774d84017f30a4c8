package credential

import (
	"github.com/VictoriaMetrics/fastcache"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// Encode is the form in which a Cache keeps a row.
func Encode(c *store.Credential) []byte { return encode(nil, c) }

// Decode reads a form as Find does.
func Decode(b []byte, id string, teams map[string]*policy.Team, into *Credential) (name string, ok bool) {
	r, ok := decode(b)
	if ok {
		r.fill(id, teams, into)
	}
	return string(r.name), ok
}

// Put puts a value where the Cache keeps known rows, whatever it is.
func (c *Cache) Put(id string, value []byte) { c.known.Set([]byte(id), value) }

// Size returns how many rows the Cache knows, and the bytes that it has taken
// for them beside Go's heap.
func (c *Cache) Size() (rows, bytes uint64) {
	var s fastcache.Stats
	c.known.UpdateStats(&s)
	return s.EntriesCount, s.BytesSize
}

// What the tests have to reach.
const (
	MaxGenerations = maxGenerations
	KeyRoom        = keyRoom
	LoadsAtOnce    = loadsAtOnce
	LoadTimeout    = loadTimeout
	UsageMax       = usageMax
)
