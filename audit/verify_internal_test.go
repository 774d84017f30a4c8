package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Who has the key of one replica cannot write the log of another, though both
// keys are trusted.
func TestVerifyRejectsTheKeyOfAnotherLog(t *testing.T) {
	var keys []*Keys
	for range 2 {
		keys = append(keys, made(t))
	}
	trusted := []string{keys[0].Public(), keys[1].Public()}
	forger := *keys[1]
	forger.origin = keys[0].origin
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	s, err := Open(FileOptions{Path: path, Keys: &forger, Records: 10, Every: DefaultEvery, Open: func() (io.WriteCloser, error) {
		return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(VerifyOptions{Keys: trusted})
	n := 0
	for line := range bytes.Lines(text) {
		n++
		v.Line(path, n, bytes.TrimSuffix(line, newline))
	}
	r := v.Finish()
	if r.Sound() || r.Findings[0].Fault != Forged || r.Signed != 0 {
		t.Errorf("%+v", r)
	}
	signature, err := forger.sign(chain{seq: 1}, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSignature(signature.Note, trusted); err == nil {
		t.Error("an anchor by the key of another log was taken")
	}
}

// made makes the keys of a new log.
func made(t *testing.T) *Keys {
	t.Helper()
	text, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// checked checks a log that is made of marks alone.
func checked(o VerifyOptions, marks ...mark) Report { return checkedFrom(chain{}, o, marks...) }

func checkedFrom(c chain, o VerifyOptions, marks ...mark) Report {
	var text []byte
	for _, m := range marks {
		text = c.stamp(text, m.line())
	}
	v := NewVerifier(o)
	n := 0
	for line := range bytes.Lines(text) {
		n++
		v.Line("audit.jsonl", n, bytes.TrimSuffix(line, newline))
	}
	return v.Finish()
}

// Nor does it make a key for the other log by vouching for one: it speaks for
// its own log alone.
func TestVerifyRejectsAKeyThatAnotherLogVouchesFor(t *testing.T) {
	victim, own := made(t), made(t)
	evil := made(t)
	evil.origin = victim.origin
	evil.signer, evil.public = renamed(t, victim.origin)
	own.older = []note.Signer{own.signer}
	public := own.public
	own.public = evil.public
	signed, err := own.vouch()
	if err != nil {
		t.Fatal(err)
	}
	begin := mark{Kind: Segment, Log: victim.origin, Key: victim.public}
	for name, log := range map[string]string{"as its own": own.origin, "as the other's": victim.origin} {
		r := checked(VerifyOptions{Keys: []string{victim.public, public}}, begin,
			mark{Kind: KeyChange, Log: log, Key: evil.public, Signed: signed},
			mark{Kind: Segment, Log: victim.origin, Key: evil.public})
		if len(r.Findings) < 2 || r.Findings[0].Seq != 2 || r.Findings[1].Seq != 3 {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

// renamed makes a key that bears the name of another log.
func renamed(t *testing.T, name string) (note.Signer, string) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, public
}

// Who has no key but can write the file writes all of it anew, and leaves out
// what he cannot make: signatures.
func TestVerifyRejectsALogWithoutSignatures(t *testing.T) {
	k := made(t)
	begin := mark{Kind: Segment, Log: k.origin, Key: k.public}
	if r := checked(VerifyOptions{Keys: []string{k.public}}, begin, mark{Kind: Closed}); r.Sound() {
		t.Errorf("%+v", r)
	}
	if r := checked(VerifyOptions{}, begin, mark{Kind: Closed}); !r.Sound() { // it is not known whose key it would be
		t.Errorf("without a key: %+v", r)
	}
}

// Two gateways that share a log have its key twice, and so has whoever names it
// besides a configuration.
func TestVerifyTakesAKeyTwice(t *testing.T) {
	k := made(t)
	begin := mark{Kind: Segment, Log: k.origin, Key: k.public}
	var c chain
	first := begin.line()
	c.stamp(nil, first)
	s, err := k.sign(c, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(VerifyOptions{Keys: []string{k.public, k.public}})
	var again chain
	for i, line := range [][]byte{first, mark{Kind: Checkpoint, Signed: s.Note}.line()} {
		v.Line("audit.jsonl", i+1, bytes.TrimSuffix(again.stamp(nil, line), newline))
	}
	if r := v.Finish(); !r.Sound() || r.Signed != 1 {
		t.Errorf("%+v", r)
	}
}

// A line of megabytes is not kept in each of a hundred findings, nor as a name
// or a key that every signature is held against.
func TestVerifyKeepsLittleOfALongLine(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	for name, m := range map[string]mark{
		"kind": {Kind: Kind(long)}, "key": {Kind: Segment, Log: "scopegate/a", Key: long}, "log": {Kind: Segment, Log: long, Key: long},
		"key change": {Kind: KeyChange, Log: long, Key: long},
	} {
		r := checked(VerifyOptions{}, m, m)
		if r.Sound() {
			t.Errorf("%s: called sound", name)
		}
		if text, err := json.Marshal(r); err != nil || len(text) > 8<<10 {
			t.Errorf("%s: a report of %d bytes, %v", name, len(text), err)
		}
	}
}

// Whoever makes up a log of keys that vouch for each other does not have all of
// them looked through for every signature.
func TestVerifyBoundsKeys(t *testing.T) {
	last := made(t)
	marks := []mark{{Kind: Segment, Log: last.origin, Key: last.public}}
	for range maxKeys {
		next := &Keys{origin: last.origin, older: []note.Signer{last.signer}}
		next.signer, next.public = renamed(t, last.origin)
		signed, err := next.vouch()
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, mark{Kind: KeyChange, Log: next.origin, Key: next.public, Signed: signed})
		last = next
	}
	if r := checked(VerifyOptions{}, marks[:maxKeys]...); !r.Sound() {
		t.Errorf("%+v", r.Findings)
	}
	if r := checked(VerifyOptions{}, marks...); r.Sound() {
		t.Error("no bound")
	}
}

// What a broken write left was the last of a file that is deleted by now; what
// tells of it is the first of the next one.
func TestVerifyTakesATornLineThatWasPruned(t *testing.T) {
	torn, end := mark{Kind: Torn, Bytes: 3, SHA256: strings.Repeat("0", 64)}, mark{Kind: Closed}
	for name, tt := range map[string]struct {
		marks  []mark
		pruned bool
		sound  bool
	}{
		"pruned":        {[]mark{torn, torn, end}, true, true},
		"not pruned":    {[]mark{torn, end}, false, false},
		"further below": {[]mark{torn, end, torn}, true, false},
	} {
		if r := checkedFrom(chain{seq: 7}, VerifyOptions{Pruned: tt.pruned}, tt.marks...); r.Sound() != tt.sound {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

// An anchor that somebody made up covers nothing, though the lines fit it.
func TestVerifyRejectsAnAnchorThatNoKeySigned(t *testing.T) {
	k := made(t)
	forger := made(t)
	forger.origin = k.origin
	var c chain
	first := mark{Kind: Segment, Log: k.origin, Key: k.public}.line()
	lines := [][]byte{c.stamp(nil, first)}
	s, err := k.sign(c, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	lines = append(lines, c.stamp(nil, mark{Kind: Checkpoint, Signed: s.Note}.line()))
	check := func(anchors ...string) Report {
		v := NewVerifier(VerifyOptions{Keys: []string{k.public}, Anchors: anchors})
		for i, line := range lines {
			v.Line("audit.jsonl", i+1, bytes.TrimSuffix(line, newline))
		}
		return v.Finish()
	}
	of := func(k *Keys) string {
		s, err := k.sign(c, time.Unix(2, 0))
		if err != nil {
			t.Fatal(err)
		}
		return s.Note
	}
	if r := check(s.Note, of(k)); !r.Sound() || r.Anchored != 2 {
		t.Errorf("its own: %+v", r)
	}
	if r := check(s.Note, of(forger)); r.Sound() || r.Anchored != 0 {
		t.Errorf("by another key: %+v", r)
	}
	if r := check(strings.Replace(s.Note, "\n1\n", "\nx\n", 1)); r.Sound() || r.Anchored != 0 {
		t.Errorf("not to be read: %+v", r)
	}
}
