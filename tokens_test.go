package scopegate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
)

// minted is the answer to a mint.
type minted struct {
	ID    string `json:"created_id"`
	Token string `json:"token"`
}

// mint makes a token that must be made.
func (w *world) mint(t *testing.T) minted {
	t.Helper()
	rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	var m minted
	if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil || rec.Code != 200 || m.ID == "" {
		t.Fatalf("mint: %d %s", rec.Code, rec.Body)
	}
	return m
}

// rowsIn returns the ledger's rows in a state.
func (w *world) rowsIn(t *testing.T, state string) []store.Token {
	t.Helper()
	page, _, err := w.room.rows.Tokens(t.Context(), store.TokenFilter{States: []string{state}})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// lives reports whether a token is in the account.
func (w *world) lives(id string) bool {
	for _, one := range w.sim.Tokens() {
		if one.ID == id {
			return true
		}
	}
	return false
}

// ends waits until the account has no token but the master.
func (w *world) ends(t *testing.T) {
	t.Helper()
	await(t, "the end of all tokens", func() bool {
		return len(w.sim.Tokens()) == 1 && len(w.rowsIn(t, ledger.Revoking)) == 0
	})
}

func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not come", what)
		}
	}
}

func TestTokenIsTheTeams(t *testing.T) {
	w := newWorldWith(t, tokenTeam, "team blue {\n\t\tscopes token.*\n\t}")
	made := w.mint(t)
	row := w.rowsIn(t, ledger.Live)
	if len(row) != 1 || row[0].ID != made.ID || row[0].Team != "red" || row[0].Credential != w.key.ID() || row[0].Name != "report" {
		t.Fatalf("rows: %+v", row)
	}
	stamped := w.sim.Tokens()[1].Name
	if !strings.HasPrefix(stamped, "report-sg-") || strings.Contains(stamped, "red") {
		t.Errorf("upstream has %q", stamped)
	}
	for _, path := range []string{"/api/v1/tokens", "/api/v1/token/" + made.ID, "/api/v1/token/" + strings.ToUpper(made.ID)} {
		rec := w.do(t, "GET", path, "")
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"report"`) || strings.Contains(rec.Body.String(), "-sg-") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.do(t, "DELETE", "/api/v1/token/"+made.ID, ""); rec.Code != 200 {
		t.Fatalf("revoke: %d %s", rec.Code, rec.Body)
	}
	if w.lives(made.ID) || len(w.rowsIn(t, ledger.Gone)) != 1 {
		t.Errorf("after a deletion: %+v", w.sim.Tokens())
	}
	for _, method := range []string{"GET", "DELETE"} {
		if rec := w.do(t, method, "/api/v1/token/"+made.ID, ""); rec.Code != 404 || reasonOf(t, rec) != "token_not_found" {
			t.Errorf("%s of a gone token: %d %s", method, rec.Code, rec.Body)
		}
	}
}

// An upstream that takes another spelling of an id for another id says that
// there is no such token. That must prove nothing about the one there is.
func TestTokenIsAskedForAsItIs(t *testing.T) {
	w := newWorldWith(t, tokenTeam, "")
	made := w.mint(t)
	for _, method := range []string{"GET", "DELETE"} {
		w.sim.Forget()
		if rec := w.do(t, method, "/api/v1/token/"+strings.ToUpper(made.ID), ""); rec.Code != 200 {
			t.Errorf("%s: %d %s", method, rec.Code, rec.Body)
		}
		for _, r := range w.sim.Requests() {
			if r.Path != "/api/v1/token/"+made.ID {
				t.Errorf("%s: upstream received %s %s", method, r.Method, r.Path)
			}
		}
	}
}

// counting counts what the store is asked for.
type counting struct {
	rows
	asked *atomic.Int64
}

func (c counting) Token(ctx context.Context, id string) (store.Token, error) {
	c.asked.Add(1)
	return c.rows.Token(ctx, id)
}

// Another team's token, a random id, the master and one that is gone upstream
// are told apart by nothing: neither by the answer nor by what the gateway
// does to find it.
func TestTokensOfOthersAreNowhere(t *testing.T) {
	w := newWorldWith(t, tokenTeam, "team blue {\n\t\tscopes token.*\n\t}")
	theirs := w.mint(t).ID
	w.MasterTokenID = w.sim.MasterID()
	foreign := w.sim.Plant("made in the console")

	blue, key := w.newKey(t, "blue")
	if blue.ID == "" {
		t.Fatal("no credential")
	}
	var asked atomic.Int64
	w.room.ledger.Rows = counting{w.room.rows, &asked}
	bodies := map[string]string{}
	w.sim.Forget()
	for name, id := range map[string]string{
		"another team's": theirs, "foreign": foreign, "master": w.sim.MasterID(), "random": "6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e",
	} {
		for _, method := range []string{"GET", "DELETE"} {
			before := asked.Load()
			rec := w.with(t, key, method, "/api/v1/token/"+id, "")
			if rec.Code != 404 {
				t.Errorf("%s of the %s id: %d %s", method, name, rec.Code, rec.Body)
			}
			if n := asked.Load() - before; n != 1 {
				t.Errorf("%s of the %s id: the store was asked %d times", method, name, n)
			}
			var p map[string]any
			_ = json.Unmarshal(rec.Body.Bytes(), &p)
			delete(p, "decision_id")
			header := rec.Header().Clone()
			for _, varies := range []string{"Scopegate-Decision-Id", "Ratelimit", "Ratelimit-Policy"} {
				header.Del(varies)
			}
			header.Del("X-Accepted-Oauth-Scopes") // the operation's
			text, _ := json.Marshal([]any{p, header})
			bodies[string(text)] = name
		}
	}
	if len(bodies) != 1 {
		t.Errorf("the answers differ: %v", bodies)
	}
	if n := len(w.sim.Requests()); n != 0 {
		t.Errorf("upstream was asked %d times", n)
	}
	if rec := w.with(t, key, "GET", "/api/v1/tokens", ""); rec.Body.String() != "[]" {
		t.Errorf("the list of another team: %s", rec.Body)
	}

	// And one that is its own, but gone upstream.
	gone := w.mint(t).ID
	for _, one := range []string{"GET", "DELETE"} {
		req, err := http.NewRequestWithContext(t.Context(), "DELETE", "http://upstream.example.com/api/v1/token/"+gone, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.sim.Master())
		w.sim.ServeHTTP(httptest.NewRecorder(), req)
		rec := w.do(t, one, "/api/v1/token/"+gone, "")
		var p map[string]any
		_ = json.Unmarshal(rec.Body.Bytes(), &p)
		delete(p, "decision_id")
		text, _ := json.Marshal(p)
		found := false
		for body := range bodies {
			found = found || strings.HasPrefix(body, "["+string(text)+",")
		}
		if rec.Code != 404 || !found {
			t.Errorf("%s of one that is gone upstream: %d %s", one, rec.Code, rec.Body)
		}
		gone = w.mint(t).ID
	}
}

// newKey makes a stored credential of a team.
func (w *world) newKey(t *testing.T, team string) (row store.Credential, key credential.Key) {
	t.Helper()
	row, err := w.change(func(r *credential.Registry) (row store.Credential, err error) {
		row, key, err = r.Create(t.Context(), credential.New{Team: team, Name: "made", By: "test"})
		return row, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return row, key
}

// with is do with another key and more headers.
func (w *world) with(t *testing.T, key credential.Key, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rec, &caddyhttp.Server{})
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
	if err := w.ServeHTTP(rec, r, nil); err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestTokensAll(t *testing.T) {
	w := newWorld(t, "scopes token.*\n\t\ttokens all")
	foreign := w.sim.Plant("made in the console")
	if rec := w.do(t, "GET", "/api/v1/tokens", ""); !strings.Contains(rec.Body.String(), foreign) {
		t.Errorf("list: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "GET", "/api/v1/token/"+foreign, ""); rec.Code != 200 {
		t.Errorf("read: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "DELETE", "/api/v1/token/"+foreign, ""); rec.Code != 404 || !w.lives(foreign) {
		t.Errorf("delete: %d %s", rec.Code, rec.Body)
	}
}

// Everyone's tokens may be any number: they are passed on as they are read.
// What is wrong with the list breaks the answer off, or is a refusal where
// nothing of the answer went out.
func TestTokensAllAreStreamed(t *testing.T) {
	whole := everyones(40_000)
	w := newWorld(t, "scopes token.*\n\t\ttokens all")
	for name, c := range map[string]struct {
		body   string
		status int // 0: broken off
	}{
		"whole":                       {whole, 200},
		"cut":                         {whole[:len(whole)/2], 0},
		"the end is missing":          {whole[:len(whole)-1], 0},
		"something behind":            {whole + "x", 0},
		"a token without an id":       {whole[:len(whole)-1] + ",{}]", 0},
		"short, and cut":              {whole[:1000], 502},
		"short, and of another shape": {`{"tokens":[]}`, 502},
		"short":                       {`{"data":[]}`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			defer w.lists(c.body)()
			rec := httptest.NewRecorder()
			brokenOff := aborted(func() { w.answerTo(t, rec, "GET", "/api/v1/tokens", "") })
			if brokenOff != (c.status == 0) || !brokenOff && rec.Code != c.status {
				t.Fatalf("broken off: %v, %d", brokenOff, rec.Code)
			}
			if strings.Contains(rec.Body.String(), "SECRET") {
				t.Error("the answer has more of a token than may be shown")
			}
			reason := "upstream_shape"
			if c.status == 200 {
				reason = "allowed"
				if have, want := strings.Count(rec.Body.String(), `"id"`), strings.Count(c.body, `"id"`); have != want || !json.Valid(rec.Body.Bytes()) {
					t.Errorf("%d tokens of %d", have, want)
				}
				if length := rec.Header().Get("Content-Length"); (length == strconv.Itoa(rec.Body.Len())) != (len(c.body) < holdBack) {
					t.Errorf("Content-Length %q of %d", length, rec.Body.Len())
				}
			}
			w.lastRecord(t, reason, c.status == 200)
		})
	}

	defer w.lists(whole)()
	if !aborted(func() { w.answerTo(t, hungUp{httptest.NewRecorder()}, "GET", "/api/v1/tokens", "") }) {
		t.Error("an answer that nobody takes is not broken off")
	}
	w.lastRecord(t, "client_gone", false)
}

func everyones(n int) string {
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, `,{"id":"3f0c6a52-8d1e-4b7a-9c55-%012d","name":"one of many","token":"SECRET","allowed_scopes":["members.read","groups.read"]}`, i)
	}
	return "[" + list.String()[1:] + "]"
}

// lists makes upstream list tokens in these words.
func (w *world) lists(body string) (heal func()) {
	return w.sim.Fail(simulator.Fault{Operation: "listTokens", Effect: func(rw http.ResponseWriter, _ *http.Request, _ func() simulator.Answer) {
		simulator.Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}.Send(rw)
	}})
}

// lastRecord holds the end of the last exchange to what is said of it.
func (w *world) lastRecord(t *testing.T, reason string, complete bool) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(readFile(t, w.log))), "\n")
	last := lines[len(lines)-1]
	if !strings.Contains(last, `"reason":"`+reason+`"`) || strings.Contains(last, `"complete":true`) != complete {
		t.Errorf("not %s, complete %v: %s", reason, complete, last)
	}
}

// aborted reports whether an answer was broken off.
func aborted(answer func()) (yes bool) {
	defer func() { yes = recover() == http.ErrAbortHandler }() //nolint:errorlint // it is panicked with as it is
	answer()
	return false
}

// hungUp is a caller who takes nothing.
type hungUp struct{ *httptest.ResponseRecorder }

func (hungUp) Write([]byte) (int, error) { return 0, net.ErrClosed }

// The reply to a mint is lost in each way that there is. The token is found by
// its stamp and deleted, and the place that it took is free again.
func TestMintWhoseReplyIsLost(t *testing.T) {
	for name, effect := range map[string]simulator.Effect{
		"reset":          simulator.Lose(),
		"half an answer": simulator.Truncate(),
		"no JSON":        simulator.Garble(),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "max_live 1", 1))
			heal := w.sim.Fail(simulator.Fault{Operation: "createToken", Effect: effect})
			rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
			heal()
			if rec.Code != 502 || len(w.sim.Tokens()) != 2 || len(w.rowsIn(t, ledger.Unknown)) != 1 {
				t.Fatalf("%d %s, rows %+v", rec.Code, rec.Body, w.rowsIn(t, ledger.Unknown))
			}
			if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 403 || reasonOf(t, rec) != "mint_quota" {
				t.Errorf("it takes no place: %d %s", rec.Code, rec.Body)
			}
			dry, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{Dry: true})
			if err != nil || dry.Counts[ledger.Recovered] != 1 || len(w.rowsIn(t, ledger.Unknown)) != 1 {
				t.Errorf("a dry run: %+v, %v", dry, err)
			}
			report, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{})
			if err != nil || report.Counts[ledger.Recovered] != 1 || report.Counts[ledger.Foreign] != 1 {
				t.Errorf("%+v, %v", report, err)
			}
			w.ends(t)
			w.mint(t)
		})
	}
}

// A mint that upstream certainly did not act on leaves nothing behind.
func TestMintThatNeverHappened(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "max_live 1\n\t\tmint_quota 1 per day", 1))
	for _, status := range []int{400, 409, 429, 401} {
		heal := w.sim.Fail(simulator.Fault{Operation: "createToken", Effect: simulator.Status(status, nil)})
		rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
		heal()
		if rec.Code == 200 || len(w.rowsIn(t, ledger.Intent))+len(w.rowsIn(t, ledger.Unknown)) != 0 {
			t.Errorf("%d: %d %s", status, rec.Code, rec.Body)
		}
	}
	w.mint(t)
}

func TestMintIsProved(t *testing.T) {
	for name, c := range map[string]struct {
		fault  simulator.Fault
		reason string
		status int // of upstream, as the caller is told
	}{
		"made wider":         {simulator.Fault{Operation: "createToken", Effect: simulator.Widen()}, "upstream_widened", 200},
		"not to be read":     {simulator.Fault{Operation: "getToken", Effect: simulator.Status(500, nil)}, "upstream_error", 500},
		"held off":           {simulator.Fault{Operation: "getToken", Effect: simulator.Status(429, nil)}, "upstream_status", 429},
		"not there":          {simulator.Fault{Operation: "getToken", Effect: simulator.Status(404, http.Header{"Content-Type": {"application/json"}})}, "upstream_shape", 200},
		"read as no JSON":    {simulator.Fault{Operation: "getToken", Effect: simulator.Garble()}, "upstream_shape", 200},
		"read half":          {simulator.Fault{Operation: "getToken", Effect: simulator.Truncate()}, "upstream_broken", 200},
		"a page of no token": {simulator.Fault{Operation: "getToken", Effect: simulator.Status(404, http.Header{"Content-Type": {"text/html"}})}, "upstream_status", 404},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokenTeam)
			heal := w.sim.Fail(c.fault)
			rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
			if rec.Code != 502 || reasonOf(t, rec) != c.reason || strings.Contains(rec.Body.String(), "simulated-") ||
				!strings.Contains(rec.Body.String(), fmt.Sprintf(`"upstream_status":%d}`, c.status)) {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
			if rec := w.do(t, "GET", "/api/v1/tokens", ""); rec.Body.String() != "[]" {
				t.Errorf("its team sees it: %s", rec.Body)
			}
			heal()
			await(t, "an end of the doubt", func() bool {
				rows := w.rowsIn(t, ledger.Unknown)
				return len(rows) == 0 || rows[0].ID == ""
			})
			if _, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{}); err != nil {
				t.Fatal(err) // which finds it by its stamp where the ledger, too, was told that it is not there
			}
			w.ends(t)
		})
	}
}

// A team that deletes a token while GoodAccess fails has it deleted later.
func TestDeletionIsOwedUntilItIsProved(t *testing.T) {
	for name, effect := range map[string]simulator.Effect{
		"it fails":               simulator.Status(500, nil),
		"it is refused":          simulator.Status(400, nil),
		"the reply is lost":      simulator.Lose(),
		"nothing arrives":        simulator.Refuse(),
		"a page of no such path": simulator.Status(404, http.Header{"Content-Type": {"text/html"}}),
		"it does nothing":        simulator.Status(200, nil),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokenTeam)
			made := w.mint(t)
			heal := w.sim.Fail(simulator.Fault{Operation: "revokeToken", Effect: effect})
			rec := w.do(t, "DELETE", "/api/v1/token/"+made.ID, "")
			if rec.Code == 404 {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
			if owed := w.rowsIn(t, ledger.Revoking); len(owed) != 1 || owed[0].Failure == "" {
				t.Errorf("owed: %+v", owed)
			}
			if rec := w.do(t, "GET", "/api/v1/token/"+made.ID, ""); rec.Code != 404 {
				t.Errorf("it is still shown: %d %s", rec.Code, rec.Body)
			}
			heal()
			w.ends(t)
		})
	}
}

func TestIdempotentMints(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "max_live 5", 1))
	_, key := w.newKey(t, "red")
	body := mint(48 * time.Hour)
	ask := func(key credential.Key, id, body string) *httptest.ResponseRecorder {
		return w.with(t, key, "POST", "/api/v1/token", body, "Idempotency-Key: "+id)
	}
	first := ask(key, "a", body)
	again := ask(key, "a", body)
	if first.Code != 200 || again.Code != 200 || first.Body.String() != again.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" || first.Header().Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s, then %d %s", first.Code, first.Body, again.Code, again.Body)
	}
	var m minted
	_ = json.Unmarshal(first.Body.Bytes(), &m)
	if n := len(w.sim.Tokens()); n != 2 {
		t.Errorf("%d tokens", n)
	}
	if rec := ask(key, "a", mint(47*time.Hour)); rec.Code != 422 || reasonOf(t, rec) != "idempotency_mismatch" {
		t.Errorf("another body: %d %s", rec.Code, rec.Body)
	}
	if rec := ask(key, "b", body); rec.Code != 200 || rec.Body.String() == first.Body.String() {
		t.Errorf("another key: %d %s", rec.Code, rec.Body)
	}
	if rec := ask(w.key, "a", body); rec.Code != 200 || rec.Body.String() == first.Body.String() {
		t.Errorf("another credential: %d %s", rec.Code, rec.Body)
	}
	for _, bad := range []string{"", strings.Repeat("x", 256), "a b", "ä"} {
		if rec := ask(key, bad, body); rec.Code != 422 || reasonOf(t, rec) != "mint_invalid" {
			t.Errorf("the key %q: %d %s", bad, rec.Code, rec.Body)
		}
	}

	var next credential.Key
	_, err := w.change(func(r *credential.Registry) (row store.Credential, err error) {
		row, next, err = r.Rotate(t.Context(), key.ID(), credential.Rotation{Overlap: time.Hour})
		return row, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if rec := ask(next, "a", body); rec.Code != 409 || reasonOf(t, rec) != "idempotency_conflict" {
		t.Errorf("after a rotation: %d %s", rec.Code, rec.Body)
	}
	if rec := ask(key, "a", body); rec.Code != 200 {
		t.Errorf("with the old key: %d %s", rec.Code, rec.Body)
	}
	if rec := w.with(t, key, "DELETE", "/api/v1/token/"+m.ID, ""); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rec := ask(key, "a", body); rec.Code != 409 || reasonOf(t, rec) != "idempotency_conflict" {
		t.Errorf("after its end: %d %s", rec.Code, rec.Body)
	}

	// A mint whose reply was lost is not answered, and not made again.
	heal := w.sim.Fail(simulator.Fault{Operation: "createToken", Effect: simulator.Lose()})
	lost := ask(key, "c", body)
	heal()
	before := len(w.sim.Tokens())
	if rec := ask(key, "c", body); lost.Code != 502 || rec.Code != 409 || len(w.sim.Tokens()) != before {
		t.Errorf("after a lost reply: %d, then %d %s", lost.Code, rec.Code, rec.Body)
	}
	// One that never happened is.
	heal = w.sim.Fail(simulator.Fault{Operation: "createToken", Effect: simulator.Status(400, nil)})
	refused := ask(key, "d", body)
	heal()
	if rec := ask(key, "d", body); refused.Code != 400 || rec.Code != 200 {
		t.Errorf("after a refusal: %d, then %d %s", refused.Code, rec.Code, rec.Body)
	}
}

// Whoever was given less than they asked for, and missed the reply that said so,
// must learn it from the second, though the grant was widened meanwhile.
func TestIdempotentMintsSayWhatWasNarrowed(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "max_ttl 2d\n\t\tclamp", 1))
	ask := func() *httptest.ResponseRecorder {
		return w.with(t, w.key, "POST", "/api/v1/token", mint(9*24*time.Hour), "Idempotency-Key: a")
	}
	first := ask()
	w.rules.teams[0].Mint.MaxTTL = 30 * 24 * time.Hour
	again := ask()
	for _, rec := range []*httptest.ResponseRecorder{first, again} {
		if rec.Code != 200 || rec.Header().Get("Scopegate-Clamped") != "expires_at" {
			t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
		}
	}
	onRecord := func(rec *httptest.ResponseRecorder) (made struct {
		TokenID   string   `json:"token_id"`
		ExpiresAt string   `json:"expires_at"`
		Clamped   []string `json:"clamped"`
	},
	) {
		for line := range strings.Lines(string(readFile(t, w.log))) {
			if strings.Contains(line, decisionOf(rec)) && strings.Contains(line, `"phase":"ended"`) {
				if err := json.Unmarshal([]byte(line), &made); err != nil {
					t.Fatal(err)
				}
			}
		}
		return made
	}
	made := onRecord(first)
	if diff := cmp.Diff(made, onRecord(again)); diff != "" || made.TokenID == "" || made.ExpiresAt == "" {
		t.Errorf("on record %+v, then (-first +again):\n%s", made, diff)
	}
}

// A credential's end is the end of what it made; its rotation and suspension
// are not.
func TestCascade(t *testing.T) {
	w := newWorld(t, tokenTeam)
	_, key := w.newKey(t, "red")
	if rec := w.with(t, key, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	change := func(do func(*credential.Registry) (store.Credential, error)) {
		t.Helper()
		if _, err := w.change(do); err != nil {
			t.Fatal(err)
		}
	}
	change(func(r *credential.Registry) (store.Credential, error) {
		row, _, err := r.Rotate(t.Context(), key.ID(), credential.Rotation{})
		return row, err
	})
	change(func(r *credential.Registry) (store.Credential, error) {
		return r.Suspend(t.Context(), key.ID(), credential.Edit{})
	})
	if list, err := w.room.rows.StrandedTokens(t.Context(), 10); err != nil || len(list) != 0 || len(w.rowsIn(t, ledger.Live)) != 1 {
		t.Errorf("after a rotation and a suspension: %+v, %v", list, err)
	}
	change(func(r *credential.Registry) (store.Credential, error) {
		return r.Revoke(t.Context(), key.ID(), credential.Edit{})
	})
	if n := len(w.rowsIn(t, ledger.Live)); n != 0 {
		t.Errorf("%d live tokens of a revoked credential", n)
	}
	w.ends(t)
}

// Of two mints with one idempotency key at once, one is made.
func TestIdempotentMintsAtOnce(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "", 1))
	body := mint(48 * time.Hour)
	codes := make(chan int, 8)
	for range cap(codes) {
		go func() { codes <- w.with(t, w.key, "POST", "/api/v1/token", body, "Idempotency-Key: once").Code }()
	}
	seen := map[int]int{}
	for range cap(codes) {
		seen[<-codes]++
	}
	if n := len(w.sim.Tokens()); n != 2 || seen[200] == 0 || seen[200]+seen[409] != cap(codes) {
		t.Errorf("%d tokens, answers %v", n, seen)
	}
}

// The sealed answers in the store hold no secret.
func TestStoreHoldsNoMintedSecret(t *testing.T) {
	w := newWorld(t, tokenTeam)
	rec := w.with(t, w.key, "POST", "/api/v1/token", mint(48*time.Hour), "Idempotency-Key: a")
	var m minted
	if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil || m.Token == "" {
		t.Fatal(rec.Body)
	}
	for _, secret := range []string{m.Token, w.sim.Master(), w.key.Reveal()} {
		for name, text := range filesBelow(t, caddy.AppDataDir()) {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%.12s... stands in %s", secret, name)
			}
		}
	}
}

func filesBelow(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d files in %s: %v", len(all), dir, err)
	}
	return all
}

func TestStampKey(t *testing.T) {
	t.Setenv("SCOPEGATE_TEST_STAMPS", "a-secret-of-sixteen-or-more")
	w := newWorldWith(t, tokenTeam, "stamp_key {env.SCOPEGATE_TEST_STAMPS}")
	w.mint(t)
	report, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{})
	if err != nil || report.Counts[ledger.Ours] != 1 {
		t.Errorf("%v, %v", report, err)
	}
	for option, want := range map[string]string{
		"stamp_key a-literal-that-caddy-would-show": "exactly one {env.NAME}",
		"max_token_name 60":                         "leaves no room",
		"reconcile 1s":                              "1m0s or more",
	} {
		g := parse(t, fmt.Sprintf("scopegate {\n upstream http://127.0.0.1:1 {\n master_token {env.X}\n }\n %s\n team red {\n scopes members.read\n }\n}", option))
		if err := g.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// serve answers a request without a network.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}
