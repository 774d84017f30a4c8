package audit

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who has the key of one replica cannot write the log of another, though both
// keys are trusted.
func TestVerifyRejectsTheKeyOfAnotherLog(t *testing.T) {
	var keys []*Keys
	for range 2 {
		text, err := NewKeys()
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
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
