package credential_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// office is a Registry over a store, with what it had recorded.
type office struct {
	*credential.Registry
	m *memory

	mu      sync.Mutex
	changes []credential.Change
	full    error // what recording answers
}

var rules = map[string]credential.Rules{
	"billing": {Team: billing},
	"ops": {
		Team:   &policy.Team{Name: "ops", Scopes: expand("devices.*"), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		MaxTTL: 24 * time.Hour, MaxCredentials: 2,
	},
}

// newOffice has a credential "line" of billing in its configuration.
func newOffice(t testing.TB, line credential.Key, rows ...store.Credential) *office {
	t.Helper()
	c := holder("billing", "line", line)
	c.Identity.Team, c.Identity.Scopes = billing, expand("members.read")
	return officeWith(t, []*credential.Credential{c}, rows...)
}

func officeWith(t testing.TB, lines []*credential.Credential, rows ...store.Credential) *office {
	t.Helper()
	static, err := credential.NewStatic(lines)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{m: newMemory(rows...)}
	o.Registry = credential.NewRegistry(o.m, static, rules, func(c credential.Change) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.full == nil {
			o.changes = append(o.changes, c)
		}
		return o.full
	}, func() time.Time { return now })
	return o
}

// kinds are the changes that were recorded.
func (o *office) kinds() (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.changes {
		list = append(list, c.Kind)
	}
	return list
}

func refusedAt(err error) string {
	var no *credential.Refused
	if !errors.As(err, &no) {
		return ""
	}
	return no.Field
}

// No record, no change.
func TestNothingChangesUnrecorded(t *testing.T) {
	active, suspended := stored(credential.Generate()), stored(credential.Generate())
	active.Expires, suspended.State, suspended.Name = now.Add(time.Hour), "suspended", "cd"
	line := credential.Generate()
	o := newOffice(t, line, active, suspended)
	o.full = errors.New("the disk is full")
	edit := credential.Edit{}
	for name, change := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			_, _, err := o.Create(ctx, credential.New{Team: "billing", Name: "x"})
			return err
		},
		"rotate": func(ctx context.Context) error {
			_, _, err := o.Rotate(ctx, active.ID, credential.Rotation{})
			return err
		},
		"suspend": func(ctx context.Context) error { _, err := o.Suspend(ctx, active.ID, edit); return err },
		"line":    func(ctx context.Context) error { _, err := o.Suspend(ctx, line.ID(), edit); return err },
		"resume":  func(ctx context.Context) error { _, err := o.Resume(ctx, suspended.ID, edit); return err },
		"revoke":  func(ctx context.Context) error { _, err := o.Revoke(ctx, active.ID, edit); return err },
		"lock":    func(ctx context.Context) error { _, err := o.Lock(ctx, active.ID, ""); return err },
		"extend": func(ctx context.Context) error {
			_, err := o.Extend(ctx, active.ID, edit, credential.Extension{TTL: 2 * time.Hour})
			return err
		},
		"narrow": func(ctx context.Context) error {
			_, err := o.Narrow(ctx, active.ID, edit, credential.Narrowing{Scopes: []string{"members.read"}})
			return err
		},
	} {
		if err := change(t.Context()); !errors.Is(err, o.full) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o.m.writes != 0 {
		t.Errorf("%d writes", o.m.writes)
	}
}

func TestChangesRejectWhatIsNoID(t *testing.T) {
	o := newOffice(t, credential.Generate())
	gone := credential.Generate().ID()
	for id, field := range map[string]string{"": "id", goodKey: "id", "short": "id", "0123456789A/": "id", gone: ""} {
		for name, change := range map[string]func() error{
			"rotate":  func() error { _, _, err := o.Rotate(t.Context(), id, credential.Rotation{}); return err },
			"suspend": func() error { _, err := o.Suspend(t.Context(), id, credential.Edit{}); return err },
			"revoke":  func() error { _, err := o.Revoke(t.Context(), id, credential.Edit{}); return err },
			"end":     func() error { _, err := o.End(t.Context(), id, 1, ""); return err },
			"show":    func() error { _, err := o.Show(t.Context(), id); return err },
		} {
			err := change()
			if err == nil || refusedAt(err) != field || (field == "") != errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s %q: %v", name, id, err)
			}
			if strings.Contains(err.Error(), goodKey[4:16]) {
				t.Errorf("error %q repeats a key", err)
			}
		}
	}
	if _, err := o.Revoke(t.Context(), gone, credential.Edit{Note: goodKey}); refusedAt(err) != "note" {
		t.Errorf("a key in a note: %v", err)
	}
}

