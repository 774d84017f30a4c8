package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
)

// rewritten does what someone does who knows how the chain is made and has no
// key: a line is changed, and every hash behind it made to fit.
func rewritten(lines [][]byte, at int) [][]byte {
	changed := slices.Clone(lines)
	changed[at] = bytes.Replace(lines[at], []byte(`"msg":"audit"`), []byte(`"msg":"audjt"`), 1)
	for i := at + 1; i < len(changed); i++ {
		sum := sha256.Sum256(bytes.TrimSuffix(changed[i-1], []byte("\n")))
		head, rest, _ := bytes.Cut(changed[i], []byte(`"prev":"`))
		changed[i] = append(fmt.Appendf(nil, "%s\"prev\":\"%x", head, sum), rest[2*len(sum):]...)
	}
	return changed
}
