package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// With a million rows, a statement that reads them all takes a second.
func TestStatementsUseIndexes(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const (
		byID      = "SEARCH c USING PRIMARY KEY (gateway=? AND id=?)"
		byKeys    = "SEARCH g USING PRIMARY KEY (gateway=? AND id=?)"
		byGateway = "SEARCH scopegate_credentials USING PRIMARY KEY (gateway=?)"
	)
	page := func(f store.Filter) string {
		query, _ := pageQuery("default", f, 101)
		return query
	}
	now := time.Now()
	tests := []struct {
		name, query string
		want        string
	}{
		{"look-up", lookupQuery, byID},
		{"look-up of generations", lookupQuery, byKeys},
		{"page", page(store.Filter{}), byGateway},
		{"next page", page(store.Filter{After: "a"}), "SEARCH scopegate_credentials USING PRIMARY KEY (gateway=? AND id>?)"},
		{"generations of a page", page(store.Filter{After: "a"}), "SEARCH g USING PRIMARY KEY (gateway=? AND id=?)"},
		{"page of a team", page(store.Filter{Team: "billing"}), "USING INDEX scopegate_credentials_team (gateway=? AND team=?)"},
		{
			"next page of a team", page(store.Filter{Team: "billing", States: []string{"active"}, After: "a"}),
			"USING INDEX scopegate_credentials_team (gateway=? AND team=? AND id>?)",
		},
		{
			"page by state", page(store.Filter{States: []string{"active", "suspended"}, After: "a"}),
			"SEARCH scopegate_credentials USING PRIMARY KEY (gateway=? AND id>?)",
		},
		{"page by times", page(store.Filter{ExpiresBefore: now, CreatedBefore: now, UsedBefore: now}), byGateway},
		{"changes", changesQuery, "USING INDEX scopegate_credentials_revision (gateway=? AND revision>?)"},
		{"places", placesQuery, "USING INDEX scopegate_credentials_places (gateway=? AND team=? AND <expr>>?)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := plan(t, s, tt.query)
			if !strings.Contains(got, tt.want) {
				t.Errorf("the plan is\n%s\nwant %q", got, tt.want)
			}
			for line := range strings.Lines(got) {
				if strings.Contains(line, "SCAN scopegate") {
					t.Errorf("reads all rows: %s", line)
				}
				// Changes are sorted once more, but no more of them than were asked for.
				if strings.Contains(line, "TEMP B-TREE FOR ORDER BY") && tt.query != changesQuery {
					t.Errorf("sorts: %s", line)
				}
			}
		})
	}
}

func plan(t *testing.T, s *Store, query string) string {
	t.Helper()
	var b strings.Builder
	args := make([]any, strings.Count(query, "?"))
	if query == changesQuery {
		args = args[:3]
	}
	rows, err := s.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		b.WriteString(detail + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A backup of a large store takes long. A process that ends does not wait.
func TestEndStopsABackup(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.end() // as Close does first
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "backup")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
