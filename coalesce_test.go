package scopegate

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/upstream"
)

// stage is a gateway with coalesce before an upstream whose answers wait until
// the test gives them.
type stage struct {
	*world
	arrivals chan *arrival
	blue     credential.Key // of another team
}

// arrival is a request that has arrived upstream.
type arrival struct {
	*http.Request
	give chan simulator.Answer
}

func newStage(t *testing.T, option string) *stage {
	t.Helper()
	s := &stage{
		world: newWorldWith(t, "scopes members.* groups.* gateway-log.read token.*", option+`
		reconcile off
		team blue {
			scopes members.*
		}`),
		arrivals: make(chan *arrival, 16),
	}
	_, s.blue = s.newKey(t, "blue")
	t.Cleanup(s.sim.Fail(simulator.Fault{Effect: func(w http.ResponseWriter, r *http.Request, _ func() simulator.Answer) {
		a := &arrival{r, make(chan simulator.Answer)}
		s.arrivals <- a
		select {
		case answer := <-a.give:
			answer.Send(w)
		case <-r.Context().Done():
		}
	}}))
	return s
}

// next waits for a request to arrive upstream.
func (s *stage) next(t *testing.T) *arrival {
	t.Helper()
	select {
	case a := <-s.arrivals:
		return a
	case <-time.After(testPatience):
		t.Fatal("nothing arrived upstream")
		return nil
	}
}

// answer gives an answer of one piece whose length is said.
func (a *arrival) answer(t *testing.T, status int, body string) {
	t.Helper()
	answer := simulator.Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
	select {
	case a.give <- answer:
	case <-a.Context().Done():
		t.Errorf("nobody waits any more for the answer to %s %s", a.Method, a.URL.Path)
	}
}

// testPatience bounds the wait for what will happen.
const testPatience = 30 * time.Second

// asked is a request on its way through the gateway.
type asked struct {
	hangUp context.CancelFunc
	back   chan *httptest.ResponseRecorder
}

func (s *stage) ask(t *testing.T, key credential.Key, method, path, body string) *asked {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &asked{cancel, make(chan *httptest.ResponseRecorder, 1)}
	go func() {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+key.Reveal())
		r.Header.Set("Content-Type", "application/json")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rec, &caddyhttp.Server{})
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
		if err := s.ServeHTTP(rec, r, nil); err != nil {
			t.Error(err)
		}
		a.back <- rec
	}()
	return a
}

// read is a GET of the members with the key of team red.
func (s *stage) read(t *testing.T) *asked {
	t.Helper()
	return s.ask(t, s.key, "GET", "/api/v1/members", "")
}

// joins is read by one who joins a flight: it waits until there are n of them.
func (s *stage) joins(t *testing.T, n int) *asked {
	t.Helper()
	a := s.read(t)
	awaitWaiting(t, n)
	return a
}

// inWait are the callers who wait for another's flight, as the runtime knows
// them: nothing else tells when somebody waits.
var inWait = regexp.MustCompile(`flights\.\(\*flight\[\.\.\.\]\)\.wait\(`)

func awaitWaiting(t *testing.T, n int) {
	t.Helper()
	await(t, "others to wait", func() bool {
		var dump bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&dump, 2); err != nil {
			t.Fatal(err)
		}
		return len(inWait.FindAllIndex(dump.Bytes(), -1)) == n
	})
}

// gets holds what came back to what it should be.
func (a *asked) gets(t *testing.T, status int, part string) *httptest.ResponseRecorder {
	t.Helper()
	rec := <-a.back
	if rec.Code != status || !strings.Contains(rec.Body.String(), part) {
		t.Errorf("got %d %.200s, want %d %s", rec.Code, rec.Body, status, part)
	}
	return rec
}

// ending is the second record of a request.
type ending struct {
	UUID       string `json:"uuid"`
	Phase      string `json:"phase"`
	Reason     string `json:"reason"`
	Upstream   int    `json:"upstream_status"`
	SharedWith string `json:"shared_with"`
	Complete   bool   `json:"complete"`
}

// end is how a request ended, on record, and that it was decided before.
func (w *world) end(t *testing.T, rec *httptest.ResponseRecorder) (end ending) {
	t.Helper()
	id := rec.Header().Get("Scopegate-Decision-Id")
	for line := range strings.Lines(string(readFile(t, w.log))) {
		var r ending
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.UUID != id:
		case r.Phase == string(audit.Decided):
			end = r
		case r.Phase == string(audit.Ended) && end.Phase == string(audit.Decided):
			return r
		}
	}
	t.Errorf("%q was not decided and ended on record", id)
	return end
}

