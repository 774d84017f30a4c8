package main

import "testing"

// A short run: each point once, and some random moments.
func TestNoTokenIsLost(t *testing.T) {
	r, err := mints(t.Context(), len(round()), true)
	if err != nil {
		t.Fatal(err)
	}
	r.print()
	if r.wrong() != 0 || r.live == 0 || r.recovered == 0 {
		t.Errorf("%+v", r.balance)
	}
	for w, list := range awake {
		for _, p := range list[1:] {
			if r.at[w][p] == 0 {
				t.Errorf("it was never killed %s", points[w][p])
			}
		}
	}
}
