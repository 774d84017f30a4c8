// Package storetest is the suite that every implementation of a store passes.
// It decides what a store promises to credential, ledger and fleet; it never looks
// below the methods that they call.
package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/store"
)

// Store is all that an implementation offers. What each method promises is
// said by the tests here that hold it to that.
type Store interface {
	Close() error

	Credential(ctx context.Context, id string) (store.Credential, error)
	Credentials(ctx context.Context, f store.Filter) (list []store.Credential, next string, err error)
	Insert(ctx context.Context, c store.Credential, limit int) (store.Credential, error)
	Update(ctx context.Context, c store.Credential) (store.Credential, error)
	Used(ctx context.Context, uses map[string]store.Use) error

	Changes(ctx context.Context, since int64, limit int) (store.Changes, error)
	Hints() <-chan struct{}

	Beat(ctx context.Context, r store.Replica) error
	Replicas(ctx context.Context) (list []store.Replica, now time.Time, err error)
	Leave(ctx context.Context, id string) error

	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error

	Spend(ctx context.Context, team, period string, limit int) (bool, error)
	Refund(ctx context.Context, team, period string) error

	Anchor(ctx context.Context, a store.Anchor) error
	Anchors(ctx context.Context, log string) ([]store.Anchor, error)

	Restored(ctx context.Context, note string) (int, error)
	Restoration(ctx context.Context) (time.Time, error)
	EndRestoration(ctx context.Context) error

	Token(ctx context.Context, id string) (store.Token, error)
	TokenByNonce(ctx context.Context, nonce string) (store.Token, error)
	FindTokens(ctx context.Context, ids, nonces []string) ([]store.Token, error)
	Tokens(ctx context.Context, f store.TokenFilter) (list []store.Token, next string, err error)
	TeamTokenIDs(ctx context.Context, team string) ([]string, error)
	InsertToken(ctx context.Context, t store.Token, b store.TokenBounds, a *store.Answer) (store.Token, error)
	UpdateToken(ctx context.Context, t store.Token, sealed []byte) (store.Token, error)
	DropToken(ctx context.Context, nonce string, version int64, day string) error

	DueTokens(ctx context.Context, states []string, limit int) ([]store.Token, error)
	MoveTokens(ctx context.Context, f store.TokenFilter, from, to, cause string) (int, error)
	StrandedTokens(ctx context.Context, limit int) ([]store.Token, error)
	TokenCounts(ctx context.Context, aged string) ([]store.TokenCount, error)

	Answer(ctx context.Context, key [32]byte) (store.Answer, error)
	Secret(ctx context.Context, name string, candidate []byte) ([]byte, error)
}

// Opener opens a store for a gateway. All that it opens within one test are
// handles on one database, which was empty when the test began. The test's
// cleanup closes them; a second Close does nothing.
type Opener = func(t *testing.T, gateway string) Store

// The gateway that a test is about, and one that shares its database.
const (
	gateway = "default"
	other   = "staging"
)

// Run puts an implementation through the suite.
func Run(t *testing.T, open Opener) {
	t.Helper()
	groups := []struct {
		name  string
		tests map[string]func(t *testing.T, open Opener)
	}{
		{"credentials", credentials},
		{"updates", updates},
		{"uses", uses},
		{"pages", pages},
		{"changes", changes},
		{"replicas", replicas},
		{"leases", leases},
		{"counts", counts},
		{"anchors", anchors},
		{"tokens", tokens},
		{"mints", mints},
		{"answers", answers},
		{"debts", debts},
		{"secrets", secrets},
		{"restorations", restorations},
		{"life", life},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) { test(t, open) })
			}
		})
	}
}

// key is an active credential with one generation.
func key(id, team, name string) store.Credential {
	return store.Credential{
		ID: id, Team: team, Name: name, State: "active", CreatedBy: "ops",
		Generations: []store.Generation{{Number: 1, Hash: [32]byte{1, 2, 3}}},
	}
}

// nth is a credential like any other, of which a test needs many.
func nth(n int) store.Credential {
	return key(fmt.Sprintf("id%010d", n), "billing", fmt.Sprintf("key-%d", n))
}

// insert stores a credential that must have its place.
func insert(t *testing.T, s Store, c store.Credential) store.Credential {
	t.Helper()
	made, err := s.Insert(t.Context(), c, 0)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// fetch returns a row that must be there.
func fetch(t *testing.T, s Store, id string) store.Credential {
	t.Helper()
	c, err := s.Credential(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// feed returns the changes behind a revision.
func feed(t *testing.T, s Store, since int64) store.Changes {
	t.Helper()
	c, err := s.Changes(t.Context(), since, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// same compares rows. Lists that are empty and lists that are not there differ.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// ids are those of a page.
func ids(page []store.Credential) []string {
	list := []string{}
	for _, c := range page {
		list = append(list, c.ID)
	}
	return list
}

// atOnce calls f n times at once and waits for all.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

// eventually waits for what a store does in its own time.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		}
	}
}
