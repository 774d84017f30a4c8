package credential

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Hash is the SHA-256 of a whole key's text, so that
// `printf %s "$KEY" | sha256sum` gives it too. It needs no salt and no slow
// function: a secret of 256 random bits cannot be guessed.
type Hash [sha256.Size]byte

// String returns the hash as 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// hashOf does not allocate. The text is no longer than a key.
func hashOf(text string) Hash {
	var in [keyLength]byte
	return sha256.Sum256(in[:copy(in[:], text)])
}

// Verifier is what a gateway keeps of a key: enough to know it again, not
// enough to be it.
type Verifier struct {
	ID   string
	Hash Hash
}

var (
	errNoVerifier  = errors.New("expected <id>:<sha256>, as `scopegate key hash` prints it for a key")
	errKeyPasted   = errors.New("a key itself stands where its hash belongs: take it out, have `scopegate key hash` print the line to write here, and if others could read the key, exchange it for a new one")
	errHashLength  = fmt.Errorf("expected %d hex digits behind the colon, the SHA-256 of the whole key; `scopegate key hash` prints them", 2*sha256.Size)
	errVerifierID  = fmt.Errorf("expected an id of %d digits and letters before the colon; `scopegate key hash` prints it", idLength)
	errHashNoDigit = fmt.Errorf("%w: one of them is no hex digit", errHashLength)
)

// ParseVerifier reads `<id>:<64 hex digits>`. Its errors say what to do and
// never repeat the text, since people paste keys into configurations.
func ParseVerifier(s string) (Verifier, error) {
	if holdsKey(s) {
		return Verifier{}, errKeyPasted
	}
	id, digits, ok := strings.Cut(s, ":")
	switch {
	case !ok:
		return Verifier{}, errNoVerifier
	case len(id) != idLength || !inAlphabet(id):
		return Verifier{}, errVerifierID
	case len(digits) != 2*sha256.Size:
		return Verifier{}, errHashLength
	}
	v := Verifier{ID: id}
	if _, err := hex.Decode(v.Hash[:], []byte(digits)); err != nil {
		return Verifier{}, errHashNoDigit
	}
	return v, nil
}

// String returns `<id>:<64 hex digits>`, which is no secret.
func (v Verifier) String() string { return v.ID + ":" + v.Hash.String() }

// MarshalText returns String.
func (v Verifier) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is ParseVerifier.
func (v *Verifier) UnmarshalText(text []byte) (err error) {
	*v, err = ParseVerifier(string(text))
	return err
}