// onRecord holds the record of a request to what it should say.
func (s *stage) onRecord(t *testing.T, rec *httptest.ResponseRecorder, want ending) {
	t.Helper()
	want.UUID, want.Phase = rec.Header().Get("Scopegate-Decision-Id"), string(audit.Ended)
	if got := s.end(t, rec); got != want {
		t.Errorf("on record %+v, want %+v", got, want)
	}
}

func decisionOf(rec *httptest.ResponseRecorder) string {
	return rec.Header().Get("Scopegate-Decision-Id")
}

func TestCoalesceSharesAnAnswer(t *testing.T) {
	s := newStage(t, "coalesce")
	for _, c := range []struct {
		status   int // of upstream
		answered int
		reason   string
		part     string
	}{
		{200, 200, "allowed", "everybody"},
		{404, 404, "allowed", "everybody"},
		{429, 429, "allowed", "everybody"},
		{500, 502, "upstream_error", `"reason":"upstream_error"`},
		{401, 502, "upstream_unauthorized", `"reason":"upstream_unauthorized"`},
	} {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		at.answer(t, c.status, `{"for":"everybody"}`)
		lead, follow := one.gets(t, c.answered, c.part), two.gets(t, c.answered, c.part)
		s.onRecord(t, lead, ending{Reason: c.reason, Upstream: c.status, Complete: c.status == c.answered})
		s.onRecord(t, follow, ending{Reason: c.reason, Upstream: c.status, Complete: c.status == c.answered, SharedWith: decisionOf(lead)})
		if c.status != c.answered && !strings.Contains(follow.Body.String(), decisionOf(follow)) {
			t.Errorf("the problem is not the follower's own: %s", follow.Body)
		}
		for name, values := range lead.Header() {
			if name != "Scopegate-Decision-Id" && name != "Content-Length" && !slices.Equal(values, follow.Header()[name]) {
				t.Errorf("%s: %q for the one, %q for the other", name, values, follow.Header()[name])
			}
		}
	}
	if n := len(s.arrivals); n != 0 {
		t.Errorf("%d more requests arrived upstream", n)
	}
}

// What differs in anything, and whatever is about tokens, is sent by itself; and
// so is everything where nobody asked for sharing.
func TestCoalesceKeepsApartWhatIsNotTheSame(t *testing.T) {
	s := newStage(t, "coalesce")
	const logs = "/api/v1/gateway-level-logs"
	var all []*asked
	var at []*arrival
	ask := func(key credential.Key, path, body string) {
		all = append(all, s.ask(t, key, "GET", path, body))
		at = append(at, s.next(t))
	}
	ask(s.key, "/api/v1/members", "")
	ask(s.blue, "/api/v1/members", "")
	ask(s.key, "/api/v1/groups", "")
	ask(s.key, logs, "")
	ask(s.key, logs, `{"page":1}`)
	ask(s.key, logs, `{"page":2}`)
	ask(s.key, "/api/v1/tokens", "")
	ask(s.key, "/api/v1/tokens", "")
	// The same once it is understood.
	all = append(all, s.ask(t, s.key, "GET", logs, ` { "page" : 1 } `))
	awaitWaiting(t, 1)
	for _, a := range at {
		a.answer(t, 200, `[]`)
	}
	const led = 4
	lead := decisionOf(all[led].gets(t, 200, ""))
	for i, a := range all {
		if i == led {
			continue
		}
		rec, with := a.gets(t, 200, ""), ""
		if i == len(all)-1 {
			with = lead
		}
		s.onRecord(t, rec, ending{Reason: "allowed", Upstream: 200, Complete: true, SharedWith: with})
	}
}

func TestCoalesceIsOffByDefault(t *testing.T) {
	s := newStage(t, "")
	one, two := s.read(t), s.read(t)
	s.next(t).answer(t, 200, `{}`)
	s.next(t).answer(t, 200, `{}`)
	for _, a := range []*asked{one, two} {
		s.onRecord(t, a.gets(t, 200, "{}"), ending{Reason: "allowed", Upstream: 200, Complete: true})
	}
}

