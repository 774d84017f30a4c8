package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Hash is the SHA-256 of a line's exact bytes, without its newline: what
// `sha256sum` says of it, too.
type Hash [sha256.Size]byte

func hashOf(line []byte) Hash { return sha256.Sum256(line) }

// hexInto reads a hash.
func hexInto(h *Hash, text string) (int, error) {
	if len(text) != hex.EncodedLen(len(h)) {
		return 0, hex.ErrLength
	}
	return hex.Decode(h[:], []byte(text))
}

// String writes the hash as it stands in the log.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Kind says what a line is that the chain itself wrote. Records have none.
type Kind string

// The kinds.
const (
	Segment    Kind = "segment"    // a process begins to write
	KeyChange  Kind = "key"        // the log goes on under another key
	Checkpoint Kind = "checkpoint" // a signature over all that stands before
	Torn       Kind = "torn"       // a write broke off; what it left stands further up
	Reopened   Kind = "reopened"   // the file was deleted or replaced under way
	Cut        Kind = "cut"        // an outside anchor knows of more than the log has
	Closed     Kind = "closed"     // the process ended in good order
)

// mark is a line of the chain's own.
type mark struct {
	Kind   Kind      `json:"kind"`
	Time   time.Time `json:"ts"`
	Msg    string    `json:"msg"`
	Log    string    `json:"log,omitempty"`    // the log's name, its origin
	Key    string    `json:"key,omitempty"`    // the public key, as signed notes write one
	Signed string    `json:"signed,omitempty"` // a signed note
	Bytes  int       `json:"bytes,omitempty"`  // of what a torn write left
	SHA256 string    `json:"sha256,omitempty"` // of the same
	Seq    uint64    `json:"anchored,omitempty"`
}

// line encodes a mark in the form in which records come to be stamped.
func (m mark) line() []byte {
	m.Time, m.Msg = time.Now().UTC(), message
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts and numbers alone
	}
	return append(b, '\n')
}

// chain is how far a log has come: the number of its last line, and its hash.
type chain struct {
	seq  uint64
	head Hash
}

// stamp appends a line in its place in the chain. Its number and the hash of
// the line before come first, where a reader finds them without taking the
// rest apart.
func (c *chain) stamp(dst, line []byte) []byte {
	start := len(dst)
	dst = append(dst, seqPrefix...)
	dst = strconv.AppendUint(dst, c.seq+1, 10)
	dst = append(dst, prevPrefix...)
	dst = hex.AppendEncode(dst, c.head[:])
	dst = append(dst, prevSuffix...)
	dst = append(dst, line[1:]...)
	c.pass(dst[start : len(dst)-1])
	return dst
}

// pass goes on behind a stamped line.
func (c *chain) pass(line []byte) {
	c.seq++
	c.head = sha256.Sum256(line)
}

const (
	seqPrefix  = `{"seq":`
	prevPrefix = `,"prev":"`
	prevSuffix = `",`
	kindPrefix = `"kind":"`
)

// stamped is a line's place in the chain, as the line says.
type stamped struct {
	seq  uint64
	prev Hash
	rest []byte // the members behind its place, up to the closing brace
}

// own reports whether the chain itself wrote the line.
func (s stamped) own() bool { return bytes.HasPrefix(s.rest, []byte(kindPrefix)) }

// mark reads a line of the chain's own. No name and no key is longer than a
// text of a record.
func (s stamped) mark() (m mark, ok bool) {
	text := append([]byte{'{'}, s.rest...)
	return m, json.Unmarshal(text, &m) == nil && max(len(m.Log), len(m.Key)) <= maxText
}

// parseStamp reads the place of a line, which comes without its newline. It
// takes the one form that stamp writes and no other.
func parseStamp(line []byte) (s stamped, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(seqPrefix))
	if !ok {
		return s, false
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	var err error
	if s.seq, err = strconv.ParseUint(string(rest[:digits]), 10, 64); err != nil || s.seq == 0 || rest[0] == '0' {
		return s, false
	}
	if rest, ok = bytes.CutPrefix(rest[digits:], []byte(prevPrefix)); !ok || len(rest) < hex.EncodedLen(len(s.prev))+len(prevSuffix) {
		return s, false
	}
	text := rest[:hex.EncodedLen(len(s.prev))]
	if _, err := hex.Decode(s.prev[:], text); err != nil {
		return s, false
	}
	if rest, ok = bytes.CutPrefix(rest[len(text):], []byte(prevSuffix)); !ok || len(rest) == 0 || rest[len(rest)-1] != '}' {
		return s, false
	}
	s.rest = rest
	return s, true
}
