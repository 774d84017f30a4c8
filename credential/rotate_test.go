package credential_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// What a rotation makes of the ends of the keys that there were, the newest
// first.
func TestRotate(t *testing.T) {
	type keys = []store.Generation
	none, hour, day := time.Time{}, now.Add(time.Hour), now.Add(24*time.Hour)
	ends := func(list ...time.Time) (out keys) {
		for i, at := range list {
			out = append(out, store.Generation{Number: len(list) - i, Ends: at})
		}
		return out
	}
	used := func(list keys, i int) keys {
		list[i].EndsOnUse = true
		return list
	}
	past := now.Add(-time.Hour)
	tests := []struct {
		name     string
		before   keys
		rotation credential.Rotation
		want     keys // nil: refused at the overlap
	}{
		{"at once", ends(none), credential.Rotation{}, ends(none, now)},
		{"overlap", ends(none), credential.Rotation{Overlap: time.Hour}, ends(none, hour)},
		{"until used", ends(none), credential.Rotation{UntilUsed: true}, used(ends(none, none), 1)},
		{"until used, a day at most", ends(none), credential.Rotation{UntilUsed: true, Overlap: 24 * time.Hour}, used(ends(none, day), 1)},
		{"an older one ended", ends(none, past), credential.Rotation{Overlap: time.Hour}, ends(none, hour, past)},
		{"an older one ends now", ends(none, now), credential.Rotation{Overlap: time.Hour}, ends(none, hour, now)},
		{"both at once", ends(none, hour), credential.Rotation{}, ends(none, now, now)},
		{"both at once, one until used", used(ends(none, none), 1), credential.Rotation{}, ends(none, now, now)},
		{"two work", ends(none, hour), credential.Rotation{Overlap: time.Hour}, nil},
		{"two work, until used", ends(none, none), credential.Rotation{UntilUsed: true}, nil},
		{"the newest ended", ends(past), credential.Rotation{Overlap: time.Hour}, ends(none, past)},
		{"the newest ends sooner", ends(hour), credential.Rotation{Overlap: 24 * time.Hour}, ends(none, hour)},
		{"below zero", ends(none), credential.Rotation{Overlap: -1}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := credential.Generate()
			row := stored(k)
			row.Generations = tt.before
			row.Generations[0].Hash = k.Hash()
			o := newOffice(t, credential.Generate(), row)
			tt.rotation.By = "root"
			got, next, err := o.Rotate(t.Context(), row.ID, tt.rotation)
			if tt.want == nil {
				if refusedAt(err) != "overlap" || next.ID() != "" || o.m.writes > 0 || len(o.changes) > 0 {
					t.Errorf("%v, %s", err, next)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if next.ID() != row.ID || got.Generations[0].Hash != next.Hash() || got.Generations[1].Hash != k.Hash() {
				t.Error("the keys are others")
			}
			for i := range got.Generations {
				got.Generations[i].Hash, got.Generations[i].Created = [32]byte{}, time.Time{}
			}
			if diff := cmp.Diff(tt.want, got.Generations); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := []credential.Change{{Kind: "rotate", ID: row.ID, Team: "billing", Name: "ci", By: "root", Generation: len(tt.want)}}
			if diff := cmp.Diff(want, o.changes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRotateRejectsRevoked(t *testing.T) {
	row := stored(credential.Generate())
	row.State = "revoked"
	o := newOffice(t, credential.Generate(), row)
	if _, k, err := o.Rotate(t.Context(), row.ID, credential.Rotation{}); refusedAt(err) != "state" || k.ID() != "" {
		t.Error(err)
	}
}

// A credential through its whole life, as its callers see it.
func TestRotationWithoutAnOutage(t *testing.T) {
	o := newOffice(t, credential.Generate())
	d, cache, _ := directory(t, o.m)
	a := credential.NewAuthenticator(d)
	is := func(k credential.Key, want policy.Reason) (c credential.Credential) {
		t.Helper()
		cache.Forget(k.ID())
		c, reason := ask(a, key(k), "")
		if reason != want {
			t.Errorf("%s: %s, want %s", k, reason, want)
		}
		return c
	}
	row, first, err := o.Create(t.Context(), credential.New{Team: "billing", Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := o.Rotate(t.Context(), row.ID, credential.Rotation{UntilUsed: true})
	if err != nil {
		t.Fatal(err)
	}
	is(first, policy.Allowed)
	if c := is(second, policy.Allowed); c.Supersedes != 1 || c.Generation != 2 {
		t.Errorf("%+v", c)
	}
	for range 2 { // every request until then tells so
		if _, err := o.End(t.Context(), row.ID, 1, "scopegate"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"create", "rotate", "end"}, o.kinds()); diff != "" {
		t.Error(diff)
	}
	is(first, policy.CredentialRetired)
	if c := is(second, policy.Allowed); c.Supersedes != 0 {
		t.Errorf("%+v", c)
	}
	_, third, err := o.Rotate(t.Context(), row.ID, credential.Rotation{Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	is(second, policy.Allowed)
	is(third, policy.Allowed)
	_, fourth, err := o.Rotate(t.Context(), row.ID, credential.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []credential.Key{first, second, third} {
		is(k, policy.CredentialRetired)
	}
	is(fourth, policy.Allowed)
	if _, err := o.Lock(t.Context(), row.ID, "a retired key was used"); err != nil {
		t.Fatal(err)
	}
	is(fourth, policy.CredentialSuspended)
}

func TestEndRejects(t *testing.T) {
	row := stored(successors(t, 2)...)
	o := newOffice(t, credential.Generate(), row)
	for _, number := range []int{0, 2, 3, -1} { // the newest, and none
		if _, err := o.End(t.Context(), row.ID, number, ""); refusedAt(err) != "generation" {
			t.Errorf("%d: %v", number, err)
		}
	}
	got, err := o.End(t.Context(), row.ID, 1, "scopegate")
	if err != nil || !got.Generations[1].Ends.Equal(now) || !got.Generations[0].Ends.IsZero() || o.changes[0].Generation != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