// A read that begins when a change has left, or is back, is not answered from
// before it, whoever made the change.
func TestCoalesceReadsWhatWasWritten(t *testing.T) {
	s := newStage(t, "coalesce")
	for name, change := range map[string]struct {
		key                credential.Key
		method, path, body string
	}{
		"of the team":     {s.key, "DELETE", "/api/v1/member/" + simulator.MemberID, ""},
		"of another team": {s.blue, "DELETE", "/api/v1/member/" + simulator.MemberID, ""},
		"a creation":      {s.blue, "POST", "/api/v1/member", `{"email":"a@example.com"}`},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.read(t)
			atBefore := s.next(t)
			written := s.ask(t, change.key, change.method, change.path, change.body)
			atChange := s.next(t)
			during := s.read(t)
			atDuring := s.next(t)
			atChange.answer(t, 200, `{}`)
			written.gets(t, 200, "")
			after := s.read(t)
			atAfter := s.next(t)
			joined := s.joins(t, 1)

			atBefore.answer(t, 200, `"before"`)
			before.gets(t, 200, "before")
			atDuring.answer(t, 200, `"during"`)
			during.gets(t, 200, "during")
			atAfter.answer(t, 200, `"after"`)
			after.gets(t, 200, "after")
			joined.gets(t, 200, "after")
		})
	}
	// What the gateway does by itself changes something, too.
	t.Run("of the gateway", func(t *testing.T) {
		before := s.read(t)
		atBefore := s.next(t)
		id, done := s.sim.Plant("somebody's"), make(chan error)
		go func() {
			op := scopes.Find(scopes.RevokeToken)
			rec := audit.Record{UUID: newID(), Operation: op.ID}
			resp, _, err := s.dispatch(t.Context(), &rec, op, upstream.Request{Path: "/api/v1/token/" + id}, func() *refusal { return nil })
			if err == nil {
				err = resp.Body.Close()
			}
			done <- err
		}()
		s.next(t).answer(t, 200, `{}`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		after := s.read(t)
		s.next(t).answer(t, 200, `"after"`)
		after.gets(t, 200, "after")
		atBefore.answer(t, 200, `"before"`)
		before.gets(t, 200, "before")
	})
}

// An answer of more than 1 MiB is its reader's alone; whoever waited for it
// sends its own request.
func TestCoalesceSharesNothingLarge(t *testing.T) {
	s := newStage(t, "coalesce")
	body := func(size int) string { return `"` + strings.Repeat("x", size-2) + `"` }
	for _, size := range []int{maxShared, maxShared + 1, 3 * maxShared} {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		at.answer(t, 200, body(size))
		with := ""
		if size > maxShared {
			s.next(t).answer(t, 200, body(size))
		}
		lead := one.gets(t, 200, "")
		if size <= maxShared {
			with = decisionOf(lead)
		}
		follow := two.gets(t, 200, "")
		if lead.Body.Len() != size || follow.Body.String() != lead.Body.String() {
			t.Errorf("%d: %d and %d bytes", size, lead.Body.Len(), follow.Body.Len())
		}
		s.onRecord(t, follow, ending{Reason: "allowed", Upstream: 200, Complete: true, SharedWith: with})
	}
}

// Whoever hangs up ends nothing that others wait for, and when all have, nothing
// goes on.
func TestCoalesceWhenCallersHangUp(t *testing.T) {
	s := newStage(t, "coalesce")
	t.Run("the first", func(t *testing.T) {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		one.hangUp()
		at.answer(t, 200, `{"for":"everybody"}`)
		follow, lead := two.gets(t, 200, "everybody"), one.gets(t, statusClientGone, "")
		s.onRecord(t, lead, ending{Reason: "client_gone"})
		s.onRecord(t, follow, ending{Reason: "allowed", Upstream: 200, Complete: true, SharedWith: decisionOf(lead)})
	})
	t.Run("another", func(t *testing.T) {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		two.hangUp()
		follow := two.gets(t, statusClientGone, "")
		at.answer(t, 200, `{"for":"everybody"}`)
		lead := one.gets(t, 200, "everybody")
		s.onRecord(t, follow, ending{Reason: "client_gone", SharedWith: decisionOf(lead)})
	})
	t.Run("all", func(t *testing.T) {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		one.hangUp()
		two.hangUp()
		<-at.Context().Done()
		one.gets(t, statusClientGone, "")
		two.gets(t, statusClientGone, "")
	})
	t.Run("the first, before a large answer", func(t *testing.T) {
		one := s.read(t)
		at := s.next(t)
		two := s.joins(t, 1)
		one.hangUp()
		at.answer(t, 200, strings.Repeat(" ", maxShared)+"{}")
		s.next(t).answer(t, 200, `{"its":"own"}`)
		two.gets(t, 200, "its")
		one.gets(t, statusClientGone, "")
	})
}

