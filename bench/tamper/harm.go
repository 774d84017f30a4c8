package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// harm is one way to change a log. It returns a copy of the lines that was
// changed at the index at, or from there on.
type harm struct {
	name  string
	named bool // the first finding must name the line
	do    func(lines [][]byte, at int) [][]byte
}

var harms = []harm{
	{"a byte changed", true, func(lines [][]byte, at int) [][]byte {
		return replaced(lines, at, func(line []byte) []byte {
			line[rand.IntN(len(line)-1)] ^= byte(1 + rand.IntN(7)) //nolint:gosec // any will do, and none makes a newline of what stands in a record
			return line
		})
	}},
	{"a word changed", true, func(lines [][]byte, at int) [][]byte {
		return replaced(lines, at, func(line []byte) []byte {
			changed := bytes.Replace(line, []byte(`"msg":"audit"`), []byte(`"msg":"audjt"`), 1)
			return changed
		})
	}},
	{"bytes cut out of a line", true, func(lines [][]byte, at int) [][]byte {
		return replaced(lines, at, func(line []byte) []byte {
			from, n := rand.IntN(len(line)-20), rand.IntN(10) //nolint:gosec // likewise
			return slices.Delete(line, from, from+1+n)
		})
	}},
	{"a line emptied", true, func(lines [][]byte, at int) [][]byte {
		return replaced(lines, at, func([]byte) []byte { return []byte("\n") })
	}},
	{"a line removed", true, func(lines [][]byte, at int) [][]byte {
		return slices.Delete(slices.Clone(lines), at, at+1)
	}},
	{"a hundred lines removed", true, func(lines [][]byte, at int) [][]byte {
		return slices.Delete(slices.Clone(lines), at, min(at+100, len(lines)))
	}},
	{"the beginning removed", false, func(lines [][]byte, at int) [][]byte { return lines[at:] }},
	{"a copy of a line inserted", true, func(lines [][]byte, at int) [][]byte {
		return slices.Insert(slices.Clone(lines), at, lines[rand.IntN(len(lines))]) //nolint:gosec // likewise
	}},
	{"a line of another log inserted", true, func(lines [][]byte, at int) [][]byte {
		line := fmt.Appendf(nil, "{\"seq\":%d,\"prev\":\"%064d\",\"ts\":\"2026-11-24T12:00:00Z\",\"msg\":\"audit\"}\n", at+1, at)
		return slices.Insert(slices.Clone(lines), at, line)
	}},
	{"text inserted", true, func(lines [][]byte, at int) [][]byte {
		return slices.Insert(slices.Clone(lines), at, []byte("{}\n"))
	}},
	{"two lines exchanged", true, func(lines [][]byte, at int) [][]byte {
		changed := slices.Clone(lines)
		changed[at], changed[at+1] = changed[at+1], changed[at]
		return changed
	}},
	{"a line moved back", true, func(lines [][]byte, at int) [][]byte {
		changed := slices.Delete(slices.Clone(lines), at, at+1)
		return slices.Insert(changed, at+50, lines[at])
	}},
	{"the end cut off", false, func(lines [][]byte, at int) [][]byte { return lines[:at] }},
	{"cut off within a line", false, func(lines [][]byte, at int) [][]byte {
		return append(slices.Clone(lines[:at]), lines[at][:len(lines[at])/2])
	}},
	{"all written anew from a line on", false, rewritten},
}

func replaced(lines [][]byte, at int, change func([]byte) []byte) [][]byte {
	changed := slices.Clone(lines)
	changed[at] = change(bytes.Clone(lines[at]))
	return changed
}
