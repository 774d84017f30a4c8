package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

var secrets = map[string]func(t *testing.T, open Opener){
	"are made once":            secretsOnce,
	"are made once under load": secretsUnderLoad,
}

func secret(t *testing.T, s Store, name, candidate string) string {
	t.Helper()
	got, err := s.Secret(t.Context(), name, []byte(candidate))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func secretsOnce(t *testing.T, open Opener) {
	s := open(t, gateway)
	const first = "\x00\xff first"
	for i, s := range []Store{s, s, open(t, gateway)} {
		if got := secret(t, s, "stamps", []string{first, "second", "third"}[i]); got != first {
			t.Errorf("asked %d times, it is %q", i+1, got)
		}
	}
	if got := secret(t, s, "seals", "another"); got != "another" {
		t.Errorf("under another name: %q", got)
	}
	if got := secret(t, open(t, other), "stamps", "theirs"); got != "theirs" {
		t.Errorf("of another gateway: %q", got)
	}
}

// Replicas that start at once must not stamp with different keys.
func secretsUnderLoad(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway), open(t, gateway)}
	var found sync.Map
	atOnce(12, func(i int) {
		got, err := handles[i%3].Secret(t.Context(), "stamps", fmt.Append(nil, "candidate", i))
		if err != nil {
			t.Error(err)
		}
		found.Store(string(got), true)
	})
	n := 0
	found.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d different ones", n)
	}
}

var restorations = map[string]func(t *testing.T, open Opener){
	"last until they are ended": restorationLasts,
}

func restorationLasts(t *testing.T, open Opener) {
	s := open(t, gateway)
	since := func(s Store) time.Time {
		t.Helper()
		at, err := s.Restoration(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	end := func() {
		t.Helper()
		if err := s.EndRestoration(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	end() // before there is anything
	if at := since(s); !at.IsZero() {
		t.Errorf("a new store was restored at %v", at)
	}
	insert(t, s, nth(1))
	if at := since(s); !at.IsZero() {
		t.Errorf("never restored, and so at %v", at)
	}
	before := feed(t, s, 0).Now
	if _, err := s.Restored(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	if at := since(open(t, gateway)); at.Before(before) || at.After(feed(t, s, 0).Now) || at.Location() != time.UTC {
		t.Errorf("restored at %v, after %v", at, before)
	}
	if at := since(open(t, other)); !at.IsZero() {
		t.Errorf("another gateway was restored at %v", at)
	}
	revision := feed(t, s, 0).Revision
	end()
	if at := since(s); !at.IsZero() {
		t.Errorf("it was ended, and is of %v", at)
	}
	if got := feed(t, s, 0).Revision; got != revision {
		t.Errorf("the end is a change: revision %d after %d", got, revision)
	}
}
