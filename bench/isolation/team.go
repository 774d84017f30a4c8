package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// team is what a team must see, going by what it was told.
type team struct {
	name string
	key  string

	mu      sync.Mutex
	given   map[string]bool // ids
	asked   map[string]int  // of them, how many asked to delete it
	deleted map[string]bool // of them, those that the team was told are deleted
}

func newTeam(name, key string) *team {
	return &team{name: name, key: key, given: map[string]bool{}, asked: map[string]int{}, deleted: map[string]bool{}}
}

func (t *team) give(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.given[id] = true
}

// ask notes that a deletion is asked for.
func (t *team) ask(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[id]++
}

// gone notes that the team was told of a deletion.
func (t *team) gone(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted[id] = true
}

func (t *team) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.given[id]
}

// askers is how many have asked to delete it.
func (t *team) askers(id string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked[id]
}

// own returns an id that the team was given and nobody asked to delete.
func (t *team) own() (id string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return oneOf(t.given, func(id string) bool { return t.asked[id] == 0 })
}

// past returns an id that the team was told is deleted.
func (t *team) past() (id string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return oneOf(t.deleted, func(string) bool { return true })
}

func oneOf(ids map[string]bool, fits func(string) bool) (id string, ok bool) {
	list := slices.DeleteFunc(slices.Collect(maps.Keys(ids)), func(id string) bool { return !fits(id) })
	if len(list) == 0 {
		return "", false
	}
	return list[rand.IntN(len(list))], true //nolint:gosec // any will do
}

// view is what a list must hold and must not, as of when it was asked for.
type view struct{ must, never map[string]bool }

func (t *team) view() view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := view{maps.Clone(t.given), maps.Clone(t.deleted)}
	maps.DeleteFunc(v.must, func(id string, _ bool) bool { return t.asked[id] > 0 })
	return v
}

// check holds a list, of names by id, against what it must be. What the team
// was not told of may be in it as long as it is the team's: its caller has hung
// up, or has no answer yet.
func (t *team) check(v view, list map[string]string, other *team) (wrong []string) {
	for id := range v.must {
		if _, listed := list[id]; !listed && t.askers(id) == 0 {
			wrong = append(wrong, fmt.Sprintf("%s does not see its own %s", t.name, id))
		}
	}
	for id, name := range list {
		switch {
		case other.has(id) || !t.named(name):
			wrong = append(wrong, fmt.Sprintf("%s sees %s %q", t.name, id, name))
		case v.never[id]:
			wrong = append(wrong, fmt.Sprintf("%s sees %s, which is deleted", t.name, id))
		}
	}
	return wrong
}

// named reports whether a name is as the team's clients make them.
func (t *team) named(name string) bool {
	var n int
	_, err := fmt.Sscanf(name, t.name+"-%d", &n)
	return err == nil && name == fmt.Sprintf("%s-%d", t.name, n)
}
