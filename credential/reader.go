package credential

import (
	"encoding/binary"
	"net/netip"
)

// reader reads an encoded row. What is damaged makes it bad and reads as
// zero, so that only the end need be checked.
type reader struct {
	rest []byte
	n    int // elements, if it reads a list
	bad  bool
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint64() uint64 {
	b := r.bytes(8)
	if len(b) == 0 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if r.bad || size <= 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// networks passes over a list of networks and returns a reader of them.
func (r *reader) networks() reader {
	n := r.uvarint()
	list := *r
	for i := uint64(0); i < n && !r.bad; i++ {
		r.network()
	}
	list.n = int(n)
	return list
}

func (r *reader) network() netip.Prefix {
	size := int(r.byte())
	addr, ok := netip.AddrFromSlice(r.bytes(uint64(r.byte())))
	p := netip.PrefixFrom(addr, size)
	r.bad = r.bad || !ok || !p.IsValid()
	return p
}

// generations passes over a list of keys and returns a reader of them.
func (r *reader) generations() reader {
	n := r.uvarint()
	list := *r
	for i := uint64(0); i < n && !r.bad; i++ {
		r.generation()
	}
	list.n = int(n)
	return list
}

func (r *reader) generation() (g generation) {
	flags := r.byte()
	g.number = int(r.uvarint())
	g.ended, g.endsOnUse = flags&keyEnded != 0, flags&keyEndsOnUse != 0
	if flags&keyEnds != 0 {
		g.ends = int64(r.uint64())
		g.ended = g.ended || g.ends == 0 // which would be no end
	}
	copy(g.hash[:], r.bytes(uint64(len(g.hash))))
	return g
}
