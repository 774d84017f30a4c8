package tokens

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// A stamp ends the name that a token has at upstream:
//
//	-sg-<gateway>-<team>-<nonce>-<mac>
//
// The gateway is 8 characters, the team's hash 8, the nonce 20 and the MAC 16,
// each of a-z2-7. It tells people in GoodAccess's console where a token comes
// from, and lets a token be found again whose id never arrived here.
const (
	stampPrefix = "-sg-"

	gatewayLength = 8  // 40 bits
	teamLength    = 8  // 40 bits
	nonceLength   = 20 // 96 bits, and 4 that are 0
	macLength     = 16 // 80 bits

	// StampLength is how many characters a stamp adds to a name.
	StampLength = len(stampPrefix) + gatewayLength + 1 + teamLength + 1 + nonceLength + 1 + macLength
)

var (
	letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

	// Upper case too: who reads names carelessly would take it for a stamp. Not
	// (?i), which takes letters beyond ASCII for s and k.
	stampForm = regexp.MustCompile(fmt.Sprintf(`^-[sS][gG]-%[1]s{%[2]d}-%[1]s{%[3]d}-%[1]s{%[4]d}-%[1]s{%[5]d}$`,
		"[A-Za-z2-7]", gatewayLength, teamLength, nonceLength, macLength))
)

// NewNonce returns 96 random bits as they stand in a stamp.
func NewNonce() string {
	var b [12]byte
	rand.Read(b[:]) // never fails: the runtime stops the process instead
	return letters.EncodeToString(b[:])
}

// NewGatewayID returns a random id of a gateway, as it stands in a stamp.
func NewGatewayID() string {
	var b [5]byte
	rand.Read(b[:])
	return letters.EncodeToString(b[:])
}

// StampKey is what stamps are made with. Who has it can make a token look as
// though this gateway had made it. It prints as nothing.
type StampKey struct{ key *[sha256.Size]byte }

// minStampKey is the length of the shortest key, in bytes.
const minStampKey = 16

// NewStampKey makes a key of a secret text or bytes.
func NewStampKey(secret []byte) (StampKey, error) {
	if len(secret) < minStampKey {
		return StampKey{}, fmt.Errorf("a stamp key has at least %d bytes", minStampKey)
	}
	sum := sha256.Sum256(secret)
	return StampKey{&sum}, nil
}

// Format prints that it is a key, whatever the verb.
func (StampKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "StampKey(REDACTED)") }

// MarshalText returns what Format prints.
func (StampKey) MarshalText() ([]byte, error) { return []byte("StampKey(REDACTED)"), nil }

// Derive returns a key for another purpose, which must be named.
func (k StampKey) Derive(purpose string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.key[:])
	_, _ = io.WriteString(mac, "scopegate "+purpose)
	return [sha256.Size]byte(mac.Sum(nil))
}

// Stamper makes and knows the stamps of one gateway.
type Stamper struct {
	gateway string
	key     [sha256.Size]byte
}

// NewStamper returns the Stamper of a gateway, whose id is one of NewGatewayID.
func NewStamper(gateway string, key StampKey) (*Stamper, error) {
	if len(gateway) != gatewayLength || strings.Trim(gateway, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return nil, fmt.Errorf("the gateway's id is not %d characters of a-z2-7", gatewayLength)
	}
	if key.key == nil {
		return nil, errors.New("no stamp key")
	}
	return &Stamper{gateway, key.Derive("stamp")}, nil
}

// Format leaves the key out, of a copy too.
func (s Stamper) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "Stamper("+s.gateway+")")
}

// Stamp returns the name with its stamp.
func (s *Stamper) Stamp(team, nonce, name string) string {
	head := stampPrefix + s.gateway + "-" + teamHash(team) + "-" + nonce + "-"
	return name + head + s.mac(name+head)
}

// Stamp is what a stamp says.
type Stamp struct{ Gateway, Team, Nonce string }

// Read reads the stamp at the end of a name. It is genuine if this gateway
// made it, for this very name.
func (s *Stamper) Read(name string) (stamp Stamp, genuine bool) {
	if !LooksStamped(name) {
		return Stamp{}, false
	}
	at := len(name) - macLength
	head, mac := name[:at], name[at:]
	parts := strings.Split(name[len(name)-StampLength+len(stampPrefix):], "-")
	stamp = Stamp{Gateway: parts[0], Team: parts[1], Nonce: parts[2]}
	right := subtle.ConstantTimeCompare([]byte(mac), []byte(s.mac(head))) == 1
	return stamp, right && stamp.Gateway == s.gateway
}

// mac is over all that stands before it, so that no stamp can be put behind
// another name.
func (s *Stamper) mac(head string) string {
	mac := hmac.New(sha256.New, s.key[:])
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(head)))
	mac.Write(length[:])
	_, _ = io.WriteString(mac, head)
	return letters.EncodeToString(mac.Sum(nil)[:10])
}

// teamHash keeps team names, which may be long and tell much, out of the names
// that everybody in the console sees.
func teamHash(team string) string {
	sum := sha256.Sum256([]byte("scopegate team " + team))
	return letters.EncodeToString(sum[:5])
}

// LooksStamped reports whether a name ends as a stamp does, genuine or not.
func LooksStamped(name string) bool {
	at := len(name) - StampLength
	return at >= 0 && stampForm.MatchString(name[at:])
}

// Unstamped returns a name without the stamp that it ends in, if it does.
func Unstamped(name string) string {
	if !LooksStamped(name) {
		return name
	}
	return name[:len(name)-StampLength]
}
