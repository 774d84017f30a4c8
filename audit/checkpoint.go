package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Signature is what a checkpoint says: that a log had a line of this number
// and hash at this time. Since each line holds the hash of the one before, that
// settles all lines up to it.
type Signature struct {
	Log  string
	Seq  uint64
	Head Hash
	Time time.Time
	Note string // what was signed, with its signatures
}

// sign signs how far a chain has come.
func (k *Keys) sign(c chain, now time.Time) (Signature, error) {
	s := Signature{Log: k.origin, Seq: c.seq, Head: c.head, Time: now.UTC().Truncate(time.Second)}
	text := fmt.Sprintf("%s\n%d\n%s\n%s\n", s.Log, s.Seq, base64.StdEncoding.EncodeToString(s.Head[:]), s.Time.Format(time.RFC3339))
	signed, err := note.Sign(&note.Note{Text: text}, k.signer)
	s.Note = string(signed)
	return s, err
}

// vouch lets the keys before this one say that it follows them.
func (k *Keys) vouch() (string, error) {
	signed, err := note.Sign(&note.Note{Text: k.origin + "\nkey\n" + k.public + "\n"}, k.older...)
	return string(signed), err
}

// CheckKey reports whether a text is a public key, as [Keys.Public] returns one.
func CheckKey(text string) error {
	if _, err := note.NewVerifier(text); err != nil {
		return fmt.Errorf("%q is not one that `scopegate audit key` prints", text)
	}
	return nil
}

var errNote = errors.New("it is not a checkpoint of an audit log")

// trust reads public keys. One that is given twice is one: two gateways that
// share a log have its key both.
func trust(keys []string) (note.Verifiers, error) {
	var list []note.Verifier
	for _, key := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("the key %q is not one that `scopegate audit key` prints", key)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// openNote returns what a signed note says, once one of the keys has signed it
// that is of the log that the note is about: who has the key of one replica
// must not speak for another.
func openNote(text string, known note.Verifiers) (string, error) {
	n, err := note.Open([]byte(text), known)
	if err != nil {
		if _, unknown := errors.AsType[*note.UnverifiedNoteError](err); unknown {
			return "", errors.New("no key that is trusted has signed it")
		}
		return "", err
	}
	log, _, _ := strings.Cut(n.Text, "\n")
	if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == log }) {
		return "", fmt.Errorf("the key of %q has signed it, which is another log", n.Sigs[0].Name)
	}
	return n.Text, nil
}

// keyOf is the log that a public key is of.
func keyOf(key string) string {
	log, _, _ := strings.Cut(key, "+")
	return log
}

// ParseSignature reads a checkpoint that one of the keys has signed.
func ParseSignature(text string, keys []string) (Signature, error) {
	known, err := trust(keys)
	if err != nil {
		return Signature{}, err
	}
	return openSignature(text, known)
}

func openSignature(text string, known note.Verifiers) (Signature, error) {
	body, err := openNote(text, known)
	if err != nil {
		return Signature{}, err
	}
	s, err := parseBody(body)
	s.Note = text
	return s, err
}

// readSignature reads a checkpoint, whoever has signed it.
func readSignature(text string) (Signature, error) {
	body, _, _ := strings.Cut(text, "\n\n")
	s, err := parseBody(body + "\n")
	s.Note = text
	return s, err
}

func parseBody(body string) (s Signature, err error) {
	lines := strings.Split(body, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], originPrefix) {
		return s, errNote
	}
	s.Log = lines[0]
	if s.Seq, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return s, errNote
	}
	head, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(head) != len(s.Head) {
		return s, errNote
	}
	copy(s.Head[:], head)
	if s.Time, err = time.Parse(time.RFC3339, lines[3]); err != nil {
		return s, errNote
	}
	return s, nil
}

// SplitNotes takes apart what a file of anchors or an HTTP collector has
// gathered: signed notes, one behind another, or lines of JSON that hold them.
// What a write has left that broke off is none: whoever could make it of a note
// could as well have deleted that.
func SplitNotes(text string) []string {
	var notes []string
	var b strings.Builder
	signatures := false
	add := func(text string) {
		if isWhole(text) {
			notes = append(notes, text)
		}
	}
	flush := func() {
		add(b.String())
		b.Reset()
		signatures = false
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "{") {
			var m mark
			if json.Unmarshal([]byte(line), &m) == nil && m.Signed != "" {
				flush()
				add(m.Signed)
				continue
			}
		}
		isSignature := strings.HasPrefix(line, signatureMark)
		if signatures && !isSignature || strings.HasPrefix(line, originPrefix) {
			flush()
		}
		if b.Len() == 0 && strings.TrimSpace(line) == "" {
			continue
		}
		signatures = signatures || isSignature
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	flush()
	return notes
}

// signatureMark begins each line of a note that is a signature.
const signatureMark = "— "

// isWhole reports whether a note ends in a signature of the length that ours
// have, with the four bytes that name the key.
func isWhole(text string) bool {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	signature, ok := strings.CutPrefix(lines[len(lines)-1], signatureMark)
	_, encoded, _ := strings.Cut(signature, " ")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return ok && err == nil && len(raw) == 4+ed25519.SignatureSize
}
