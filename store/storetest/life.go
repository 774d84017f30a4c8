package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var life = map[string]func(t *testing.T, open Opener){
	"ends with Close":                 closes,
	"goes on after a new opening":     reopens,
	"of a call ends with its context": cancelled,
}

// calls are all that may be asked of a store.
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
		"Refund":      func(ctx context.Context) error { return s.Refund(ctx, "billing", day) },
		"Restored":    func(ctx context.Context) error { _, err := s.Restored(ctx, "restored"); return err },
	}
}

func closes(t *testing.T, open Opener) {
	s := open(t, gateway)
	c := insert(t, s, nth(1))
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
	for name, call := range calls(s, c) {
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
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s, c) {
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
	if n := spendable(t, s, "billing", day, 9); n != 9 {
		t.Errorf("of 9 only %d were left", n)
	}
	for name, call := range calls(s, c) { // and each would have worked
		if err := call(t.Context()); err != nil && !errors.Is(err, store.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
