package sqlite

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// The image has no folder for temporary files, and its root is read-only: with
// 300,000 credentials a restored store could not be made safe there.
func TestNothingIsWrittenElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(t.Context(), path, "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, parameters := range map[string]url.Values{"reading": reading, "writing": writing, "migrating": migrating, "inspecting": inspecting} {
		db, err := connect(path, 1, parameters)
		if err != nil {
			t.Fatal(err)
		}
		var where int
		if err := db.QueryRowContext(t.Context(), `PRAGMA temp_store`).Scan(&where); err != nil || where != 2 {
			t.Errorf("%s: temp_store is %d, %v; expected 2, memory", name, where, err)
		}
		_ = db.Close()
	}
}

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
	tokenPage := func(f store.TokenFilter) string {
		query, _ := tokenPageQuery("default", f, 101)
		return query
	}
	move := func(f store.TokenFilter) string {
		query, _ := moveQuery("default", f, "live")
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

		{"token", tokenQuery, "USING INDEX scopegate_tokens_id (gateway=? AND id=?)"},
		{"token by nonce", nonceQuery, "USING PRIMARY KEY (gateway=? AND nonce=?)"},
		{"tokens by ids", findQuery, "USING COVERING INDEX scopegate_tokens_id (gateway=? AND id=?)"},
		{"tokens by nonces", findQuery, "USING PRIMARY KEY (gateway=? AND nonce=?)"},
		{"page of tokens", tokenPage(store.TokenFilter{States: []string{"live"}, After: "a"}), "USING PRIMARY KEY (gateway=? AND nonce>?)"},
		{
			"page of a team's tokens", tokenPage(store.TokenFilter{Team: "billing", States: []string{"live"}, After: "a"}),
			"USING INDEX scopegate_tokens_team_page (gateway=? AND team=? AND nonce>?)",
		},
		{
			"page of a credential's tokens", tokenPage(store.TokenFilter{Team: "billing", Credential: "ci", After: "a"}),
			"USING INDEX scopegate_tokens_credential_page (gateway=? AND credential=? AND nonce>?)",
		},
		{"a team's live tokens", teamIDsQuery, "USING COVERING INDEX scopegate_tokens_team (gateway=? AND team=? AND state=? AND id>?)"},
		{"places of tokens", tokenPlacesQuery, "USING COVERING INDEX scopegate_tokens_team (gateway=? AND team=?)"},
		{"due tokens", dueQuery, "USING INDEX scopegate_tokens_due (gateway=? AND state=? AND due<?)"},
		{"counts of tokens", tokenCountsQuery, "USING COVERING INDEX scopegate_tokens_team (gateway=?)"},
		{"the age of some", tokenCountsQuery, "USING COVERING INDEX scopegate_tokens_credential (gateway=? AND state=?)"},
		{"move of a team", move(store.TokenFilter{Team: "billing"}), "USING COVERING INDEX scopegate_tokens_team (gateway=? AND team=? AND state=?)"},
		{
			"move of a credential", move(store.TokenFilter{Team: "billing", Credential: "ci"}),
			"USING COVERING INDEX scopegate_tokens_credential (gateway=? AND state=? AND credential=? AND team=?)",
		},
		{"those who minted", strandedQuery, "USING COVERING INDEX scopegate_tokens_credential (gateway=? AND state=? AND credential>?)"},
		{"those who minted and ended", strandedQuery, "SEARCH c USING PRIMARY KEY (gateway=? AND id=?)"},
		{"what they minted", strandedQuery, "SEARCH t USING COVERING INDEX scopegate_tokens_credential (gateway=? AND state=? AND credential=?)"},
		{"old answers", forgetAnswersQuery, "USING COVERING INDEX scopegate_answers_until (gateway=? AND until<?)"},
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
				// These are sorted once more, but no more of them than were asked for,
				// or than there are teams.
				few := tt.query == changesQuery || tt.query == findQuery || tt.query == tokenCountsQuery
				if strings.Contains(line, "TEMP B-TREE FOR ORDER BY") && !few {
					t.Errorf("sorts: %s", line)
				}
			}
		})
	}
}

func plan(t *testing.T, s *Store, query string) string {
	t.Helper()
	var b strings.Builder
	rows, err := s.writer.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, parameters(query))...)
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

var parameter = regexp.MustCompile(`\?(\d*)`)

// parameters is how many arguments a statement takes: a question mark is the
// one behind all before it, and one with a number that one.
func parameters(query string) (n int) {
	for _, m := range parameter.FindAllStringSubmatch(query, -1) {
		if nth, err := strconv.Atoi(m[1]); err == nil {
			n = max(n, nth)
		} else {
			n++
		}
	}
	return n
}

// A store of an earlier version keeps what it has.
func TestOpenOfAnEarlierVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := prepare(path); err != nil {
		t.Fatal(err)
	}
	db, err := connect(path, 1, migrating)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := newProvider(db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO scopegate_credentials
		(gateway, id, team, name, state, note, static, created, created_by, changed, revision)
		VALUES ('default', 'id', 'billing', 'ci', 'active', '', 0, 1, 'ops', 1, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c, err := s.Credential(t.Context(), "id"); err != nil || c.Name != "ci" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := s.InsertToken(t.Context(), store.Token{Nonce: "n", Team: "billing", Credential: "id", State: "intent"}, store.TokenBounds{Live: 1}, nil); err != nil {
		t.Error(err)
	}
	var least int
	if err := s.readers.QueryRowContext(t.Context(), `SELECT value FROM scopegate_meta WHERE key = 'min_reader'`).Scan(&least); err != nil || least != 1 {
		t.Errorf("the earlier version may no longer read it: %d, %v", least, err)
	}
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
