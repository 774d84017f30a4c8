package credential

import (
	"crypto/hkdf"
	"crypto/sha256"
	"net/http"

	"github.com/scopegate/scopegate/policy"
)

// Derive returns a secret that only the holder of the presented key can make,
// and from which the key cannot be found. Each purpose has one of its own. The
// request must have been authenticated; of another one there is none.
func Derive(h http.Header, purpose string) (secret [32]byte, ok bool) {
	text, reason := bearer(h["Authorization"])
	if reason != policy.Allowed || check(text) != nil {
		return secret, false
	}
	derived, err := hkdf.Key(sha256.New, []byte(text[secretAt:sumAt]), []byte(idOf(text)), "scopegate "+purpose, len(secret))
	if err != nil {
		return secret, false
	}
	return [32]byte(derived), true
}
