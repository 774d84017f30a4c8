package postgres_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/postgres"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// A fleet that is started at once migrates once.
func TestConcurrentOpensMigrateOnce(t *testing.T) {
	dsn := pgtest.Database(t)
	var opens sync.WaitGroup
	stores := make([]*postgres.Store, 6)
	for i := range stores {
		opens.Go(func() {
			s, err := postgres.Open(t.Context(), dsn, "default")
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
		})
	}
	opens.Wait()
	for i, s := range stores {
		if s == nil {
			continue
		}
		insert(t, s, fmt.Sprint("id", i))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := ask[int](t, dsn, `SELECT count(*) FROM scopegate_migrations WHERE version_id = 1`); n != 1 {
		t.Errorf("migrated %d times", n)
	}
	if n := ask[int](t, dsn, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
		(SELECT oid FROM pg_database WHERE datname = current_database())`); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

// later makes the schema one that a later program has migrated.
func later(t *testing.T, dsn string, minReader int) {
	t.Helper()
	shell(t, dsn, `INSERT INTO scopegate_migrations (version_id, is_applied) VALUES (99, true)`,
		fmt.Sprintf(`UPDATE scopegate_meta SET value = '%d' WHERE key = 'min_reader'`, minReader),
		`ALTER TABLE scopegate_credentials ADD COLUMN later text NOT NULL DEFAULT ''`)
}

func TestOpenRejectsLaterSchemas(t *testing.T) {
	dsn := pgtest.Database(t)
	insert(t, open(t, dsn, "default"), "id")
	later(t, dsn, 98)
	const state = `SELECT string_agg(xmin::text || ctid::text, ' ' ORDER BY ctid) FROM scopegate_migrations`
	before := ask[string](t, dsn, state)
	s, err := postgres.Open(t.Context(), dsn, "default")
	if !errors.Is(err, store.ErrTooNew) {
		t.Fatalf("%v, %v", s, err)
	}
	for _, word := range []string{"99", "later program", "backup"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say how to go back", err)
		}
	}
	if after := ask[string](t, dsn, state); after != before {
		t.Errorf("touched: %s, then %s", before, after)
	}
}

// While a fleet is upgraded one by one, the replicas that were not yet go on,
// and can be started again.
func TestEarlierVersionsGoOnBesideALaterOne(t *testing.T) {
	dsn := pgtest.Database(t)
	running := open(t, dsn, "default")
	insert(t, running, "before")
	later(t, dsn, 1)
	started := open(t, dsn, "default")
	for i, s := range []*postgres.Store{running, started} {
		insert(t, s, fmt.Sprint("id", i))
		page, _, err := s.Credentials(t.Context(), store.Filter{})
		if err != nil || len(page) != 2+i {
			t.Errorf("%d rows, %v", len(page), err)
		}
	}
	c, err := running.Credential(t.Context(), "id1")
	if err != nil {
		t.Fatal(err)
	}
	c.State = store.Revoked
	if _, err := running.Update(t.Context(), c); err != nil {
		t.Error(err)
	}
	if n := ask[int](t, dsn, `SELECT max(version_id) FROM scopegate_migrations`); n != 99 {
		t.Errorf("the schema is version %d now", n)
	}
}

// A store of an earlier version keeps what it has, and its replicas go on.
func TestOpenOfAnEarlierVersion(t *testing.T) {
	dsn := pgtest.Database(t)
	if err := postgres.MigrateTo(t.Context(), dsn, 1); err != nil {
		t.Fatal(err)
	}
	shell(t, dsn, `INSERT INTO scopegate_credentials (gateway, id, team, name, state, note, static, created, created_by, changed, revision)
		VALUES ('default', 'id', 'billing', 'ci', 'active', '', false, now(), 'ops', now(), 1)`)
	s := open(t, dsn, "default")
	if c, err := s.Credential(t.Context(), "id"); err != nil || c.Name != "ci" {
		t.Errorf("%+v, %v", c, err)
	}
	row := store.Token{Nonce: "n", Team: "billing", Credential: "id", State: "intent"}
	if _, err := s.InsertToken(t.Context(), row, store.TokenBounds{Live: 1}, nil); err != nil {
		t.Error(err)
	}
	if least := ask[string](t, dsn, `SELECT value FROM scopegate_meta WHERE key = 'min_reader'`); least != "1" {
		t.Errorf("the earlier version may no longer use it: %s", least)
	}
}

// A collation of the system's sorts pages its own way, and a new version of it
// breaks the indexes.
func TestKeysSortByBytes(t *testing.T) {
	dsn := pgtest.Database(t)
	open(t, dsn, "default")
	n := ask[int](t, dsn, `SELECT count(*) FROM pg_index i
		JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
		WHERE c.relname LIKE 'scopegate%' AND a.attcollation <> 0`)
	other := ask[string](t, dsn, `SELECT coalesce(string_agg(DISTINCT c.relname || '.' || a.attname, ', '), '') FROM pg_index i
		JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
		WHERE c.relname LIKE 'scopegate%' AND c.relname <> 'scopegate_meta' AND a.attcollation NOT IN (0, '"C"'::regcollation)`)
	if n < 10 || other != "" {
		t.Errorf("of %d columns, these sort otherwise: %s", n, other)
	}
}

// large finds a table in a plan that is read whole and may have a million rows.
var large = regexp.MustCompile(`Seq Scan on scopegate_(credentials|generations|tokens|answers)`)

// manyTokens are a hundred thousand of ten large teams, ten of a small one, and
// answers of which the time of half is over.
var manyTokens = []string{
	`INSERT INTO scopegate_tokens (gateway, nonce, id, team, credential, state, cause, adopted, name, expires_at, created, created_by,
			changed, version, attempts, due, failure)
		SELECT 'default', 'n' || n, 'id' || n, CASE WHEN n % 10000 = 7 THEN 'small' ELSE 'team' || n % 10 END, 'key' || n % 1000,
			CASE WHEN n % 5 = 0 THEN 'gone' ELSE 'live' END, '', false, 'token', '', now(), '', now(), 1, 0,
			CASE WHEN n % 5 > 0 THEN now() + interval '1 day' END, ''
		FROM generate_series(1, 100000) n`,
	`INSERT INTO scopegate_answers (gateway, key, nonce, generation, body, until)
		SELECT 'default', decode(lpad(to_hex(n), 64, '0'), 'hex'), 'n' || n, 1, decode(repeat('00', 32), 'hex'),
			now() + (n - 5000) * interval '1 second' FROM generate_series(1, 10000) n`,
	`VACUUM scopegate_tokens`, // as the database does by itself in time; without, nothing is read from an index alone
}

// What a request waits for, and what each replica asks each second, must cost
// the same with a million credentials.
func TestStatementsUseIndexes(t *testing.T) {
	dsn := pgtest.Database(t)
	open(t, dsn, "default")
	shell(t, dsn, manyTokens...)
	shell(t, dsn, `SET session_replication_role = replica`, // which checks no foreign key
		`INSERT INTO scopegate_credentials (gateway, id, team, name, state, note, static, created, created_by, changed, revision)
			SELECT 'default', 'id' || n, 'team' || n % 10, 'key' || n, 'active', '', false, now(), '', now(), n FROM generate_series(1, 100000) n`,
		`INSERT INTO scopegate_generations (gateway, id, number, hash, created, ends_on_use)
			SELECT 'default', 'id' || n, 1, decode(repeat('00', 32), 'hex'), now(), false FROM generate_series(1, 100000) n`,
		`INSERT INTO scopegate_gateways (gateway, revision) VALUES ('default', 100000)`,
		`ANALYZE`)
	now := time.Now()
	page := func(f store.Filter) []any {
		query, args := postgres.PageQuery("default", f, 101)
		return append([]any{query}, args...)
	}
	tokenPage := func(f store.TokenFilter) []any {
		query, args := postgres.TokenPageQuery("default", f, 101)
		return append([]any{query}, args...)
	}
	move := func(f store.TokenFilter) []any {
		query, args := postgres.MoveQuery("default", f, "live", "revoking", "")
		return append([]any{query}, args...)
	}
	tests := []struct {
		name  string
		want  string
		query []any // and its arguments
	}{
		{"lookup", "scopegate_credentials_pkey", []any{postgres.LookupQuery, "default", "id7"}},
		{"changes", "scopegate_credentials_revision", []any{postgres.ChangesQuery, "default", 99990, 1001}},
		{"places", "scopegate_credentials_", []any{postgres.PlacesQuery, "default", "team7", now, "id7", 50}},
		{"used", "scopegate_credentials_pkey", []any{
			postgres.UsedQuery, "default", []string{"id7", "id8"}, []time.Time{now, now}, []string{"", ""}, []string{"", ""},
		}},
		{"page", "(id > 'id5'::text)", page(store.Filter{After: "id5"})},
		{"page of a team", "(team = 'team7'::text) AND (id > 'id5'::text)", page(store.Filter{Team: "team7", After: "id5"})},
		{"page by states", "(id > 'id5'::text)", page(store.Filter{States: []string{"active"}, After: "id5"})},

		{"token", "scopegate_tokens_id", []any{postgres.TokenQuery, "default", "id7"}},
		{"token by nonce", "scopegate_tokens_pkey", []any{postgres.NonceQuery, "default", "n7"}},
		{"tokens by ids", "scopegate_tokens_id", []any{postgres.FindQuery, "default", []string{"id7", "id8"}, []string{}}},
		{"tokens by nonces", "scopegate_tokens_pkey", []any{postgres.FindQuery, "default", []string{}, []string{"n7", "n8"}}},
		{"page of tokens", "scopegate_tokens_pkey", tokenPage(store.TokenFilter{States: []string{"live"}, After: "n5"})},
		{"page of a team's tokens", "scopegate_tokens_team_page", tokenPage(store.TokenFilter{Team: "team7", After: "n5"})},
		{"page of a credential's tokens", "scopegate_tokens_credential_page", tokenPage(store.TokenFilter{Credential: "key7", After: "n5"})},
		{"a team's live tokens", "Index Only Scan using scopegate_tokens_team", []any{postgres.TeamIDsQuery, "default", "small"}},
		{"places of tokens", "Index Only Scan using scopegate_tokens_team", []any{postgres.TokenPlacesQuery, "default", "small", 50}},
		{"due tokens", "(state = wanted.wanted) AND (due <= statement_timestamp())", []any{postgres.DueQuery, "default", []string{"live", "revoking"}, 50}},
		{"counts of tokens", "Index Only Scan using scopegate_tokens_credential", []any{postgres.TokenCountsQuery, "default", "revoking"}},
		{"move of a team", "scopegate_tokens_team", move(store.TokenFilter{Team: "small"})},
		{"move of a credential", "scopegate_tokens_credential", move(store.TokenFilter{Credential: "key7"})},
		{"those who minted", "Index Only Scan using scopegate_tokens_credential", []any{postgres.StrandedQuery, "default", 50}},
		{"those who minted and ended", "scopegate_credentials_pkey", []any{postgres.StrandedQuery, "default", 50}},
		{"answer", "scopegate_answers_pkey", []any{postgres.AnswerQuery, "default", make([]byte, 32)}},
		{"answer that is sealed", "scopegate_answers_nonce", []any{postgres.SealQuery, "default", "n7", []byte("sealed")}},
		{"answer that will not be", "scopegate_answers_nonce", []any{postgres.DropAnswerQuery, "default", "n7"}},
		{"old answers", "(gateway = 'default'::text) AND (until <= statement_timestamp())", []any{postgres.ForgetAnswersQuery, "default", 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := explain(t, dsn, tt.query[0].(string), tt.query[1:])
			if !strings.Contains(plan, tt.want) || large.MatchString(plan) {
				t.Error(plan)
			}
		})
	}
}
