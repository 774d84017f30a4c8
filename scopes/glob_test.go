package scopes_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
)

func TestExpand(t *testing.T) {
	tests := []struct {
		pattern string
		want    string // names, in the catalogue's order
		notes   []string
	}{
		{pattern: "members.read", want: "members.read"},
		{pattern: "systems.read-all", want: "system.read-all"},
		{pattern: "admin-logs.read", want: "admin-logs.read"},
		{
			pattern: "members.*",
			want:    "members.disconnect members.read-all members.delete members.update members.read members.create",
		},
		{pattern: "members.read-*", want: "members.read-all"},
		{pattern: "members.*-*", want: "members.read-all"},
		{pattern: "token.*", want: "token.create token.read token.delete token.read-all"},
		// A suffix or a prefix of a word, or a word of another resource, is
		// not the word: system-groups is no group and no system.
		{pattern: "groups.*", want: "groups.read-all groups.delete groups.update groups.read groups.create"},
		{
			pattern: "*-groups.*",
			want:    "system-groups.read-all system-groups.delete system-groups.update system-groups.read system-groups.create",
		},
		// The alias belongs to the word systems as much as its siblings do.
		{pattern: "systems.*", want: "system.read-all systems.delete systems.update systems.read systems.create"},
		{
			pattern: "system.*", want: "system.read-all",
			notes: []string{"system.* misses systems.delete systems.update systems.read systems.create, which is spelled differently"},
		},
		{
			pattern: "access-cards.*", want: "access-cards.delete access-cards.update access-cards.read access-cards.create",
			notes: []string{"access-cards.* misses access-card.read-all, which is spelled differently"},
		},
		{
			pattern: "*-logs.read",
			want:    "device-posture-check-logs.read threat-blocker-logs.read system-logs.read",
			notes: []string{
				"*-logs.read misses gateway-log.read, which is spelled differently",
				"*-logs.read does not grant admin-logs.read, which no glob does: name it",
			},
		},
		{
			pattern: "*.read",
			want: "device-posture-check-logs.read threat-blocker-logs.read devices.read gateway-log.read " +
				"system-groups.read groups.read systems.read system-logs.read access-cards.read gateways.read members.read token.read",
			notes: []string{"*.read does not grant admin-logs.read, which no glob does: name it"},
		},
		{pattern: "*-ac-relation.add", want: "system-ac-relation.add member-ac-relation.add"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			e, err := scopes.Expand(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if want := set(t, strings.Fields(tt.want)...); e.Set != want {
				t.Errorf("stands for\n%s, want\n%s", e.Set, want)
			}
			if diff := cmp.Diff(tt.notes, e.Notes()); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExpandRejects(t *testing.T) {
	tests := []struct{ pattern, says string }{
		{"member.*", "members.disconnect"}, // the near miss is named
		{"admin-logs.*", "name it"},
		{"admin-*.read", "name it"},
		{"admin-logs.*", "matches nothing"},
		{"*", "expected <resource>.<action>"},
		{"*.*.*", "expected <resource>.<action>"},
		{"members*", "expected <resource>.<action>"},
		{"member*.read", "whole words"},
		{"**.read", "whole words"},
		{"*s.read", "whole words"},
		{"members.re*", "whole words"},
		{"-*.read", "whole words"},
		{"*-.read", "whole words"},
		{"*.", "whole words"},
		{".*", "whole words"},
		{"*-members.read", "matches nothing"}, // one or more words, not none
		{"members-*.read", "matches nothing"},
		{"Members.*", "matches nothing"},
		{"members.*\n", "whole words"},
		{"members.raed", `did you mean "members.read"`},
		{"", "unknown scope"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			e, err := scopes.Expand(tt.pattern)
			if err == nil {
				t.Fatalf("stands for %s", e.Set)
			}
			if !e.Set.Empty() {
				t.Errorf("%s came back with the error", e.Set)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
		})
	}
}

// FuzzExpand holds globs against regular expressions: a glob grants exactly
// what its words say, and never the one scope that must be named.
func FuzzExpand(f *testing.F) {
	for _, p := range []string{
		"members.*", "*.read", "*-logs.read", "*.*", "*-*.*", "system-*.*", "*-*-*.*-*", "admin-*.*",
		"admin-logs.read", "systems.read-all", "systems.*", "*.*-all", "*s.read", "a.b.*",
	} {
		f.Add(p)
	}
	spellings := map[string]scopes.Scope{"systems.read-all": scope(f, "system.read-all")}
	for _, s := range scopes.All().Scopes() {
		spellings[s.String()] = s
	}
	adminLogs := scope(f, "admin-logs.read")
	f.Fuzz(func(t *testing.T, pattern string) {
		e, err := scopes.Expand(pattern)
		if err != nil {
			if !e.Set.Empty() {
				t.Fatalf("Expand(%q): %s beside %v", pattern, e.Set, err)
			}
			if strings.Contains(pattern, "*") && len(e.Missed)+len(e.NamedOnly) > 0 && !errors.Is(err, scopes.ErrUnknown) {
				t.Fatalf("Expand(%q): %v", pattern, err)
			}
			return
		}
		words := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[a-z]+(-[a-z]+)*`)
		says := regexp.MustCompile(`\A` + words + `\z`)
		var want scopes.Set
		for spelling, s := range spellings {
			if says.MatchString(spelling) && (s != adminLogs || pattern == "admin-logs.read") {
				want = want.Union(scopes.Of(s))
			}
		}
		if e.Set != want {
			t.Fatalf("Expand(%q) is %s, want %s", pattern, e.Set, want)
		}
		for _, s := range e.Missed {
			if e.Set.Has(s) {
				t.Fatalf("Expand(%q) both grants and misses %s", pattern, s)
			}
		}
	})
}
