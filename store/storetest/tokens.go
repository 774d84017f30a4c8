package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopegate/scopegate/store"
)

var tokens = map[string]func(t *testing.T, open Opener){
	"come back as they were stored":               tokenRoundTrip,
	"get the store's own fields":                  tokenOwnFields,
	"keep none and empty apart":                   tokenEmptyLists,
	"are not found":                               tokenNotFound,
	"have ids and nonces of their own":            tokenTaken,
	"are found by many ids and nonces":            tokensFound,
	"are listed by what the filter chooses":       tokenFilters,
	"are listed in pages":                         tokenPages,
	"are listed to their team while live":         teamTokens,
	"change as far as they may":                   tokenUpdates,
	"are not changed if somebody was quicker":     tokenConflicts,
	"are changed by one of many":                  tokenUpdateRace,
	"learn no id that another has":                tokenLearns,
	"are dropped unless somebody changed them":    tokenDrops,
	"are of their gateway":                        tokenGateways,
	"are not told of in the changes of the store": tokensAreNoChanges,
}

// token is a live token of which nothing is to be done.
func token(nonce, id string) store.Token {
	return store.Token{Nonce: nonce, ID: id, Team: "billing", Credential: "ci", State: store.TokenLive, Name: "token-" + nonce}
}

// as is a token in another state.
func as(state string, t store.Token) store.Token {
	t.State = state
	return t
}

// of is a token of another team and credential.
func of(team, credential string, t store.Token) store.Token {
	t.Team, t.Credential = team, credential
	return t
}

