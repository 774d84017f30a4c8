package main

import "testing"

func TestEachTeamSeesItsOwn(t *testing.T) {
	r, err := run(t.Context(), 300)
	if err != nil {
		t.Fatal(err)
	}
	r.print()
	if !r.good() {
		t.Errorf("%d times a team saw what it should not, or nothing was to be seen", r.wrong)
	}
}

// A bench that finds nothing must be one that would find it.
func TestCheckFinds(t *testing.T) {
	red, blue := newTeam("red", ""), newTeam("blue", "")
	for _, id := range []string{"live", "asked", "late", "gone"} {
		red.give(id)
	}
	blue.give("theirs")
	red.ask("asked")
	red.ask("gone")
	red.gone("gone")
	v := red.view()
	red.ask("late")
	for _, tc := range []struct {
		name  string
		list  map[string]string
		wrong int
	}{
		{"what it must be", map[string]string{"live": "red-1"}, 0},
		{"with what is being deleted", map[string]string{"live": "red-1", "asked": "red-2", "late": "red-3"}, 0},
		{"with one that nobody was told of", map[string]string{"live": "red-1", "new": "red-4"}, 0},
		{"without its own", map[string]string{}, 1},
		{"with a deleted one", map[string]string{"live": "red-1", "gone": "red-5"}, 1},
		{"with another team's", map[string]string{"live": "red-1", "theirs": "red-6"}, 1},
		{"with one named by another team", map[string]string{"live": "red-1", "new": "blue-7"}, 1},
		{"with a stamp", map[string]string{"live": "red-1-sg-x"}, 1},
	} {
		if wrong := red.check(v, tc.list, blue); len(wrong) != tc.wrong {
			t.Errorf("%s: %q", tc.name, wrong)
		}
	}
}
