package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

var pages = map[string]func(t *testing.T, open Opener){
	"hold what the filter chooses":    filters,
	"have a size":                     pageSizes,
	"miss nothing while rows come in": pagesUnderLoad,
}

// shelf stores rows that differ in what filters tell apart, and returns when
// each was made.
func shelf(t *testing.T, s Store) map[string]time.Time {
	t.Helper()
	day := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	rows := []struct {
		id, team, state string
		expires         time.Time
	}{
		{"a", "billing", "active", time.Time{}},
		{"b", "billing", "suspended", day},
		{"c", "billing", "revoked", day.Add(time.Microsecond)},
		{"d", "support", "active", day.AddDate(0, 1, 0)},
		{"e", "support", "suspended", time.Time{}},
		{"f", "billing", "active", day.AddDate(0, 1, 0)},
	}
	made := map[string]time.Time{}
	for _, row := range rows {
		c := key(row.id, row.team, row.id)
		c.State, c.Expires = row.state, row.expires
		made[row.id] = insert(t, s, c).Created
	}
	return made
}

func filters(t *testing.T, open Opener) {
	s := open(t, gateway)
	insert(t, open(t, other), key("x", "billing", "x"))
	made := shelf(t, s)
	day := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	later, earlier := made["f"].Add(time.Hour), made["a"].Add(-time.Hour)
	err := s.Used(t.Context(), map[string]store.Use{"a": {At: later}, "b": {At: earlier}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter store.Filter
		want   []string
	}{
		{"nothing", store.Filter{}, []string{"a", "b", "c", "d", "e", "f"}},
		{"team", store.Filter{Team: "billing"}, []string{"a", "b", "c", "f"}},
		{"team that is not there", store.Filter{Team: "bill"}, []string{}},
		{"state", store.Filter{States: []string{"active"}}, []string{"a", "d", "f"}},
		{"states", store.Filter{States: []string{"revoked", "suspended"}}, []string{"b", "c", "e"}},
		{"no states", store.Filter{States: []string{}}, []string{"a", "b", "c", "d", "e", "f"}},
		{"expiry", store.Filter{ExpiresBefore: day.Add(time.Microsecond)}, []string{"b"}},
		{"expiry of all that have one", store.Filter{ExpiresBefore: day.AddDate(100, 0, 0)}, []string{"b", "c", "d", "f"}},
		{"created", store.Filter{CreatedBefore: made["a"]}, []string{}},
		{"created later", store.Filter{CreatedBefore: later}, []string{"a", "b", "c", "d", "e", "f"}},
		{"used", store.Filter{UsedBefore: earlier.Add(time.Microsecond)}, []string{"b"}},
		{"used, and those never used", store.Filter{UsedBefore: later}, []string{"b", "c", "d", "e", "f"}},
		{"used at the last instant", store.Filter{UsedBefore: later.Add(time.Microsecond)}, []string{"a", "b", "c", "d", "e", "f"}},
		{"after", store.Filter{After: "c"}, []string{"d", "e", "f"}},
		{"after one that is not there", store.Filter{After: "bb"}, []string{"c", "d", "e", "f"}},
		{"after the last", store.Filter{After: "f"}, []string{}},
		{"team and state", store.Filter{Team: "billing", States: []string{"active"}}, []string{"a", "f"}},
		{"all at once", store.Filter{
			Team: "billing", States: []string{"active", "suspended"}, ExpiresBefore: day.AddDate(1, 0, 0),
			CreatedBefore: later, UsedBefore: later, After: "a", Limit: 9,
		}, []string{"b", "f"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page, next, err := s.Credentials(t.Context(), tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "ids", tt.want, ids(page))
			if next != "" {
				t.Errorf("there is no next page, and it is behind %q", next)
			}

			// The same, page by page.
			filter, got := tt.filter, []string{}
			filter.Limit = 1
			for range 10 {
				page, next, err := s.Credentials(t.Context(), filter)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ids(page)...)
				if filter.After = next; next == "" {
					break
				}
			}
			same(t, "ids, one a page", tt.want, got)
		})
	}
}

func pageSizes(t *testing.T, open Opener) {
	s := open(t, gateway)
	for i := range 101 {
		c := nth(i)
		c.Generations = append([]store.Generation{{Number: 2}}, c.Generations...) // a page counts credentials
		insert(t, s, c)
	}
	tests := []struct {
		limit, size int
		more        bool
	}{{0, 100, true}, {1, 1, true}, {100, 100, true}, {101, 101, false}, {1000, 101, false}}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.limit), func(t *testing.T) {
			page, next, err := s.Credentials(t.Context(), store.Filter{Limit: tt.limit})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) != tt.size {
				t.Fatalf("%d rows, want %d", len(page), tt.size)
			}
			if tt.more != (next == page[len(page)-1].ID) || !tt.more && next != "" {
				t.Errorf("more %v, and the next page is behind %q", tt.more, next)
			}
			for _, c := range page {
				if len(c.Generations) != 2 || c.Generations[0].Number != 2 {
					t.Errorf("%s has the generations %+v", c.ID, c.Generations)
				}
			}
		})
	}
}

// Whoever reads all pages finds each row that was there when he began, once,
// whatever is inserted meanwhile.
func pagesUnderLoad(t *testing.T, open Opener) {
	s, writer := open(t, gateway), open(t, gateway)
	var before []string
	for i := range 30 {
		before = append(before, insert(t, s, nth(i*10)).ID)
	}
	var found []string
	filter := store.Filter{Team: "billing", Limit: 4}
	for n := 0; ; n++ {
		page, next, err := s.Credentials(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, ids(page)...)
		if next == "" {
			break
		}
		filter.After = next
		insert(t, writer, nth(n*10+1)) // behind the reader at first, then before him
		insert(t, writer, nth(291-n*10))
	}
	if !slices.IsSorted(found) || len(slices.Compact(slices.Clone(found))) != len(found) {
		t.Errorf("not in order, or twice: %v", found)
	}
	for _, id := range before {
		if !slices.Contains(found, id) {
			t.Errorf("%s is missing", id)
		}
	}
}
