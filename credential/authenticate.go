package credential

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// Authenticator tells who sent a request.
type Authenticator struct{ known Lookup }

// NewAuthenticator returns an Authenticator over the credentials of a Lookup.
func NewAuthenticator(known Lookup) *Authenticator { return &Authenticator{known} }

// decoy stands in for the credential of an unknown id.
var decoy Credential

// Authenticate reads a request's headers and its raw query and returns the
// caller's credential and policy.Allowed, or the reason for which the request
// has none. A credential that was proven but is not in force comes back too,
// so that a record can name it: only the reason says whether to go on.
//
// One `Authorization: Bearer` is the only place for a key. A key anywhere
// else refuses the request, good Authorization or not: queries and other
// headers end up in logs, and a caller whose mistake goes unpunished keeps
// making it. Authenticate does not allocate.
func (a *Authenticator) Authenticate(h http.Header, rawQuery string, now time.Time) (*Credential, policy.Reason) {
	if misplaced(h, rawQuery) {
		return nil, policy.MisplacedCredential
	}
	text, reason := bearer(h["Authorization"])
	if reason != policy.Allowed {
		return nil, reason
	}
	if check(text) != nil {
		return nil, policy.MalformedCredential
	}
	c, found := a.known.Find(idOf(text))
	if !found {
		c = &decoy
	}
	if !proves(text, c) || !found {
		return nil, policy.UnknownCredential
	}
	return c, c.Standing(now)
}

// proves reports whether a key is one of the credential's. It does the same
// work whether the credential is real or the decoy, has one key or two, and
// which of them is right, so that time tells nobody that an id exists.
func proves(text string, c *Credential) bool {
	hash, right := hashOf(text), 0
	for i := range max(len(c.Verifiers), MaxVerifiers) {
		var v Verifier // the hash of no key
		if i < len(c.Verifiers) {
			v = c.Verifiers[i]
		}
		right |= v.knows(hash)
	}
	return right == 1
}

// bearer takes the key out of the Authorization headers (RFC 6750, section
// 2.1). Two of them are refused even if equal: which one counts is a question
// that two programs may answer differently. So is a list with commas, which
// is what some proxies make of two headers.
func bearer(values []string) (string, policy.Reason) {
	if len(values) == 0 {
		return "", policy.NoCredential
	}
	if len(values) > 1 {
		return "", policy.MultipleCredentials
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	isBearer := strings.EqualFold(scheme, "Bearer")
	if strings.Contains(values[0], ",") && (isBearer || holdsKey(values[0])) {
		return "", policy.MultipleCredentials
	}
	if !isBearer {
		return "", policy.NoCredential
	}
	return strings.TrimLeft(text, " "), policy.Allowed
}

// misplaced reports whether there is a key where none belongs.
func misplaced(h http.Header, rawQuery string) bool {
	if holdsKey(rawQuery) {
		return true
	}
	for name, values := range h {
		if name == "Authorization" {
			continue
		}
		if slices.ContainsFunc(values, holdsKey) {
			return true
		}
	}
	return false
}

// holdsKey reports whether a key begins somewhere in s, plain or with any of
// its characters percent-encoded.
func holdsKey(s string) bool {
	if strings.Contains(s, Prefix) {
		return true
	}
	if !strings.Contains(s, "%") {
		return false
	}
	matched := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		switch c {
		case Prefix[matched]:
			if matched++; matched == len(Prefix) {
				return true
			}
		case Prefix[0]: // occurs nowhere else in Prefix
			matched = 1
		default:
			matched = 0
		}
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