// mint stores a token that must have its place.
func mint(t *testing.T, s Store, row store.Token) store.Token {
	t.Helper()
	made, err := s.InsertToken(t.Context(), row, store.TokenBounds{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// held returns the row with a nonce, which must be there.
func held(t *testing.T, s Store, nonce string) store.Token {
	t.Helper()
	got, err := s.TokenByNonce(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// nonces are those of some rows.
func nonces(rows []store.Token) []string {
	list := []string{}
	for _, row := range rows {
		list = append(list, row.Nonce)
	}
	return list
}

func fullToken() store.Token {
	prague := time.FixedZone("", 3600)
	return store.Token{
		Nonce: "abcdefghij234567abcd", ID: "6f1c2c55-7a1e-4e9c-8f0e-0a1b2c3d4e5f", Team: "billing", Credential: "Zm9vYmFyYmF6",
		State: "revoking", Cause: "čeká \u202e'; -- \"\\\n🔑", Adopted: true,
		Name: `nightly "import"`, Scopes: []string{"members.read", "", `{"}\`}, AllowedIPs: []string{"192.0.2.0/24", "2001:db8::/32"},
		ExpiresAt: "2030-01-02T03:04:05+01:00", Expires: time.Date(9999, 12, 31, 23, 59, 59, 123456789, prague),
		CreatedBy: "ops@example.com", Attempts: 7, Due: time.Date(2031, 2, 3, 4, 5, 6, 7899, prague), Failure: "502 – špatná brána",
	}
}

func tokenRoundTrip(t *testing.T, open Opener) {
	s := open(t, gateway)
	row := fullToken()
	made := mint(t, s, row)
	want := row
	want.Version = 1
	want.Expires, want.Due = row.Expires.Truncate(time.Microsecond), row.Due.Truncate(time.Microsecond)
	if diff := cmp.Diff(want, made, cmpopts.IgnoreFields(store.Token{}, "Created", "Changed")); diff != "" {
		t.Errorf("what was stored (-want +got):\n%s", diff)
	}
	for name, at := range map[string]time.Time{"expires": made.Expires, "created": made.Created, "changed": made.Changed, "due": made.Due} {
		if at.Location() != time.UTC {
			t.Errorf("%s is in %s", name, at.Location())
		}
	}

	another := open(t, gateway)
	got, err := another.Token(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "read by id", made, got)
	same(t, "read by nonce", made, held(t, another, row.Nonce))
	page, _, err := another.Tokens(t.Context(), store.TokenFilter{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "listed", []store.Token{made}, page)

	bare := mint(t, s, store.Token{Nonce: "bare", State: "intent"})
	same(t, "a row of which little is known", store.Token{
		Nonce: "bare", State: "intent", Version: 1, Created: bare.Created, Changed: bare.Changed,
	}, held(t, s, "bare"))
}

func tokenOwnFields(t *testing.T, open Opener) {
	s := open(t, gateway)
	before := feed(t, s, 0).Now
	row := token("nonce", "id")
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	row.Created, row.Changed, row.Version = long, long, 99
	made := mint(t, s, row)
	after := feed(t, s, 0).Now
	if made.Created.Before(before) || made.Created.After(after) || !made.Changed.Equal(made.Created) {
		t.Errorf("created at %v and changed at %v, between %v and %v by the store's clock", made.Created, made.Changed, before, after)
	}
	if made.Version != 1 {
		t.Errorf("version %d", made.Version)
	}
}

// A token that is to have no networks is one for none, and not for all.
func tokenEmptyLists(t *testing.T, open Opener) {
	s := open(t, gateway)
	for i, list := range [][]string{nil, {}, {"a"}, {""}} {
		row := token(fmt.Sprint(i), fmt.Sprint(i))
		row.Scopes, row.AllowedIPs = list, list
		made := mint(t, s, row)
		same(t, "scopes", list, made.Scopes)
		same(t, "networks", list, held(t, s, row.Nonce).AllowedIPs)
	}
}

func tokenNotFound(t *testing.T, open Opener) {
	s := open(t, gateway)
	mint(t, s, token("abc", "def"))
	mint(t, s, token("unknown", "")) // whose missing id is nobody's
	for _, id := range []string{"", "abc", "de", "defg", "DEF", "def ", "%"} {
		if got, err := s.Token(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("id %q: %+v, %v", id, got, err)
		}
	}
	for _, nonce := range []string{"", "def", "ab", "abcd", "ABC"} {
		if got, err := s.TokenByNonce(t.Context(), nonce); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("nonce %q: %+v, %v", nonce, got, err)
		}
	}
}

func tokenTaken(t *testing.T, open Opener) {
	s := open(t, gateway)
	mint(t, s, token("a", "id-a"))
	mint(t, s, as(store.TokenGone, token("b", "id-b")))
	mint(t, s, token("c", ""))
	for name, row := range map[string]store.Token{
		"nonce":                token("a", "new"),
		"nonce of a gone one":  token("b", "new"),
		"id":                   token("new", "id-a"),
		"id of a gone one":     token("new", "id-b"),
		"id, by another team":  of("support", "other", token("new", "id-a")),
		"nonce without an id":  token("c", ""),
		"nonce of another row": token("c", "new"),
	} {
		if got, err := s.InsertToken(t.Context(), row, store.TokenBounds{}, nil); !errors.Is(err, store.ErrExists) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	mint(t, s, token("new", "")) // a second one of which no id is known
}

func tokensFound(t *testing.T, open Opener) {
	s := open(t, gateway)
	for i := range 6 {
		mint(t, s, token(fmt.Sprintf("n%d", i), fmt.Sprintf("id%d", i)))
	}
	mint(t, s, token("n6", ""))
	mint(t, open(t, other), token("n7", "id7"))
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint("other", i))
		}
		return list
	}
	tests := []struct {
		name        string
		ids, nonces []string
		want        []string
	}{
		{"nothing", nil, nil, []string{}},
		{"ids", []string{"id3", "id1", "nobody"}, nil, []string{"n1", "n3"}},
		{"nonces", nil, []string{"n6", "n1", "nobody"}, []string{"n1", "n6"}},
		{"both", []string{"id4"}, []string{"n0"}, []string{"n0", "n4"}},
		{"one by both", []string{"id4", "id4"}, []string{"n4", "n4"}, []string{"n4"}},
		{"no id", []string{""}, nil, []string{}},
		{"another gateway's", []string{"id7"}, []string{"n7"}, []string{}},
		{"an id as a nonce", []string{"n1"}, []string{"id1"}, []string{}},
		{"as many as may be", append(many(499), "id2"), append(many(499), "n5"), []string{"n2", "n5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.FindTokens(t.Context(), tt.ids, tt.nonces)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "found", tt.want, nonces(got))
		})
	}
	if got, err := s.FindTokens(t.Context(), many(501), many(500)); err == nil {
		t.Errorf("too many were looked for, and %d found", len(got))
	}
}

func tokenFilters(t *testing.T, open Opener) {
	s := open(t, gateway)
	mint(t, open(t, other), token("x", "x"))
	for nonce, row := range map[string]store.Token{
		"a": {Team: "billing", Credential: "ci", State: "live"},
		"b": {Team: "billing", Credential: "ci", State: "gone"},
		"c": {Team: "billing", Credential: "web", State: "intent"},
		"d": {Team: "support", Credential: "desk", State: "live"},
		"e": {Team: "support", Credential: "", State: "live", Adopted: true},
		"f": {Team: "billing", Credential: "web", State: "live"},
	} {
		row.Nonce = nonce
		mint(t, s, row)
	}
	tests := []struct {
		name   string
		filter store.TokenFilter
		want   []string
	}{
		{"nothing", store.TokenFilter{}, []string{"a", "b", "c", "d", "e", "f"}},
		{"team", store.TokenFilter{Team: "billing"}, []string{"a", "b", "c", "f"}},
		{"team that is not there", store.TokenFilter{Team: "bill"}, []string{}},
		{"credential", store.TokenFilter{Credential: "web"}, []string{"c", "f"}},
		{"credential of another team", store.TokenFilter{Team: "support", Credential: "web"}, []string{}},
		{"state", store.TokenFilter{States: []string{"live"}}, []string{"a", "d", "e", "f"}},
		{"states", store.TokenFilter{States: []string{"intent", "gone", "unknown"}}, []string{"b", "c"}},
		{"no states", store.TokenFilter{States: []string{}}, []string{"a", "b", "c", "d", "e", "f"}},
		{"after", store.TokenFilter{After: "c"}, []string{"d", "e", "f"}},
		{"after one that is not there", store.TokenFilter{After: "bb"}, []string{"c", "d", "e", "f"}},
		{"after the last", store.TokenFilter{After: "f"}, []string{}},
		{
			"all at once",
			store.TokenFilter{Team: "billing", Credential: "web", States: []string{"live", "intent"}, After: "b", Limit: 9},
			[]string{"c", "f"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page, next, err := s.Tokens(t.Context(), tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "nonces", tt.want, nonces(page))
			if next != "" {
				t.Errorf("there is no next page, and it is behind %q", next)
			}
			tt.filter.Limit = 1
			same(t, "nonces, one a page", tt.want, allTokens(t, s, tt.filter))
		})
	}
}

// allTokens reads page by page.
func allTokens(t *testing.T, s Store, filter store.TokenFilter) []string {
	t.Helper()
	got := []string{}
	for range 1000 {
		page, next, err := s.Tokens(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, nonces(page)...)
		if filter.After = next; next == "" {
			return got
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

func tokenPages(t *testing.T, open Opener) {
	s := open(t, gateway)
	var want []string
	for i := range 101 {
		nonce := fmt.Sprintf("n%03d", i)
		want = append(want, nonce)
		mint(t, s, token(nonce, nonce))
	}
	for limit, size := range map[int]int{0: 100, 1: 1, 100: 100, 101: 101, 1000: 101} {
		page, next, err := s.Tokens(t.Context(), store.TokenFilter{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) != size {
			t.Errorf("%d rows at a limit of %d, want %d", len(page), limit, size)
		}
		if more := size < 101; more != (next == page[len(page)-1].Nonce) || !more && next != "" {
			t.Errorf("more %v, and the next page is behind %q", more, next)
		}
	}
	same(t, "all", want, allTokens(t, s, store.TokenFilter{Team: "billing", Limit: 10}))
}

// What the list holds is what a team sees of upstream's.
func teamTokens(t *testing.T, open Opener) {
	s := open(t, gateway)
	for i, state := range []string{"live", "intent", "unknown", "revoking", "gone", "live"} {
		mint(t, s, as(state, token(fmt.Sprint(i), fmt.Sprint("id", i))))
	}
	mint(t, s, of("support", "ci", token("support", "support")))
	mint(t, s, token("without", ""))
	mint(t, open(t, other), token("other", "other"))
	for team, want := range map[string][]string{"billing": {"id0", "id5"}, "support": {"support"}, "nobody": nil, "": nil} {
		got, err := s.TeamTokenIDs(t.Context(), team)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		same(t, team, want, got)
	}
}

func tokenUpdates(t *testing.T, open Opener) {
	s := open(t, gateway)
	made := mint(t, s, as("intent", token("nonce", "")))
	at := time.Date(2031, 5, 6, 7, 8, 9, 10000, time.UTC)
	want := made
	want.ID, want.State, want.Cause = "id", "revoking", "čeká"
	want.Attempts, want.Due, want.Failure = 3, at, "429"
	row := want
	row.Team, row.Credential, row.Adopted, row.CreatedBy = "support", "other", true, "somebody else"
	row.Name, row.Scopes, row.AllowedIPs, row.ExpiresAt, row.Expires = "renamed", []string{"a"}, []string{"b"}, "never", at
	row.Created, row.Changed = at, at
	got, err := s.UpdateToken(t.Context(), row, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Changed.Before(made.Changed) || got.Changed.Equal(at) {
		t.Errorf("changed at %v, after %v", got.Changed, made.Changed)
	}
	want.Version, want.Changed = 2, got.Changed
	same(t, "the answer", want, got)
	same(t, "the row", want, held(t, s, "nonce"))

	got.ID, got.Due, got.Failure = "", time.Time{}, ""
	if got, err = s.UpdateToken(t.Context(), got, nil); err != nil {
		t.Fatal(err)
	}
	if got.Version != 3 || !got.Due.IsZero() || got.ID != "" {
		t.Errorf("what was taken away is there: %+v", got)
	}
	if !got.Changed.Equal(want.Changed) {
		t.Errorf("in its state since %v, and by another attempt since %v", want.Changed, got.Changed)
	}
}

func tokenConflicts(t *testing.T, open Opener) {
	s := open(t, gateway)
	first := mint(t, s, token("nonce", "id"))
	second, err := s.UpdateToken(t.Context(), as("revoking", first), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []int64{first.Version, 0, second.Version + 1} {
		stale := second
		stale.Version, stale.State = version, "gone"
		if got, err := s.UpdateToken(t.Context(), stale, nil); !errors.Is(err, store.ErrChanged) {
			t.Errorf("at version %d: %+v, %v", version, got, err)
		}
	}
	same(t, "the row", second, held(t, s, "nonce"))
	if _, err := s.UpdateToken(t.Context(), token("nobody", "x"), nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a row that is not there: %v", err)
	}
}

func tokenUpdateRace(t *testing.T, open Opener) {
	handles := []Store{open(t, gateway), open(t, gateway)}
	row := mint(t, handles[0], token("nonce", "id"))
	for round := range 5 {
		var won atomic.Int32
		var winner atomic.Value
		atOnce(8, func(i int) {
			mine := row
			mine.Cause = string(rune('a' + i))
			got, err := handles[i%2].UpdateToken(t.Context(), mine, nil)
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(got)
			case !errors.Is(err, store.ErrChanged):
				t.Error(err)
			}
		})
		if won.Load() != 1 {
			t.Fatalf("round %d: %d won", round, won.Load())
		}
		row = held(t, handles[0], "nonce")
		same(t, "the row", winner.Load(), any(row))
	}
}

// Upstream may answer a mint with the id of another token. Who believed it
// would show a team what is not its own.
func tokenLearns(t *testing.T, open Opener) {
	s := open(t, gateway)
	mint(t, s, of("support", "desk", token("theirs", "id")))
	row := mint(t, s, as("intent", token("mine", "")))
	row.ID = "id"
	if got, err := s.UpdateToken(t.Context(), row, nil); !errors.Is(err, store.ErrExists) {
		t.Errorf("%+v, %v", got, err)
	}
	row.ID = ""
	same(t, "the row", row, held(t, s, "mine"))
	row.ID = "another"
	if _, err := s.UpdateToken(t.Context(), row, nil); err != nil {
		t.Error(err)
	}
}

func tokenDrops(t *testing.T, open Opener) {
	s := open(t, gateway)
	row := mint(t, s, token("nonce", "id"))
	row, err := s.UpdateToken(t.Context(), row, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropToken(t.Context(), "nonce", 1, day); !errors.Is(err, store.ErrChanged) {
		t.Errorf("an earlier version: %v", err)
	}
	if err := s.DropToken(t.Context(), "nobody", 1, day); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a row that is not there: %v", err)
	}
	same(t, "the row", row, held(t, s, "nonce"))
	if err := s.DropToken(t.Context(), "nonce", 2, ""); err != nil {
		t.Error(err)
	}
	if got, err := s.TokenByNonce(t.Context(), "nonce"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("dropped, and there is %+v, %v", got, err)
	}
	mint(t, s, token("nonce", "id"))
}

func tokenGateways(t *testing.T, open Opener) {
	s, o := open(t, gateway), open(t, other)
	made := mint(t, s, token("nonce", "id"))
	if _, err := o.Token(t.Context(), "id"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is found: %v", err)
	}
	if _, err := o.TokenByNonce(t.Context(), "nonce"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is found: %v", err)
	}
	if _, err := o.UpdateToken(t.Context(), made, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is changed: %v", err)
	}
	if err := o.DropToken(t.Context(), "nonce", 1, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another gateway's row is dropped: %v", err)
	}
	if n, err := o.MoveTokens(t.Context(), store.TokenFilter{Team: "billing"}, "live", "revoking", ""); n != 0 || err != nil {
		t.Errorf("%d of another gateway's rows are moved: %v", n, err)
	}
	if counts, err := o.TokenCounts(t.Context(), "live"); len(counts) > 0 || err != nil {
		t.Errorf("another gateway's rows are counted: %v, %v", counts, err)
	}
	mint(t, o, token("nonce", "id"))
	if _, err := o.MoveTokens(t.Context(), store.TokenFilter{Credential: "ci"}, "live", "revoking", ""); err != nil {
		t.Error(err)
	}
	same(t, "a row, after another gateway changed its own of the same id", made, held(t, s, "nonce"))
}

// Replicas read again what the changes name, which are credentials.
func tokensAreNoChanges(t *testing.T, open Opener) {
	s := open(t, gateway)
	insert(t, s, nth(1))
	before := feed(t, s, 0)
	row := mint(t, s, token("nonce", "id"))
	if _, err := s.UpdateToken(t.Context(), row, nil); err != nil {
		t.Fatal(err)
	}
	after := feed(t, s, 0)
	before.Now, after.Now = time.Time{}, time.Time{}
	same(t, "the changes", before, after)
}
