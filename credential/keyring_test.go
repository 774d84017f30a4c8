package credential_test

import (
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// Which keys of a credential work. Each row lists the ends of its keys, the
// oldest first, and for each key what comes of it.
func TestKeysWorkUntilTheyEnd(t *testing.T) {
	const (
		ok      = policy.Allowed
		retired = policy.CredentialRetired
	)
	none, past, later := time.Time{}, now.Add(-2*time.Hour), now.Add(time.Hour)
	tests := []struct {
		name string
		ends []time.Time
		want []policy.Reason
	}{
		{"one", []time.Time{none}, []policy.Reason{ok}},
		{"overlap", []time.Time{later, none}, []policy.Reason{ok, ok}},
		{"ends this instant", []time.Time{now, none}, []policy.Reason{retired, ok}},
		{"ends in the next one", []time.Time{now.Add(time.Microsecond), none}, []policy.Reason{ok, ok}},
		{"ended", []time.Time{past, none}, []policy.Reason{retired, ok}},
		{"until used", []time.Time{none, none}, []policy.Reason{ok, ok}},
		// By the rules there is no such row. Of three the oldest is retired,
		// and the newest has no life of its own.
		{"three", []time.Time{none, none, none}, []policy.Reason{retired, ok, ok}},
		{"three, one ended", []time.Time{later, past, none}, []policy.Reason{retired, retired, ok}},
		{"the newest ended", []time.Time{none, past}, []policy.Reason{ok, retired}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys := successors(t, len(tt.ends))
			row := stored(keys...)
			for i, ends := range tt.ends {
				row.Generations[len(keys)-1-i].Ends = ends
			}
			d, _, _ := directory(t, newMemory(row))
			a := credential.NewAuthenticator(d)
			for i, k := range keys {
				c, reason := ask(a, key(k), "")
				if reason != tt.want[i] || c.Generation != i+1 || !c.Proven() || c.Supersedes != 0 {
					t.Errorf("key %d: %s, want %s; %d, %v", i+1, reason, tt.want[i], c.Generation, c.Supersedes)
				}
			}
		})
	}
}

// The first instant of 1970 is an end, though it is written as no number.
func TestAKeyThatEndedIn1970IsRetired(t *testing.T) {
	keys := successors(t, 2)
	row := stored(keys...)
	row.Changed, row.Generations[1].Ends = time.UnixMicro(-1), time.UnixMicro(0)
	d, _, _ := directory(t, newMemory(row))
	if _, reason := ask(credential.NewAuthenticator(d), key(keys[0]), ""); reason != policy.CredentialRetired {
		t.Error(reason)
	}
}

// Every key that a credential had is known again, however many there were and
// whatever state it is in, up to a bound.
func TestRetiredKeysAreKnownAgain(t *testing.T) {
	keys := successors(t, credential.MaxGenerations+2)
	row := stored(keys...)
	for i := range row.Generations[1:] {
		row.Generations[i+1].Ends = now.Add(-2 * time.Hour)
	}
	d, cache, _ := directory(t, newMemory(row))
	a := credential.NewAuthenticator(d)
	for i, k := range keys {
		want := policy.CredentialRetired
		switch {
		case i < len(keys)-credential.MaxGenerations:
			want = policy.UnknownCredential
		case i == len(keys)-1:
			want = policy.Allowed
		}
		c, reason := ask(a, key(k), "")
		if reason != want || c.Proven() && c.Generation != i+1 {
			t.Fatalf("key %d: %s, want %s; %d", i+1, reason, want, c.Generation)
		}
	}
	if rows, _ := cache.Size(); rows != 1 {
		t.Error("the row is too large to be kept")
	}

	row = stored(keys[:2]...)
	row.State, row.Generations[1].Ends = "revoked", now.Add(-2*time.Hour)
	d, _, _ = directory(t, newMemory(row))
	if c, reason := ask(credential.NewAuthenticator(d), key(keys[0]), ""); reason != policy.CredentialRetired || c.Generation != 1 {
		t.Errorf("of a revoked credential: %s, %d", reason, c.Generation)
	}
}

// A store may give the keys in any order.
func TestTheNumberTellsTheNewestKey(t *testing.T) {
	keys := successors(t, 3)
	row := stored(keys...)
	g := row.Generations
	g[2].Ends, g[1].Ends, g[1].EndsOnUse = now.Add(-2*time.Hour), now.Add(time.Hour), true
	row.Generations = []store.Generation{g[1], g[2], g[0]}
	d, _, _ := directory(t, newMemory(row))
	if c, reason := ask(credential.NewAuthenticator(d), key(keys[2]), ""); reason != policy.Allowed || c.Supersedes != 2 {
		t.Errorf("%s, %d", reason, c.Supersedes)
	}
}

// An end that had passed by the store's clock is one for every replica, also
// where the local clock is behind.
func TestAKeyThatEndedDoesNotComeBackOnASlowClock(t *testing.T) {
	keys := successors(t, 2)
	row := stored(keys...)
	row.Changed = now.Add(time.Hour) // this machine is an hour behind
	row.Generations[1].Ends = row.Changed
	d, _, _ := directory(t, newMemory(row))
	if _, reason := ask(credential.NewAuthenticator(d), key(keys[0]), ""); reason != policy.CredentialRetired {
		t.Error(reason)
	}
}

func TestOnlyTheNewestKeySupersedes(t *testing.T) {
	keys := successors(t, 3)
	tests := []struct {
		name  string
		alter func(*store.Credential)
		use   int
		want  int
	}{
		{"the newest", func(*store.Credential) {}, 2, 2},
		{"the older one", func(*store.Credential) {}, 1, 0},
		{"of a suspended credential", func(c *store.Credential) { c.State = "suspended" }, 2, 0},
		{"of an expired credential", func(c *store.Credential) { c.Expires = now }, 2, 0},
		{"the older one has ended", func(c *store.Credential) { c.Generations[1].Ends = now }, 2, 0},
		{"the older one ends later", func(c *store.Credential) { c.Generations[1].Ends = now.Add(time.Hour) }, 2, 2},
		{"not by use", func(c *store.Credential) { c.Generations[1].EndsOnUse = false }, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row := stored(keys...)
			row.Generations[1].EndsOnUse = true
			row.Generations[2].Ends = now.Add(-2 * time.Hour)
			tt.alter(&row)
			d, _, _ := directory(t, newMemory(row))
			if c, reason := ask(credential.NewAuthenticator(d), key(keys[tt.use]), ""); c.Supersedes != tt.want {
				t.Errorf("%d, want %d (%s)", c.Supersedes, tt.want, reason)
			}
		})
	}
}