func (s *stage) revoke(t *testing.T, row store.Credential) {
	t.Helper()
	if _, err := s.change(func(r *credential.Registry) (store.Credential, error) {
		return r.Revoke(t.Context(), row.ID, credential.Edit{})
	}); err != nil {
		t.Fatal(err)
	}
}

// A revocation reaches those who wait, too: what another was permitted to read
// is not given to them.
func TestCoalesceAsksAgain(t *testing.T) {
	s := newStage(t, "coalesce")
	row, key := s.newKey(t, "red")
	one := s.read(t)
	at := s.next(t)
	two := s.ask(t, key, "GET", "/api/v1/members", "")
	awaitWaiting(t, 1)
	s.revoke(t, row)
	at.answer(t, 200, `{"for":"everybody"}`)
	lead := one.gets(t, 200, "everybody")
	refused := two.gets(t, 401, "credential_revoked")
	if strings.Contains(refused.Body.String(), "everybody") {
		t.Errorf("it was given the answer: %s", refused.Body)
	}
	s.onRecord(t, refused, ending{Reason: "credential_revoked", SharedWith: decisionOf(lead)})
}

// Whoever has waited for what turns out to be too large to share sends its own
// request, and that is a new one: a revocation meanwhile holds for it.
func TestCoalesceAsksAgainBeforeItSendsItsOwn(t *testing.T) {
	s := newStage(t, "coalesce")
	row, key := s.newKey(t, "red")
	one := s.read(t)
	at := s.next(t)
	two := s.ask(t, key, "GET", "/api/v1/members", "")
	awaitWaiting(t, 1)
	s.revoke(t, row)
	at.answer(t, 200, strings.Repeat(" ", maxShared)+"{}")
	one.gets(t, 200, "{}")
	s.onRecord(t, two.gets(t, 401, "credential_revoked"), ending{Reason: "credential_revoked"})
	if n := len(s.arrivals); n != 0 {
		t.Errorf("%d more requests arrived upstream", n)
	}
}

// A flight takes one place upstream, however many share it.
func TestCoalesceTakesOnePlace(t *testing.T) {
	s := newStage(t, "coalesce")
	s.Upstream.MaxInFlight = 2 // one of which is the team's
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s.forward, err = upstream.New(ctx, s.Upstream, upstream.Options{Teams: 2}); err != nil {
		t.Fatal(err)
	}
	one := s.read(t)
	at := s.next(t)
	two, three := s.joins(t, 1), s.joins(t, 2)
	s.ask(t, s.key, "GET", "/api/v1/groups", "").gets(t, 503, "upstream_busy")
	at.answer(t, 200, `{}`)
	for _, a := range []*asked{one, two, three} {
		a.gets(t, 200, "{}")
	}
}

// Where nobody asked for sharing, it costs nothing.
func TestWithoutCoalesceNothingIsAllocated(t *testing.T) {
	s := newStage(t, "")
	s.Upstream.MaxInFlight = 1
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s.forward, err = upstream.New(ctx, s.Upstream, upstream.Options{Teams: 1}); err != nil {
		t.Fatal(err)
	}
	held := s.read(t) // so that nothing but the refusal of a place is measured
	at := s.next(t)
	op := scopes.Find("listMembers")
	out, rec := upstream.Request{Method: op.Method, Path: op.Path, Team: "red"}, audit.Record{Operation: op.ID}
	var failed error
	bare := testing.AllocsPerRun(100, func() { _, failed = s.forward.Do(ctx, out) })
	if full := testing.AllocsPerRun(100, func() { _, failed = s.send(ctx, &rec, op, out) }); full != bare {
		t.Errorf("%v allocations, %v without it", full, bare)
	}
	if failed == nil {
		t.Error("there was a place, so something else was measured")
	}
	at.answer(t, 200, `{}`)
	held.gets(t, 200, "{}")
}
