package credential_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

func TestCreate(t *testing.T) {
	o := newOffice(t, credential.Generate())
	got, k, err := o.Create(t.Context(), credential.New{
		Team: "billing", Name: "ci", Scopes: []string{"gateways.read", "members.read", "*.read-all"},
		AllowedIPs: []string{"192.0.2.0/24", "192.0.2.7", "::ffff:198.51.100.0/120", "192.0.2.0/24"},
		NotBefore:  now.Add(-time.Hour), TTL: time.Hour + 1, By: "root@example.com", Note: "für die Nacht 🌙",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Credential{
		ID: k.ID(), Team: "billing", Name: "ci", State: "active", Note: "für die Nacht 🌙",
		Scopes:     []string{"gateways.read", "members.read", "members.read-all"},
		AllowedIPs: []string{"192.0.2.0/24", "192.0.2.7/32", "198.51.100.0/24"},
		NotBefore:  now.Add(-time.Hour), Expires: now.Add(time.Hour),
		Created: now, CreatedBy: "root@example.com", Changed: now, Revision: 1,
		Generations: []store.Generation{{Number: 1, Hash: k.Hash(), Created: now}},
	}
	sorted := got
	sorted.Scopes = slices.Sorted(slices.Values(got.Scopes))
	if diff := cmp.Diff(want, sorted); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantChange := []credential.Change{{
		Kind: "create", ID: k.ID(), Team: "billing", Name: "ci", By: "root@example.com", Note: "für die Nacht 🌙",
		Scopes: got.Scopes, AllowedIPs: got.AllowedIPs, Expires: now.Add(time.Hour), Generation: 1,
	}}
	if diff := cmp.Diff(wantChange, o.changes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d, _, _ := directory(t, o.m)
	c, reason := ask(credential.NewAuthenticator(d), key(k), "")
	if reason != policy.Allowed || c.Identity.Scopes.Len() != 3 || len(c.Identity.AllowedIPs) != 3 {
		t.Errorf("its key: %s, %+v", reason, c.Identity)
	}
	// Only what was printed once is the key.
	if k.Reveal() == "" || strings.Contains(fmt.Sprintf("%+v %+v", got, o.changes), k.Reveal()) {
		t.Error("the key itself was stored")
	}
}

func TestCreateFollowsTheTeamWhereNothingIsSaid(t *testing.T) {
	o := newOffice(t, credential.Generate())
	got, _, err := o.Create(t.Context(), credential.New{Team: "billing", Name: "ci"})
	if err != nil || got.Scopes != nil || got.AllowedIPs != nil || !got.Expires.IsZero() || !got.NotBefore.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	got, _, err = o.Create(t.Context(), credential.New{Team: "ops", Name: "ci"})
	if err != nil || !got.Expires.Equal(now.Add(24*time.Hour)) {
		t.Errorf("with a longest life: %s, %v", got.Expires, err)
	}
}

func TestCreateRejects(t *testing.T) {
	type n = credential.New
	tests := []struct {
		name  string
		field string
		says  string
		n     n
	}{
		{"no team", "team", "", n{Name: "x"}},
		{"unknown team", "team", `"billing"`, n{Team: "biling", Name: "x"}},
		{"a key as its team", "team", "key", n{Team: goodKey, Name: "x"}},
		{"no name", "name", "64", n{Team: "billing"}},
		{"long name", "name", "64", n{Team: "billing", Name: strings.Repeat("x", 65)}},
		{"name with a slash", "name", "64", n{Team: "billing", Name: "a/b"}},
		{"name with an umlaut", "name", "64", n{Team: "billing", Name: "bäckup"}},
		{"a key as its name", "name", "", n{Team: "billing", Name: goodKey}},
		{"the beginning of a key as its name", "name", "", n{Team: "billing", Name: goodKey[:30]}},
		{"the name of a line", "name", "configuration", n{Team: "billing", Name: "line"}},
		{"unknown scope", "scopes", `"members.read"`, n{Team: "billing", Name: "x", Scopes: []string{"member.raed"}}},
		{"scope of others", "scopes", "devices.read", n{Team: "billing", Name: "x", Scopes: []string{"members.read", "devices.read"}}},
		{"glob of others", "scopes", "devices.*", n{Team: "billing", Name: "x", Scopes: []string{"devices.*"}}},
		{"glob within a word", "scopes", "whole words", n{Team: "billing", Name: "x", Scopes: []string{"members.read*"}}},
		{"no scopes", "scopes", "follow the team", n{Team: "billing", Name: "x", Scopes: []string{}}},
		{"a key as a scope", "scopes", "key", n{Team: "billing", Name: "x", Scopes: []string{goodKey}}},
		{"bits behind the mask", "allowed_ips", "192.0.2.0/24", n{Team: "billing", Name: "x", AllowedIPs: []string{"192.0.2.9/24"}}},
		{"no network", "allowed_ips", `"here"`, n{Team: "billing", Name: "x", AllowedIPs: []string{"here"}}},
		{"zone", "allowed_ips", "", n{Team: "billing", Name: "x", AllowedIPs: []string{"fe80::1%eth0"}}},
		{"mapped network", "allowed_ips", "IPv4", n{Team: "billing", Name: "x", AllowedIPs: []string{"::ffff:0.0.0.0/90"}}},
		{"no networks", "allowed_ips", "leave it out", n{Team: "billing", Name: "x", AllowedIPs: []string{}}},
		{"many networks", "allowed_ips", "100", n{Team: "billing", Name: "x", AllowedIPs: make([]string, 101)}},
		{"a key as a network", "allowed_ips", "key", n{Team: "billing", Name: "x", AllowedIPs: []string{goodKey}}},
		{"end in the past", "expires_at", "future", n{Team: "billing", Name: "x", Expires: now.Add(-time.Second)}},
		{"end now", "expires_at", "future", n{Team: "billing", Name: "x", Expires: now}},
		{"no time at all", "ttl", "above zero", n{Team: "billing", Name: "x", TTL: -1}},
		{"a nanosecond", "ttl", "future", n{Team: "billing", Name: "x", TTL: 1}},
		{"two ends", "ttl", "one of the two", n{Team: "billing", Name: "x", TTL: time.Hour, Expires: now.Add(time.Hour)}},
		{"end that JSON has not", "expires_at", "late", n{Team: "billing", Name: "x", Expires: now.AddDate(8000, 0, 0)}},
		{"end that is too late", "expires_at", "2026-11-25T12:00:00Z", n{Team: "ops", Name: "x", Expires: now.Add(24*time.Hour + time.Microsecond)}},
		{"life that is too long", "ttl", "2026-11-25T12:00:00Z", n{Team: "ops", Name: "x", TTL: 25 * time.Hour}},
		{"begin behind the end", "not_before", "", n{Team: "billing", Name: "x", NotBefore: now.Add(2 * time.Hour), TTL: time.Hour}},
		{"begin behind the longest life", "not_before", "", n{Team: "ops", Name: "x", NotBefore: now.Add(25 * time.Hour)}},
		{"long note", "note", "500", n{Team: "billing", Name: "x", Note: strings.Repeat("ä", 501)}},
		{"note for the terminal", "note", "printed", n{Team: "billing", Name: "x", Note: "\x1b[2J"}},
		{"note of two lines", "note", "one line", n{Team: "billing", Name: "x", Note: "a\nb"}},
		{"note that runs backwards", "note", "printed", n{Team: "billing", Name: "x", Note: "\u202eabc"}},
		{"note that is no text", "note", "printed", n{Team: "billing", Name: "x", Note: "\xff"}},
		{"a key in the note", "note", "key", n{Team: "billing", Name: "x", Note: "was " + goodKey}},
		{"a key as the operator", "operator", "key", n{Team: "billing", Name: "x", By: goodKey}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOffice(t, credential.Generate())
			_, k, err := o.Create(t.Context(), tt.n)
			if refusedAt(err) != tt.field || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want the field %s and %q", err, tt.field, tt.says)
			}
			if strings.Contains(err.Error(), goodKey[4:16]) {
				t.Errorf("error %q repeats a key", err)
			}
			if k != (credential.Key{}) || o.m.writes > 0 || len(o.changes) > 0 {
				t.Error("it was made all the same")
			}
		})
	}
}

func TestCreateTellsWhatTheStoreRefuses(t *testing.T) {
	o := newOffice(t, credential.Generate())
	for _, name := range []string{"a", "b"} {
		if _, _, err := o.Create(t.Context(), credential.New{Team: "ops", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	_, k, err := o.Create(t.Context(), credential.New{Team: "ops", Name: "c"})
	if refusedAt(err) != "team" || !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "max_credentials") || k.ID() != "" {
		t.Errorf("the third of two: %v", err)
	}
	_, _, err = o.Create(t.Context(), credential.New{Team: "ops", Name: "a"})
	if refusedAt(err) != "name" || !errors.Is(err, store.ErrExists) {
		t.Errorf("the same name: %v", err)
	}
	away := errors.New("no route to host")
	o.m.fail(away)
	if _, k, err = o.Create(t.Context(), credential.New{Team: "billing", Name: "x"}); !errors.Is(err, away) || refusedAt(err) != "" || k.ID() != "" {
		t.Errorf("no store: %v", err)
	}
}
