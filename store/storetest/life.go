package storetest

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var life = map[string]func(t *testing.T, open Opener){
	"ends with Close":                 closes,
	"goes on after a new opening":     reopens,
	"of a call ends with its context": cancelled,
}

// calls are all that may be asked of a store, but about tokens.
func calls(s Store, c store.Credential) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Credential":  func(ctx context.Context) error { _, err := s.Credential(ctx, c.ID); return err },
		"Credentials": func(ctx context.Context) error { _, _, err := s.Credentials(ctx, store.Filter{}); return err },
		"Insert":      func(ctx context.Context) error { _, err := s.Insert(ctx, key("new", "billing", "new"), 9); return err },
		"Update":      func(ctx context.Context) error { _, err := s.Update(ctx, c); return err },
		"Used":        func(ctx context.Context) error { return s.Used(ctx, map[string]store.Use{c.ID: {At: c.Created}}) },
		"Changes":     func(ctx context.Context) error { _, err := s.Changes(ctx, 0, 0); return err },
		"Beat":        func(ctx context.Context) error { return s.Beat(ctx, replica("a", c.Created)) },
		"Replicas":    func(ctx context.Context) error { _, _, err := s.Replicas(ctx); return err },
		"Leave":       func(ctx context.Context) error { return s.Leave(ctx, "a") },
		"Acquire":     func(ctx context.Context) error { _, err := s.Acquire(ctx, "sweep", "a", time.Hour); return err },
		"Release":     func(ctx context.Context) error { return s.Release(ctx, "sweep", "a") },
		"Spend":       func(ctx context.Context) error { _, err := s.Spend(ctx, "billing", day, 9); return err },
		"Anchor":      func(ctx context.Context) error { return s.Anchor(ctx, store.Anchor{Log: "a", Day: day, Seq: 1}) },
		"Anchors":     func(ctx context.Context) error { _, err := s.Anchors(ctx, ""); return err },
		"Refund":      func(ctx context.Context) error { return s.Refund(ctx, "billing", day) },
		"Restored":    func(ctx context.Context) error { _, err := s.Restored(ctx, "restored"); return err },
		"Restoration": func(ctx context.Context) error { _, err := s.Restoration(ctx); return err },
		"Secret":      func(ctx context.Context) error { _, err := s.Secret(ctx, "stamps", []byte("a")); return err },
	}
}

// all are all that may be asked of a store, c and minted of which it has, and a
// token that is spare.
func all(s Store, c store.Credential, minted store.Token) map[string]func(ctx context.Context) error {
	list := calls(s, c)
	maps.Copy(list, tokenCalls(s, minted))
	return list
}

func tokenCalls(s Store, t store.Token) map[string]func(ctx context.Context) error {
	team := store.TokenFilter{Team: t.Team}
	return map[string]func(ctx context.Context) error{
		"Token":        func(ctx context.Context) error { _, err := s.Token(ctx, t.ID); return err },
		"TokenByNonce": func(ctx context.Context) error { _, err := s.TokenByNonce(ctx, t.Nonce); return err },
		"FindTokens":   func(ctx context.Context) error { _, err := s.FindTokens(ctx, []string{t.ID}, nil); return err },
		"Tokens":       func(ctx context.Context) error { _, _, err := s.Tokens(ctx, team); return err },
		"TeamTokenIDs": func(ctx context.Context) error { _, err := s.TeamTokenIDs(ctx, t.Team); return err },
		"InsertToken": func(ctx context.Context) error {
			_, err := s.InsertToken(ctx, token("new", "new"), store.TokenBounds{Live: 9, Day: day, PerDay: 99}, answer(1, "new"))
			return err
		},
		"UpdateToken": func(ctx context.Context) error { _, err := s.UpdateToken(ctx, t, []byte("sealed")); return err },
		"DropToken":   func(ctx context.Context) error { return s.DropToken(ctx, "spare", 1, day) },
		"DueTokens":   func(ctx context.Context) error { _, err := s.DueTokens(ctx, []string{t.State}, 9); return err },
		"MoveTokens": func(ctx context.Context) error {
			_, err := s.MoveTokens(ctx, team, t.State, "moved", "why")
			return err
		},
		"StrandedTokens": func(ctx context.Context) error { _, err := s.StrandedTokens(ctx, 9); return err },
		"TokenCounts":    func(ctx context.Context) error { _, err := s.TokenCounts(ctx, t.State); return err },
		"Answer":         func(ctx context.Context) error { _, err := s.Answer(ctx, answer(2, "").Key); return err },
		"EndRestoration": func(ctx context.Context) error { return s.EndRestoration(ctx) },
	}
}

func closes(t *testing.T, open Opener) {
	s := open(t, gateway)
	c, minted := insert(t, s, nth(1)), mint(t, s, token("nonce", "id"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the end of the hints", func() bool {
		select {
		case _, more := <-s.Hints():
			return !more
		default:
			return false
		}
	})
	for name, call := range all(s, c, minted) {
		if err := call(t.Context()); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
}

func reopens(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, full())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, gateway)
	same(t, "the row", c, fetch(t, s, c.ID))
	if next := insert(t, s, nth(1)); next.Revision <= c.Revision {
		t.Errorf("revision %d after %d", next.Revision, c.Revision)
	}
}

// A caller that gave up must not find later that it was done after all.
func cancelled(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, nth(1))
	spare := mint(t, s, token("spare", "spare"))
	minted, err := s.InsertToken(t.Context(), token("nonce", "id"), store.TokenBounds{}, answer(2, "nonce"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range all(s, c, minted) {
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, "the row", c, fetch(t, s, c.ID))
	if got := feed(t, s, 0); got.Revision != c.Revision {
		t.Errorf("changes were made: %+v", got)
	}
	if list, _ := living(t, s); len(list) != 0 {
		t.Errorf("replicas: %v", list)
	}
	if !acquire(t, s, "sweep", "b", time.Hour) {
		t.Error("a lease was taken")
	}
	list, _, err := s.Tokens(t.Context(), store.TokenFilter{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the tokens", []store.Token{minted, spare}, list)
	if n := spendable(t, s, "billing", day, 9); n != 9 {
		t.Errorf("of 9 only %d were left", n)
	}
	for name, call := range all(s, c, minted) { // and each would have worked
		if err := call(t.Context()); err != nil && !errors.Is(err, store.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
