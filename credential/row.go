package credential

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// The form of a row in memory. It is written by encode and read by decode of
// one process: it is kept nowhere and may change with any version.
//
//	form, flags, revision
//	not before, expires     8 bytes each, where flagged
//	scopes                  8 bytes, a bit for each place in the catalogue, where flagged
//	networks                count, then bits, length and address of each, where flagged
//	generations             count, then flags, number, end where flagged, and hash of each
//	team, name              length and bytes of each
const (
	rowForm = 1

	// rowRoom is how large a row may be to be read without memory being
	// allocated. One with keyRoom keys and the longest names is smaller.
	rowRoom = 768

	// maxGenerations is how many of a credential's keys are known again. A
	// cached value has at most 64 KiB, and each costs time in every request. A
	// key that a thousand others have followed is an unknown one.
	maxGenerations = 1000
)

// The flags of a row. The lowest two bits are its state.
const (
	rowState     = 3
	rowStatic    = 1 << 2
	rowNotBefore = 1 << 3
	rowExpires   = 1 << 4
	rowScopes    = 1 << 5
	rowNetworks  = 1 << 6
)

// The flags of a generation.
const (
	keyEnds = 1 << iota
	keyEnded
	keyEndsOnUse
)

// row is one encoded row, taken apart but for its lists, which are checked.
type row struct {
	flags              byte
	revision           int64
	notBefore, expires int64 // microseconds since 1970
	scopes             uint64
	networks           reader
	generations        reader
	team, name         []byte
}

func (r *row) state() State { return State(r.flags & rowState) }
func (r *row) static() bool { return r.flags&rowStatic != 0 }

// encode appends the row. Where it is not sure what a row means it writes
// what lets less in: an unknown state is revoked, an unknown scope is none, a
// network that cannot be read is nowhere.
func encode(b []byte, c *store.Credential) []byte {
	state, err := ParseState(c.State)
	if err != nil {
		state = Revoked
	}
	flags := byte(state)
	flag := func(bit byte, set bool) {
		if set {
			flags |= bit
		}
	}
	flag(rowStatic, c.Static)
	flag(rowNotBefore, !c.NotBefore.IsZero())
	flag(rowExpires, !c.Expires.IsZero())
	flag(rowScopes, c.Scopes != nil)
	flag(rowNetworks, c.AllowedIPs != nil)

	b = append(b, rowForm, flags)
	b = binary.AppendUvarint(b, uint64(c.Revision))
	if !c.NotBefore.IsZero() {
		b = binary.BigEndian.AppendUint64(b, uint64(c.NotBefore.UnixMicro()))
	}
	if !c.Expires.IsZero() {
		b = binary.BigEndian.AppendUint64(b, uint64(c.Expires.UnixMicro()))
	}
	if c.Scopes != nil {
		b = binary.BigEndian.AppendUint64(b, scopeBits(c.Scopes))
	}
	if c.AllowedIPs != nil {
		b = encodeNetworks(b, c.AllowedIPs)
	}
	b = encodeGenerations(b, c)
	b = binary.AppendUvarint(b, uint64(len(c.Team)))
	b = append(b, c.Team...)
	b = binary.AppendUvarint(b, uint64(len(c.Name)))
	return append(b, c.Name...)
}

func scopeBits(names []string) (set uint64) {
	for _, name := range names {
		if s, err := scopes.Parse(name); err == nil {
			set |= 1 << s
		}
	}
	return set
}

func encodeNetworks(b []byte, list []string) []byte {
	var known []netip.Prefix
	for _, text := range list {
		if p, err := netip.ParsePrefix(text); err == nil {
			known = append(known, p)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(known)))
	for _, p := range known {
		addr := p.Addr().AsSlice()
		b = append(b, byte(p.Bits()), byte(len(addr)))
		b = append(b, addr...)
	}
	return b
}

// encodeGenerations writes the newest keys first. One whose end had passed by
// the store's clock when the row was last changed has ended for good: a
// machine whose clock is behind must not give it more time.
func encodeGenerations(b []byte, c *store.Credential) []byte {
	list := slices.Clone(c.Generations)
	slices.SortStableFunc(list, func(x, y store.Generation) int { return cmp.Compare(y.Number, x.Number) })
	list = list[:min(len(list), maxGenerations)]
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, g := range list {
		var flags byte
		switch {
		case g.Ends.IsZero():
		case !g.Ends.After(c.Changed):
			flags |= keyEnded
		default:
			flags |= keyEnds
		}
		if g.EndsOnUse {
			flags |= keyEndsOnUse
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(g.Number))
		if flags&keyEnds != 0 {
			b = binary.BigEndian.AppendUint64(b, uint64(g.Ends.UnixMicro()))
		}
		b = append(b, g.Hash[:]...)
	}
	return b
}

// decode takes a row apart. Of a damaged one it says so, and nothing else.
func decode(b []byte) (row, bool) {
	in := reader{rest: b}
	var r row
	if in.byte() != rowForm {
		return row{}, false
	}
	r.flags = in.byte()
	r.revision = int64(in.uvarint())
	if r.flags&rowNotBefore != 0 {
		r.notBefore = int64(in.uint64())
	}
	if r.flags&rowExpires != 0 {
		r.expires = int64(in.uint64())
	}
	if r.flags&rowScopes != 0 {
		r.scopes = in.uint64()
	}
	if r.flags&rowNetworks != 0 {
		r.networks = in.networks()
	}
	r.generations = in.generations()
	r.team = in.bytes(in.uvarint())
	r.name = in.bytes(in.uvarint())
	if in.bad || len(in.rest) > 0 || r.state() == 0 || r.scopes>>scopes.All().Len() != 0 {
		return row{}, false
	}
	return r, true
}

// fill writes what the row says of the credential with the id, within what
// its team has today. It allocates for networks of its own, for more keys
// than keyRoom, and for a team that is gone.
func (r *row) fill(id string, teams map[string]*policy.Team, into *Credential) {
	*into = Credential{State: r.state(), Revision: r.revision}
	team, ok := teams[string(r.team)]
	if !ok {
		team, into.TeamGone = &policy.Team{Name: string(r.team)}, true
	}
	who := &into.Identity
	who.Team, who.Credential, who.Scopes = team, id, team.Scopes
	if r.flags&rowScopes != 0 {
		who.Scopes = team.Scopes.Intersect(scopeSet(r.scopes))
	}
	if r.flags&rowNetworks != 0 {
		who.AllowedIPs = r.prefixes()
	}
	if r.flags&rowNotBefore != 0 {
		into.NotBefore = time.UnixMicro(r.notBefore).UTC()
	}
	if r.flags&rowExpires != 0 {
		into.Expires = time.UnixMicro(r.expires).UTC()
		who.Expires = into.Expires
	}
	list := r.generations
	if list.n > keyRoom {
		into.keys.more = make([]generation, 0, list.n-keyRoom)
	}
	for range list.n {
		into.keys.add(list.generation())
	}
}

func scopeSet(mask uint64) scopes.Set {
	var set scopes.Set
	for rest := mask; rest != 0; rest &= rest - 1 {
		set = set.Union(scopes.Of(scopes.Scope(bits.TrailingZeros64(rest))))
	}
	return set
}

// nowhere is a list of networks that no address is in. An empty list would be
// one that every address is in.
var nowhere = []netip.Prefix{{}}

func (r *row) prefixes() []netip.Prefix {
	list := r.networks
	if list.n == 0 {
		return nowhere
	}
	out := make([]netip.Prefix, 0, list.n)
	for range list.n {
		out = append(out, list.network())
	}
	return out
}
