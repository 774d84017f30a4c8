package scopegate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
)

// answersLast is for how long a mint with an idempotency key is answered as it
// was the first time.
const answersLast = 24 * time.Hour

// maxIdempotencyKey is the length of the longest key, in characters.
const maxIdempotencyKey = 255

// idempotent is a mint that may be asked for again. Its first answer, which
// holds the token, is kept under a key that only its caller can make: whoever
// reads the store, the gateway itself included, cannot open it.
type idempotent struct {
	id         [32]byte // of the credential and its idempotency key
	body       [32]byte // a MAC of what was asked for
	generation int
	until      time.Time
	seals      cipher.AEAD

	first *mintAnswer // once it is known
	made  store.Token // by the first
}

// mintAnswer is what the caller of a mint is given.
type mintAnswer struct {
	Status      int      `json:"status"`
	ContentType string   `json:"content_type"`
	Clamped     []string `json:"clamped,omitempty"`
	Body        []byte   `json:"body"`
}

// idempotency reads the request's key, and the first answer to it. The request
// has been decided as any other before: what a caller may no longer be given,
// it is not given again.
func (q *request) idempotency() (*idempotent, *refusal) {
	values := q.r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > 1 || !isIdempotencyKey(values[0]) {
		return nil, &refusal{
			reason: policy.MintInvalid, field: "Idempotency-Key",
			detail: "Idempotency-Key: expected one of 1 to 255 visible ASCII characters, such as a UUID.",
		}
	}
	again, err := q.newIdempotent(values[0])
	if err != nil {
		return nil, refuse(policy.StoreUnavailable)
	}
	known, err := q.g.room.rows.Answer(q.r.Context(), again.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return again, nil
	case err != nil:
		return nil, refuse(policy.StoreUnavailable)
	}
	return again, q.answeredBefore(again, known)
}

func isIdempotencyKey(text string) bool {
	if text == "" || len(text) > maxIdempotencyKey {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (q *request) newIdempotent(key string) (*idempotent, error) {
	secret, ok := credential.Derive(q.r.Header, "idempotent mints of "+q.g.Name)
	if !ok {
		return nil, errors.New("the request has no key")
	}
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		return nil, err
	}
	again := &idempotent{generation: q.caller.Generation, until: q.g.room.member.Now().Add(answersLast)}
	if again.seals, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	again.id = macOf(q.g.answers[:], q.caller.Identity.Credential, key)
	again.body = macOf(secret[:], key, string(q.shaped.asked))
	return again, nil
}

func macOf(key []byte, texts ...string) [32]byte {
	mac := hmac.New(sha256.New, key)
	for _, text := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		mac.Write(length[:])
		mac.Write([]byte(text))
	}
	return [32]byte(mac.Sum(nil))
}

// answeredBefore holds a request against the one that had its key before.
func (q *request) answeredBefore(again *idempotent, known store.Answer) *refusal {
	conflict := func(detail string) *refusal { return refuseWith(policy.IdempotencyConflict, detail) }
	switch {
	case known.Generation != again.generation:
		return conflict("The credential was rotated since, and the answer can no longer be read.")
	case !hmac.Equal(known.Body[:], again.body[:]):
		return refuse(policy.IdempotencyMismatch)
	case known.Sealed == nil:
		return conflict("The first request is under way, or its reply was lost; a token that it made is deleted.")
	}
	row, err := q.g.room.ledger.Nonce(q.r.Context(), known.Nonce)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return refuse(policy.StoreUnavailable)
	case err != nil, row.State != ledger.Live:
		return conflict("The token that the first request made is no longer live.")
	case !grantedToday(row, q.shaped.mint):
		return conflict("The token that the first request made is more than the grant allows today.")
	}
	first, err := again.open(known.Sealed)
	if err != nil {
		return conflict("The first answer cannot be read.")
	}
	again.first, again.made = first, row
	return nil
}

// grantedToday reports whether a token would be made in the same way, or wider,
// if it were made now.
func grantedToday(row store.Token, today *tokens.Mint) bool {
	for _, name := range row.Scopes {
		s, err := scopes.Parse(name)
		if err != nil || !today.Scopes.Has(s) {
			return false
		}
	}
	allowed := map[string]bool{}
	for _, ip := range today.AllowedIPs {
		allowed[ip] = true
	}
	for _, ip := range row.AllowedIPs {
		if !allowed[ip] {
			return false
		}
	}
	return !row.Expires.After(today.Expires)
}

// answered reports whether the first answer is there.
func (i *idempotent) answered() bool { return i != nil && i.first != nil }

// row is what is kept from when the mint begins.
func (i *idempotent) row(nonce string) *store.Answer {
	if i == nil {
		return nil
	}
	return &store.Answer{Key: i.id, Nonce: nonce, Generation: i.generation, Body: i.body, Until: i.until}
}

// seal is what is kept of an answer.
func (i *idempotent) seal(first *mintAnswer) []byte {
	if i == nil {
		return nil
	}
	return i.seals.Seal(nil, nil, encode(first), i.id[:]) //nolint:gosec // it makes a random nonce itself
}

func (i *idempotent) open(sealed []byte) (*mintAnswer, error) {
	plain, err := i.seals.Open(nil, nil, sealed, i.id[:])
	if err != nil {
		return nil, err
	}
	first := new(mintAnswer)
	return first, json.Unmarshal(plain, first)
}

// answerAgain answers a mint as it was answered before.
func (q *request) answerAgain() *refusal {
	if no := q.stands(); no != nil {
		return no // it may have taken its caller long to send the body
	}
	first, made := q.owned.again.first, &q.owned.again.made
	// On record is what it made, not what would be made now.
	q.record.TokenID, q.record.Note = made.ID, "answered as before"
	q.record.GrantedScopes, q.record.AllowedIPs = made.Scopes, made.AllowedIPs
	q.record.ExpiresAt, q.record.Clamped = made.ExpiresAt, first.Clamped
	return q.answerHere(func() bool {
		q.w.Header()["Idempotency-Replayed"] = []string{"true"}
		return q.handOut(first)
	})
}
