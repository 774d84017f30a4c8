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

// Authenticate reads a request's headers and its raw query, and writes the
// caller's credential to into. It returns policy.Allowed, or the reason for
// which the caller may not go on. A credential that was proven but is not in
// force is written too, so that a record can name it: only the reason says
// whether to go on. Of one that was not proven nothing is left in into.
//
// One `Authorization: Bearer` is the only place for a key. A key anywhere
// else refuses the request, good Authorization or not: queries and other
// headers end up in logs, and a caller whose mistake goes unpunished keeps
// making it. Authenticate does not allocate; its Lookup may.
func (a *Authenticator) Authenticate(h http.Header, rawQuery string, now time.Time, into *Credential) policy.Reason {
	reason := a.authenticate(h, rawQuery, now, into)
	if !proven(reason) {
		*into = Credential{}
	}
	return reason
}

func (a *Authenticator) authenticate(h http.Header, rawQuery string, now time.Time, into *Credential) policy.Reason {
	if misplaced(h, rawQuery) {
		return policy.MisplacedCredential
	}
	text, reason := bearer(h["Authorization"])
	if reason != policy.Allowed {
		return reason
	}
	if check(text) != nil {
		return policy.MalformedCredential
	}
	found, err := a.known.Find(idOf(text), into)
	if err != nil {
		return policy.StoreUnavailable
	}
	// Of an unknown id, too: time tells nobody that an id exists.
	reason = into.prove(hashOf(text), now)
	if found == Unknown {
		return policy.UnknownCredential
	}
	return reason
}

// proven reports whether a reason is told to the holder of a key alone.
func proven(r policy.Reason) bool {
	switch r {
	case policy.Allowed, policy.CredentialSuspended, policy.CredentialRevoked, policy.CredentialExpired,
		policy.CredentialNotYetValid, policy.CredentialRetired, policy.TeamGone:
		return true
	default:
		return false
	}
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
