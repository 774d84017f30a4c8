package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var answers = map[string]func(t *testing.T, open Opener){
	"come back as they were stored": answerRoundTrip,
	"are known with the token":      answerWithToken,
	"run out":                       answersRunOut,
	"are of their gateway":          answerGateways,
}

// answer is one that is to be kept for an hour.
func answer(key byte, nonce string) *store.Answer {
	return &store.Answer{
		Key: [32]byte{key, 31: key}, Nonce: nonce, Generation: 3, Body: [32]byte{255, 31: key},
		Until: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond),
	}
}

// promised returns an answer that must be there.
func promised(t *testing.T, s Store, key byte) store.Answer {
	t.Helper()
	got, err := s.Answer(t.Context(), answer(key, "").Key)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// mintFor stores a token with the promise of an answer.
func mintFor(t *testing.T, s Store, nonce string, a *store.Answer) store.Token {
	t.Helper()
	made, err := s.InsertToken(t.Context(), token(nonce, ""), store.TokenBounds{}, a)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func answerRoundTrip(t *testing.T, open Opener) {
	s := open(t, gateway)
	want := answer(1, "nonce")
	sealedTooEarly := *want
	sealedTooEarly.Sealed = []byte("early")
	mintFor(t, s, "nonce", &sealedTooEarly)
	same(t, "the answer", *want, promised(t, open(t, gateway), 1))
	if got, err := s.Answer(t.Context(), [32]byte{1}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another key: %+v, %v", got, err)
	}
}

func answerWithToken(t *testing.T, open Opener) {
	s := open(t, gateway)
	row := mintFor(t, s, "nonce", answer(1, "nonce"))
	mintFor(t, s, "other", answer(2, "other"))
	row, err := s.UpdateToken(t.Context(), row, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := promised(t, s, 1); got.Sealed != nil {
		t.Errorf("nothing was answered, and there is %q", got.Sealed)
	}
	stale := row
	stale.Version--
	if _, err := s.UpdateToken(t.Context(), stale, []byte("stale")); !errors.Is(err, store.ErrChanged) {
		t.Errorf("%v", err)
	}
	if got := promised(t, s, 1); got.Sealed != nil {
		t.Errorf("the change was refused, and there is the answer %q", got.Sealed)
	}
	sealed := bytes.Repeat([]byte{0, 255, 'a'}, 1000)
	if row, err = s.UpdateToken(t.Context(), row, sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateToken(t.Context(), row, nil); err != nil {
		t.Fatal(err)
	}
	want := *answer(1, "nonce")
	want.Sealed, want.Until = sealed, promised(t, s, 1).Until
	same(t, "the answer", want, promised(t, s, 1))
	if got := promised(t, s, 2); got.Sealed != nil {
		t.Errorf("another request has the answer %q", got.Sealed)
	}

	// One that nobody waits for is no error.
	if _, err := s.UpdateToken(t.Context(), mint(t, s, token("without", "")), []byte("sealed")); err != nil {
		t.Error(err)
	}
}

func answersRunOut(t *testing.T, open Opener) {
	s := open(t, gateway)
	now := feed(t, s, 0).Now
	past := answer(1, "first")
	past.Until = now.Add(-time.Microsecond)
	row := mintFor(t, s, "first", past)
	if _, err := s.UpdateToken(t.Context(), row, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Answer(t.Context(), past.Key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it ran out, and there is %+v, %v", got, err)
	}
	want := answer(1, "second")
	want.Generation, want.Body = 4, [32]byte{9}
	mintFor(t, s, "second", want)
	same(t, "the answer of the request that took its place", *want, promised(t, s, 1))
	if _, err := s.TokenByNonce(t.Context(), "first"); err != nil {
		t.Errorf("its token: %v", err)
	}
	if _, err := s.InsertToken(t.Context(), token("third", ""), store.TokenBounds{}, answer(1, "third")); !errors.Is(err, store.ErrExists) {
		t.Errorf("a key that is taken: %v", err)
	}
}

func answerGateways(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	mintFor(t, s, "nonce", answer(1, "nonce"))
	if got, err := o.Answer(t.Context(), answer(1, "").Key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's answer is found: %+v, %v", got, err)
	}
	theirs := mintFor(t, o, "nonce", answer(1, "nonce"))
	if _, err := o.UpdateToken(t.Context(), theirs, []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if got := promised(t, s, 1); got.Sealed != nil {
		t.Errorf("another gateway's answer is told: %q", got.Sealed)
	}
}
