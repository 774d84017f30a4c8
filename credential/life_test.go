package credential_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// From each state, what each change leads to. One that says "" is refused, one
// that says the state again changes and records nothing.
func TestStates(t *testing.T) {
	type change = func(*office, context.Context, string) (store.Credential, error)
	edit := credential.Edit{Note: "why", By: "root"}
	changes := map[string]change{
		"suspend": func(o *office, ctx context.Context, id string) (store.Credential, error) {
			return o.Suspend(ctx, id, edit)
		},
		"resume": func(o *office, ctx context.Context, id string) (store.Credential, error) {
			return o.Resume(ctx, id, edit)
		},
		"revoke": func(o *office, ctx context.Context, id string) (store.Credential, error) {
			return o.Revoke(ctx, id, edit)
		},
		"lock": func(o *office, ctx context.Context, id string) (store.Credential, error) {
			return o.Lock(ctx, id, "why")
		},
	}
	leads := map[string]map[string]string{
		"active":    {"suspend": "suspended", "resume": "", "revoke": "revoked", "lock": "suspended"},
		"suspended": {"suspend": "suspended", "resume": "active", "revoke": "revoked", "lock": "suspended"},
		"revoked":   {"suspend": "", "resume": "", "revoke": "revoked", "lock": "revoked"},
	}
	for from, list := range leads {
		for kind, to := range list {
			for _, static := range []bool{false, true} {
				name := from + " " + kind
				k := credential.Generate()
				row := stored(k)
				row.State, row.Note, row.Static = from, "before", static
				var o *office
				if static {
					row.Generations = nil
					o = newOffice(t, k, row)
				} else {
					o = newOffice(t, credential.Generate(), row)
				}
				before, _ := o.Show(t.Context(), k.ID())
				got, err := changes[kind](o, t.Context(), k.ID())
				if to == "" {
					if refusedAt(err) != "state" || o.m.writes > 0 || len(o.changes) > 0 {
						t.Errorf("%s: %v, %d writes, records of %v", name, err, o.m.writes, o.kinds())
					}
					continue
				}
				if err != nil || got.State != to {
					t.Errorf("%s: %s, %v; want %s", name, got.State, err, to)
				}
				if to == from {
					if o.m.writes > 0 || len(o.changes) > 0 || got.Note != "before" || got.Revision != before.Revision {
						t.Errorf("%s: %d writes, records of %v", name, o.m.writes, o.kinds())
					}
					continue
				}
				if !slices.Equal(o.kinds(), []string{kind}) || got.Note != "why" || got.Revision == before.Revision || got.Static != static {
					t.Errorf("%s: records of %v, %+v", name, o.kinds(), got)
				}
				c := o.changes[0]
				if c.ID != k.ID() || c.Team != "billing" || c.Note != "why" || c.By == "" || (kind != "lock") != (c.By == "root") {
					t.Errorf("%s: recorded %+v", name, c)
				}
			}
		}
	}
}

func TestLinesAreOverridden(t *testing.T) {
	k := credential.Generate()
	o := newOffice(t, k)
	line := holder("billing", "line", k)
	line.Identity.Team = billing
	d, cache, _ := directory(t, o.m, line)
	a := credential.NewAuthenticator(d)
	is := func(want policy.Reason) {
		t.Helper()
		cache.Forget(k.ID())
		if _, reason := ask(a, key(k), ""); reason != want {
			t.Errorf("%s, want %s", reason, want)
		}
	}
	is(policy.Allowed)
	if _, err := o.Resume(t.Context(), k.ID(), credential.Edit{}); refusedAt(err) != "state" {
		t.Errorf("resuming an active line: %v", err)
	}
	if _, err := o.Suspend(t.Context(), k.ID(), credential.Edit{If: 3}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a revision that no row has: %v", err)
	}
	got, err := o.Suspend(t.Context(), k.ID(), credential.Edit{By: "root"})
	if err != nil || !got.Static || got.CreatedBy != "root" || len(got.Generations) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	is(policy.CredentialSuspended)
	if _, err := o.Resume(t.Context(), k.ID(), credential.Edit{If: got.Revision}); err != nil {
		t.Error(err)
	}
	is(policy.Allowed)
	if _, err := o.Revoke(t.Context(), k.ID(), credential.Edit{}); err != nil {
		t.Error(err)
	}
	is(policy.CredentialRevoked)

	edit := credential.Edit{}
	for name, err := range map[string]error{
		"rotate": func() error { _, _, err := o.Rotate(t.Context(), k.ID(), credential.Rotation{}); return err }(),
		"extend": func() error {
			_, err := o.Extend(t.Context(), k.ID(), edit, credential.Extension{TTL: 1e12})
			return err
		}(),
		"narrow": func() error {
			_, err := o.Narrow(t.Context(), k.ID(), edit, credential.Narrowing{Scopes: []string{"members.read"}})
			return err
		}(),
	} {
		if refusedAt(err) != "id" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the configuration suspends, the store cannot resume; what the store
// suspends stays so when the configuration changes its mind.
func TestLinesThatAreSuspendedThemselves(t *testing.T) {
	k := credential.Generate()
	line := holder("billing", "line", k)
	line.Identity.Team, line.State = billing, credential.Suspended
	o := officeWith(t, []*credential.Credential{line})
	if got, err := o.Show(t.Context(), k.ID()); err != nil || got.State != "suspended" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := o.Resume(t.Context(), k.ID(), credential.Edit{}); refusedAt(err) != "state" || !strings.Contains(err.Error(), "the configuration says") || o.m.writes > 0 {
		t.Errorf("resume: %v", err)
	}
	if got, err := o.Suspend(t.Context(), k.ID(), credential.Edit{}); err != nil || got.Revision == 0 {
		t.Errorf("suspend: %+v, %v", got, err)
	}
	if got, err := o.Resume(t.Context(), k.ID(), credential.Edit{}); err != nil || got.State != "active" {
		t.Errorf("resume what the store suspended: %+v, %v", got, err)
	}
	if got, err := o.Show(t.Context(), k.ID()); err != nil || got.State != "suspended" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Two who suspend a line at once both succeed, by one row.
func TestLinesAreOverriddenOnce(t *testing.T) {
	k := credential.Generate()
	o := newOffice(t, k)
	o.m.meanwhile = func() {
		o.m.meanwhile = nil
		o.m.put(store.Credential{ID: k.ID(), Team: "billing", Name: "line", State: "suspended", Static: true})
	}
	got, err := o.Revoke(t.Context(), k.ID(), credential.Edit{})
	if err != nil || got.State != "revoked" {
		t.Errorf("%+v, %v", got, err)
	}
}