func TestShowAndList(t *testing.T) {
	line := credential.Generate()
	row := stored(credential.Generate())
	o := newOffice(t, line, row)
	got, err := o.Show(t.Context(), row.ID)
	if err != nil || got.Name != "ci" || got.Static {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = o.Show(t.Context(), line.ID())
	want := store.Credential{ID: line.ID(), Team: "billing", Name: "line", State: "active", Static: true, Scopes: []string{"members.read"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := o.Suspend(t.Context(), line.ID(), credential.Edit{Note: "why"}); err != nil {
		t.Fatal(err)
	}
	if got, err = o.Show(t.Context(), line.ID()); err != nil || got.State != "suspended" || got.Note != "why" || got.Revision == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	list, next, err := o.List(t.Context(), store.Filter{Limit: 1})
	if err != nil || len(list) != 1 || next != list[0].ID {
		t.Errorf("%v, %q, %v", list, next, err)
	}
	rest, next, err := o.List(t.Context(), store.Filter{After: next})
	ids := []string{list[0].ID, rest[0].ID}
	if err != nil || next != "" || !slices.Equal(ids, slices.Sorted(maps.Keys(o.m.rows))) {
		t.Errorf("%v, %q, %v", ids, next, err)
	}
	if _, _, err := o.List(t.Context(), store.Filter{States: []string{"dead"}}); refusedAt(err) != "state" {
		t.Errorf("no state: %v", err)
	}
	away := errors.New("no route to host")
	o.m.fail(away)
	if _, _, err := o.List(t.Context(), store.Filter{}); !errors.Is(err, away) {
		t.Error(err)
	}
	if _, err := o.Show(t.Context(), line.ID()); !errors.Is(err, away) {
		t.Errorf("nobody knows the state of a line: %v", err)
	}
}

// A change that lost to another one is made on what that one left, and only
// recorded again if it is then another one. With a revision to insist on it
// fails.
func TestChangesInTheMeantime(t *testing.T) {
	row := stored(credential.Generate())
	o := newOffice(t, credential.Generate(), row)
	times := 0
	o.m.meanwhile = func() {
		if times++; times == 1 {
			other := row
			other.Note = "somebody else's"
			o.m.put(other)
		}
	}
	got, err := o.Narrow(t.Context(), row.ID, credential.Edit{}, credential.Narrowing{Scopes: []string{"members.read"}})
	if err != nil || got.Note != "somebody else's" || !slices.Equal(got.Scopes, []string{"members.read"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"narrow"}, o.kinds()); diff != "" {
		t.Error(diff)
	}

	if _, err = o.Suspend(t.Context(), row.ID, credential.Edit{If: got.Revision - 1}); !errors.Is(err, store.ErrChanged) || refusedAt(err) != "" {
		t.Errorf("another revision: %v", err)
	}
	o.m.meanwhile = func() { o.m.put(row) }
	if _, err = o.Suspend(t.Context(), row.ID, credential.Edit{If: got.Revision}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("changed between: %v", err)
	}
	if _, err = o.Suspend(t.Context(), row.ID, credential.Edit{}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("changed all the time: %v", err)
	}
	o.m.meanwhile = nil
	if got, err = o.Show(t.Context(), row.ID); err != nil || got.State != "active" {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = o.Suspend(t.Context(), row.ID, credential.Edit{If: got.Revision}); err != nil || got.State != "suspended" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Many who change one credential at once: no change is lost, and no two make
// the same key.
func TestManyChangeOneCredential(t *testing.T) {
	row := stored(credential.Generate())
	row.Expires = now.Add(time.Hour)
	o := newOffice(t, credential.Generate(), row)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[[32]byte]bool{}
	for range 6 {
		wg.Go(func() {
			_, k, err := o.Rotate(context.Background(), row.ID, credential.Rotation{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if !errors.Is(err, store.ErrChanged) {
					t.Error(err)
				}
				return
			}
			made[k.Hash()] = true
		})
	}
	wg.Wait()
	got, err := o.Show(t.Context(), row.ID)
	if err != nil || len(got.Generations) != len(made)+1 || len(made) == 0 {
		t.Fatalf("%d keys of %d rotations, %v", len(got.Generations), len(made), err)
	}
	for i, g := range got.Generations {
		if g.Number != len(made)+1-i || i > 0 && g.Ends.IsZero() || g.Number > 1 && !made[g.Hash] {
			t.Errorf("key %d: %+v", i, g)
		}
	}
}
