package scopes

import (
	"fmt"
	"slices"
	"strings"
)

// Expansion is what one pattern of the configuration stands for.
type Expansion struct {
	Pattern string
	Set     Set
	// Missed are scopes that the pattern does not match but that look as if
	// it should: the vendor's names mix singular and plural, so that
	// `*-logs.read` misses gateway-log.read.
	Missed []Scope
	// NamedOnly are scopes that the pattern would match, but that no glob may
	// grant: they show everyone's doings and must be named.
	NamedOnly []Scope
}

// Expand finds the scopes that a pattern stands for: one name, or a glob. A
// `*` stands for one or more whole words (the words of `system-groups.read`
// are system, groups and read), never for a part of a word and never across
// the dot, so that `system*.read` cannot reach system-groups by accident.
// A glob that matches nothing is an error.
func Expand(pattern string) (Expansion, error) {
	e := Expansion{Pattern: pattern}
	if !strings.Contains(pattern, "*") {
		s, err := Parse(pattern)
		if err != nil {
			return e, err
		}
		e.Set = Of(s)
		return e, nil
	}
	words, err := globWords(pattern)
	if err != nil {
		return e, err
	}
	for i, row := range catalogue.scopes {
		s := Scope(i)
		switch {
		case !matchesAny(words, s, plain):
			if matchesAny(words, s, singular) {
				e.Missed = append(e.Missed, s)
			}
		case row.NamedOnly:
			e.NamedOnly = append(e.NamedOnly, s)
		default:
			e.Set.bits |= 1 << s
		}
	}
	if e.Set.Empty() {
		return e, fmt.Errorf("%w: %q matches nothing%s", ErrUnknown, pattern, e.hint())
	}
	return e, nil
}

// Notes says in words what the glob leaves out; empty for most patterns.
func (e Expansion) Notes() []string {
	var notes []string
	if len(e.Missed) > 0 {
		notes = append(notes, fmt.Sprintf("%s misses %s, which is spelled differently", e.Pattern, join(e.Missed)))
	}
	if len(e.NamedOnly) > 0 {
		notes = append(notes, fmt.Sprintf("%s does not grant %s, which no glob does: name it", e.Pattern, join(e.NamedOnly)))
	}
	return notes
}

func (e Expansion) hint() string {
	if notes := e.Notes(); len(notes) > 0 {
		return ": " + strings.Join(notes, "; ")
	}
	return ""
}

func join(list []Scope) string { return Of(list...).String() }

// globWords splits a glob into the words of its two halves, with "." between.
func globWords(pattern string) ([]string, error) {
	resource, action, ok := strings.Cut(pattern, ".")
	if !ok || strings.Contains(action, ".") {
		return nil, fmt.Errorf("glob %q: expected <resource>.<action>, such as members.* or *.read", pattern)
	}
	words := append(strings.Split(resource, "-"), ".")
	words = append(words, strings.Split(action, "-")...)
	for _, w := range words {
		if w != "*" && (w == "" || strings.Contains(w, "*")) {
			return nil, fmt.Errorf("glob %q: a * stands for whole words between hyphens, such as *-logs.read", pattern)
		}
	}
	return words, nil
}

func plain(word string) string    { return word }
func singular(word string) string { return strings.TrimSuffix(word, "s") }

// matchesAny tries every documented spelling of the scope.
func matchesAny(glob []string, s Scope, fold func(string) string) bool {
	return slices.ContainsFunc(catalogue.spellings[s], func(words []string) bool { return matches(glob, words, fold) })
}

func scopeWords(name string) []string {
	resource, action, _ := strings.Cut(name, ".")
	return slices.Concat(strings.Split(resource, "-"), []string{"."}, strings.Split(action, "-"))
}

func matches(glob, words []string, fold func(string) string) bool {
	if len(glob) == 0 {
		return len(words) == 0
	}
	if len(words) == 0 {
		return false
	}
	if glob[0] != "*" {
		return fold(glob[0]) == fold(words[0]) && matches(glob[1:], words[1:], fold)
	}
	if words[0] == "." {
		return false
	}
	return matches(glob[1:], words[1:], fold) || matches(glob, words[1:], fold)
}
