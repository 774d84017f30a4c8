package credential_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// memory is a store that forgets. Its clock is the test's.
type memory struct {
	mu       sync.Mutex
	rows     map[string]store.Credential
	uses     map[string]store.Use
	revision int64
	asked    int // loads
	writes   int

	// err, if set, is what it answers to everything.
	err error
	// meanwhile, if set, runs before a write, as somebody else's change.
	meanwhile func()
}

func newMemory(rows ...store.Credential) *memory {
	m := &memory{rows: map[string]store.Credential{}, uses: map[string]store.Use{}}
	for _, row := range rows {
		m.put(row)
	}
	return m
}

// put writes a row past all rules.
func (m *memory) put(c store.Credential) store.Credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	c.Revision = m.revision
	if c.Changed.IsZero() {
		c.Changed = now.Add(-time.Hour)
	}
	c.Generations = slices.Clone(c.Generations)
	m.rows[c.ID] = c
	return c
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Credential(_ context.Context, id string) (store.Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.err != nil {
		return store.Credential{}, m.err
	}
	c, ok := m.rows[id]
	if !ok {
		return store.Credential{}, store.ErrNotFound
	}
	c.Generations = slices.Clone(c.Generations)
	return c, nil
}

func (m *memory) Credentials(_ context.Context, f store.Filter) (list []store.Credential, next string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, "", m.err
	}
	for _, id := range slices.Sorted(maps.Keys(m.rows)) {
		if id > f.After && (f.Team == "" || f.Team == m.rows[id].Team) {
			list = append(list, m.rows[id])
		}
	}
	if limit := cmp.Or(f.Limit, 100); len(list) > limit {
		list = list[:limit]
		next = list[limit-1].ID
	}
	return list, next, nil
}

func (m *memory) Insert(_ context.Context, c store.Credential, limit int) (store.Credential, error) {
	if m.meanwhile != nil {
		m.meanwhile()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return store.Credential{}, m.err
	}
	_, taken := m.rows[c.ID]
	live := 0
	for _, other := range m.rows {
		if other.Team != c.Team || other.State == store.Revoked || other.Static {
			continue
		}
		taken = taken || other.Name == c.Name && !c.Static
		if other.Expires.IsZero() || now.Before(other.Expires) {
			live++
		}
	}
	switch {
	case taken:
		return store.Credential{}, store.ErrExists
	case limit > 0 && live >= limit:
		return store.Credential{}, store.ErrFull
	}
	c.Created = now
	return m.write(c), nil
}

func (m *memory) Update(_ context.Context, c store.Credential) (store.Credential, error) {
	if m.meanwhile != nil {
		m.meanwhile()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return store.Credential{}, m.err
	}
	switch old, ok := m.rows[c.ID]; {
	case !ok:
		return store.Credential{}, store.ErrNotFound
	case old.Revision != c.Revision:
		return store.Credential{}, store.ErrChanged
	}
	return m.write(c), nil
}

func (m *memory) write(c store.Credential) store.Credential {
	m.writes++
	m.revision++
	c.Changed, c.Revision = now, m.revision
	c.Generations = slices.Clone(c.Generations)
	for i := range c.Generations {
		if c.Generations[i].Created.IsZero() {
			c.Generations[i].Created = now
		}
	}
	m.rows[c.ID] = c
	return c
}

func (m *memory) Used(_ context.Context, uses map[string]store.Use) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.writes++
	for id, u := range uses {
		if u.At.After(m.uses[id].At) {
			m.uses[id] = u
		}
	}
	return nil
}

// loads counts what a Cache asked the store.
type loads struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *loads) CredentialLoaded(outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == nil {
		l.n = map[string]int{}
	}
	l.n[outcome]++
}

func (l *loads) is(t *testing.T, found, unknown, failed int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := map[string]int{credential.LoadFound: found, credential.LoadUnknown: unknown, credential.LoadFailed: failed}
	for outcome, n := range want {
		if l.n[outcome] != n {
			t.Errorf("%d loads with the outcome %s, want %d", l.n[outcome], outcome, n)
		}
	}
}

// billing holds all that is about members and gateways.
var billing = &policy.Team{Name: "billing", Scopes: expand("members.*", "gateways.*")}

var teams = map[string]*policy.Team{"billing": billing}

func expand(patterns ...string) (set scopes.Set) {
	for _, p := range patterns {
		e, err := scopes.Expand(p)
		if err != nil {
			panic(err)
		}
		set = set.Union(e.Set)
	}
	return set
}

// stored is an active row of billing with keys, the oldest first.
func stored(keys ...credential.Key) store.Credential {
	c := store.Credential{Team: "billing", Name: "ci", State: "active", Created: now.Add(-time.Hour), Changed: now.Add(-time.Hour)}
	for i, k := range keys {
		c.ID = k.ID()
		c.Generations = append([]store.Generation{{Number: i + 1, Hash: k.Hash(), Created: now.Add(-time.Hour)}}, c.Generations...)
	}
	return c
}

// successors makes keys of one id.
func successors(t testing.TB, n int) []credential.Key {
	t.Helper()
	list := []credential.Key{credential.Generate()}
	for len(list) < n {
		k, err := credential.GenerateWithID(list[0].ID())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

// directory looks up in a store and behind it in a list of the configuration.
func directory(t testing.TB, m credential.Source, list ...*credential.Credential) (*credential.Directory, *credential.Cache, *loads) {
	t.Helper()
	static, err := credential.NewStatic(list)
	if err != nil {
		t.Fatal(err)
	}
	var n loads
	cache := credential.NewCache(m, &n)
	t.Cleanup(cache.ForgetAll)
	return credential.NewDirectory(cache, static, teams), cache, &n
}

func key(k credential.Key) map[string][]string { return with("Bearer " + k.Reveal()) }
