package main

import (
	"fmt"

	"github.com/scopegate/scopegate/credential"
)

const (
	// keyCount is how many keys whoever checks keys knows.
	keyCount = 1000
	// master is the token that the upstream takes.
	master = "master-token-of-the-benchmark"
)

// ring is the keys of a run: those that are known, of which the caller's stands
// in the middle, since some contenders look for it from the first to the last.
type ring struct {
	known    []credential.Key
	stranger credential.Key
}

func newRing() ring {
	r := ring{stranger: credential.Generate()}
	for range keyCount {
		r.known = append(r.known, credential.Generate())
	}
	return r
}

func (r ring) caller() credential.Key { return r.known[len(r.known)/2] }

// each calls line with each key and the team that it belongs to.
func (r ring) each(line func(key credential.Key, team string)) {
	for i, key := range r.known {
		line(key, fmt.Sprintf("team%d", i))
	}
}
