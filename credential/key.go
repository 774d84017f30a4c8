package credential

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Prefix begins every key, so that secret scanners find one that leaked.
const Prefix = "sgk_"

// A key is Prefix, an id of 12 characters, an underscore, a 256-bit secret of
// 43 and a CRC-32 of 6 over all that stands before it. Its characters are the
// digits and letters of ASCII in their order there; numbers are big-endian,
// padded on the left with 0.
const (
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	secretSize = 32 // bytes

	idLength     = 12
	secretLength = 43
	sumLength    = 6

	idAt      = len(Prefix)
	secretAt  = idAt + idLength + 1
	sumAt     = secretAt + secretLength
	keyLength = sumAt + sumLength
)

// maxSecret is 2^256-1. Since the alphabet is in the order of ASCII, numbers
// of one length compare as their texts do.
const maxSecret = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"

// ErrMalformed is wrapped by every error about a text that is no key. The
// checksum tells a key that was typed or copied wrongly from one that is
// unknown, without a look-up.
var ErrMalformed = errors.New("not a scopegate key")

// The ways in which a text is no key. They are made once: telling a caller
// off costs no memory, and no part of what was sent can get into them.
var (
	errPrefix   = fmt.Errorf("%w: it does not begin with %s", ErrMalformed, Prefix)
	errLength   = fmt.Errorf("%w: it does not have %d characters; was all of it copied?", ErrMalformed, keyLength)
	errAlphabet = fmt.Errorf("%w: it holds a character that no key has", ErrMalformed)
	errChecksum = fmt.Errorf("%w: its checksum is wrong; was it typed or changed by hand?", ErrMalformed)
	errSecret   = fmt.Errorf("%w: its secret is no 256-bit number", ErrMalformed)

	errID = fmt.Errorf("a key's id is %d ASCII digits and letters", idLength)
)

// Key is a key in clear. However it is printed or encoded, only its id comes
// out; Reveal alone gives its text. The zero Key is no key.
type Key struct {
	// A pointer, because fmt reads the unexported fields of a struct that
	// holds a Key without asking the Key how it wants to be printed, and
	// prints an address for a pointer.
	text *string
}

// Generate makes a new key with a new id.
func Generate() Key {
	id := make([]byte, 0, idLength)
	for len(id) < idLength {
		var b [1]byte
		rand.Read(b[:]) // never fails: the runtime stops the process instead
		// Of six bits, the two values beyond the alphabet are thrown
		// away: a remainder would make some characters likelier.
		if n := b[0] & 63; int(n) < len(alphabet) {
			id = append(id, alphabet[n])
		}
	}
	return generate(string(id))
}

// GenerateWithID makes a new key with the id of the one that it replaces. The
// error is about the form of the id.
func GenerateWithID(id string) (Key, error) {
	if len(id) != idLength || !inAlphabet(id) {
		return Key{}, errID
	}
	return generate(id), nil
}

func generate(id string) Key {
	var secret [secretSize]byte
	rand.Read(secret[:])
	number := digits(secret)
	head := Prefix + id + "_" + string(number[:])
	sum := checksum(head)
	text := head + string(sum[:])
	return Key{&text}
}

// Parse reads a key exactly as it was printed: nothing is trimmed or folded.
// Its errors wrap ErrMalformed, say what is wrong and never repeat the text.
func Parse(text string) (Key, error) {
	if err := check(text); err != nil {
		return Key{}, err
	}
	return Key{&text}, nil
}

// check is Parse without the Key. It does not allocate.
func check(text string) error {
	switch {
	case !strings.HasPrefix(text, Prefix):
		return errPrefix
	case len(text) != keyLength:
		return errLength
	case text[secretAt-1] != '_' || !inAlphabet(idOf(text)) || !inAlphabet(text[secretAt:]):
		return errAlphabet
	}
	if sum := checksum(text[:sumAt]); string(sum[:]) != text[sumAt:] {
		return errChecksum
	}
	if text[secretAt:sumAt] > maxSecret {
		return errSecret
	}
	return nil
}

// idOf gives the id within the text of a key.
func idOf(text string) string { return text[idAt : idAt+idLength] }

// ID returns the public part of the key, by which its credential is found.
func (k Key) ID() string {
	if k.text == nil {
		return ""
	}
	return idOf(*k.text)
}

// Reveal returns the text of the key. It is for handing a new key to its
// owner once, and for nothing else.
func (k Key) Reveal() string {
	if k.text == nil {
		return ""
	}
	return *k.text
}

// Hash returns the digest by which the key is known to a gateway.
func (k Key) Hash() Hash { return hashOf(k.Reveal()) }

// Verifier returns the line that lets a gateway know the key.
func (k Key) Verifier() Verifier { return Verifier{ID: k.ID(), Hash: k.Hash()} }

// String returns the key without its secret.
func (k Key) String() string { return Prefix + k.ID() + "_REDACTED" }

// GoString is String, for %#v.
func (k Key) GoString() string { return k.String() }

// Format prints String whatever the verb, %x and %d included.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText returns String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON returns String, quoted.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + k.String() + `"`), nil }

// checksum is the CRC-32 of IEEE 802.3. It goes over the string itself, since
// crc32.ChecksumIEEE would have it copied to the heap.
func checksum(head string) (digits [sumLength]byte) {
	sum := ^uint32(0)
	for i := range len(head) {
		sum = crc32.IEEETable[byte(sum)^head[i]] ^ sum>>8
	}
	sum = ^sum
	for i := sumLength - 1; i >= 0; i-- {
		digits[i] = alphabet[sum%uint32(len(alphabet))]
		sum /= uint32(len(alphabet))
	}
	return digits
}

// digits writes a secret as a number of base 62.
func digits(secret [secretSize]byte) (text [secretLength]byte) {
	for i := secretLength - 1; i >= 0; i-- {
		rest := 0 // long division, a byte at a time
		for j, b := range secret {
			rest = rest<<8 | int(b)
			secret[j] = byte(rest / len(alphabet))
			rest %= len(alphabet)
		}
		text[i] = alphabet[rest]
	}
	return text
}

func inAlphabet(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
