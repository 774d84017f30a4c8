package scopegate

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/store"
)

// patience bounds every wait for something that will happen.
const patience = 20 * time.Second

// create makes a credential, which becomes the one that w.do presents.
func (w *world) create(t *testing.T) store.Credential {
	t.Helper()
	var key credential.Key
	row, err := w.change(func(r *credential.Registry) (row store.Credential, err error) {
		row, key, err = r.Create(t.Context(), credential.New{Team: "red", Name: "made", By: "test"})
		return row, err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.key = key
	return row
}

// rotate gives the credential a new key and returns it.
func (w *world) rotate(t *testing.T, id string, how credential.Rotation) credential.Key {
	t.Helper()
	how.By = "test"
	var key credential.Key
	if _, err := w.change(func(r *credential.Registry) (row store.Credential, err error) {
		row, key, err = r.Rotate(t.Context(), id, how)
		return row, err
	}); err != nil {
		t.Fatal(err)
	}
	return key
}

// edit makes one of the plain changes.
func (w *world) edit(t *testing.T, id, kind string) error {
	t.Helper()
	_, err := w.change(func(r *credential.Registry) (store.Credential, error) {
		e := credential.Edit{By: "test"}
		switch kind {
		case credential.KindSuspend:
			return r.Suspend(t.Context(), id, e)
		case credential.KindResume:
			return r.Resume(t.Context(), id, e)
		default:
			return r.Revoke(t.Context(), id, e)
		}
	})
	return err
}

const aMember = "/api/v1/member/0b7e5a10-0000-4000-8000-000000000101"

// expect asks with the world's key; "" as the reason is a success.
func (w *world) expect(t *testing.T, reason string) {
	t.Helper()
	rec := w.do(t, "GET", aMember, "")
	got := ""
	if rec.Code != 200 {
		got = reasonOf(t, rec)
	}
	if got != reason {
		t.Errorf("%d %q, want %q", rec.Code, got, reason)
	}
}

// until waits for what another goroutine is about to do.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	late := time.After(patience)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !happened() {
		select {
		case <-late:
			t.Fatalf("not in %s: %s", patience, what)
		case <-again.C:
		}
	}
}

func TestStoredCredentialLives(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	row := w.create(t)
	w.expect(t, "")
	for _, step := range []struct{ kind, reason string }{
		{credential.KindSuspend, "credential_suspended"},
		{credential.KindResume, ""},
		{credential.KindRevoke, "credential_revoked"},
	} {
		if err := w.edit(t, row.ID, step.kind); err != nil {
			t.Fatal(err)
		}
		w.expect(t, step.reason)
	}
	log, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"create", "suspend", "resume", "revoke"} {
		var phases []string
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, `"change":"`+change+`"`) && strings.Contains(line, `"operator":"test"`) && strings.Contains(line, row.ID) {
				_, phase, _ := strings.Cut(line, `"phase":"`)
				phase, _, _ = strings.Cut(phase, `"`)
				phases = append(phases, phase)
			}
		}
		if strings.Join(phases, " ") != "decided ended" {
			t.Errorf("%s has the records %q", change, phases)
		}
	}
	if strings.Contains(string(log), w.key.Reveal()) {
		t.Error("a key is in the audit log")
	}
}

// A revocation that comes while a request is under way must reach it: its
// caller was identified before, but nothing of it has left yet.
func TestRevocationReachesARequestUnderWay(t *testing.T) {
	w := newWorld(t, "scopes members.update")
	row := w.create(t)
	before := len(w.sim.Requests())
	body := &revoking{text: strings.NewReader(`{"name":"New Name"}`), do: func() {
		if err := w.edit(t, row.ID, credential.KindRevoke); err != nil {
			t.Error(err)
		}
	}}
	r := httptest.NewRequest("PUT", aMember, body)
	r.Header.Set("Authorization", "Bearer "+w.key.Reveal())
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rec, &caddyhttp.Server{})
	if err := w.ServeHTTP(rec, r, nil); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 401 || reasonOf(t, rec) != "credential_revoked" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if n := len(w.sim.Requests()); n != before {
		t.Error("it reached upstream")
	}
}

// revoking is a body that does something when it is first read.
type revoking struct {
	text io.Reader
	do   func()
}

func (b *revoking) Read(p []byte) (int, error) {
	if b.do != nil {
		b.do()
		b.do = nil
	}
	return b.text.Read(p)
}

func TestNoRecordNoChange(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	row := w.create(t)
	good := w.Gateway.log
	full, err := audit.New(audit.Options{Durable: audit.NewSink(failing{})})
	if err != nil {
		t.Fatal(err)
	}
	w.Gateway.log = full
	err = w.edit(t, row.ID, credential.KindSuspend)
	w.Gateway.log = good
	_ = full.Close()
	if err == nil {
		t.Error("a change without a record was made")
	}
	w.expect(t, "")
}

// Whoever uses a key that was replaced is a thief or a machine that was
// forgotten; with lock_on_reuse nobody goes on until somebody has looked.
func TestRetiredKey(t *testing.T) {
	for _, c := range []struct{ name, option, then string }{
		{"told", "", ""},
		{"locked", "lock_on_reuse", "credential_suspended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "scopes members.read\n"+c.option)
			row := w.create(t)
			old := w.key
			next := w.rotate(t, row.ID, credential.Rotation{})
			w.key = next
			w.expect(t, "")
			w.key = old
			w.expect(t, "credential_retired")
			w.key = next
			if c.then != "" {
				until(t, "the credential is suspended", func() bool { return w.do(t, "GET", aMember, "").Code == 401 })
			}
			w.expect(t, c.then)
			log, err := os.ReadFile(w.log)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), `"generation":1,`) || !strings.Contains(string(log), `"reason":"credential_retired"`) {
				t.Error("no record names the key's generation")
			}
		})
	}
}

func TestOldKeyEndsWhenTheNewOneIsUsed(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	row := w.create(t)
	old := w.key
	next := w.rotate(t, row.ID, credential.Rotation{Overlap: time.Hour, UntilUsed: true})
	w.expect(t, "") // with the old one
	w.key = next
	w.expect(t, "")
	w.key = old
	until(t, "the old key ends", func() bool { return w.do(t, "GET", aMember, "").Code == 401 })
	w.expect(t, "credential_retired")
	w.key = next
	w.expect(t, "")
}

// A line of the configuration cannot be taken back without a reload of every
// replica; a revocation must not wait for that.
func TestStoreBeatsTheConfiguration(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	w.expect(t, "")
	for _, step := range []struct{ kind, reason string }{
		{credential.KindSuspend, "credential_suspended"},
		{credential.KindResume, ""},
		{credential.KindRevoke, "credential_revoked"},
	} {
		if err := w.edit(t, w.key.ID(), step.kind); err != nil {
			t.Fatal(err)
		}
		w.expect(t, step.reason)
	}
}

func TestMintQuotaIsExact(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "mint_quota 2 per day", 1))
	for i, want := range []int{200, 200, 403} {
		if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != want || want == 403 && reasonOf(t, rec) != "mint_daily_quota" {
			t.Fatalf("mint %d: %d %s", i+1, rec.Code, rec.Body)
		}
	}
}

// A mint that upstream refused made no token, and is given back.
func TestMintQuotaCountsTokensAlone(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "mint_quota 1 per day", 1))
	w.room.ledger.Rows = refusing{w.room.rows}
	if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 503 || reasonOf(t, rec) != "store_unavailable" {
		t.Errorf("without the store: %d %s", rec.Code, rec.Body)
	}
	w.room.ledger.Rows = w.room.rows
	good := w.Gateway.log
	full, err := audit.New(audit.Options{Durable: audit.NewSink(failing{})})
	if err != nil {
		t.Fatal(err)
	}
	w.Gateway.log = full
	if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 503 {
		t.Errorf("without a record: %d %s", rec.Code, rec.Body)
	}
	w.Gateway.log = good
	_ = full.Close()
	for i, want := range []int{200, 403} {
		if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != want {
			t.Errorf("mint %d: %d %s", i+1, rec.Code, rec.Body)
		}
	}
}

// refusing is a store that takes no token.
type refusing struct{ rows }

func (refusing) InsertToken(context.Context, store.Token, store.TokenBounds, *store.Answer) (store.Token, error) {
	return store.Token{}, io.ErrClosedPipe
}

func TestWithoutAStoreNothingIsMinted(t *testing.T) {
	w := newWorldWith(t, tokenTeam, "store none")
	if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 403 || reasonOf(t, rec) != "no_ledger" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "GET", aMember, ""); rec.Code != 200 {
		t.Errorf("a read: %d %s", rec.Code, rec.Body)
	}
	if err := w.edit(t, w.key.ID(), credential.KindSuspend); err == nil {
		t.Error("a credential was changed without a store")
	}
}

// While the store is away what is known goes on, for as long as the grace, and
// nothing is taken for unknown that may merely not be known here.
func TestStoreAway(t *testing.T) {
	w := newWorldWith(t, strings.Replace(tokenTeam, "max_live 2", "", 1), "store_grace 2s")
	w.create(t)
	// What has just been changed is not known until it is asked for again.
	if err := w.room.member.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "")
	known := w.key
	w.storeGone = true
	if err := w.room.rows.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the loss is noticed", func() bool { return !w.room.member.Reachable() })
	w.expect(t, "")
	w.key = credential.Generate()
	w.expect(t, "store_unavailable")
	w.key = known
	if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 503 || reasonOf(t, rec) != "store_unavailable" {
		t.Errorf("a mint: %d %s", rec.Code, rec.Body)
	}
	if err := w.edit(t, known.ID(), credential.KindRevoke); err == nil {
		t.Error("a change was made")
	}
	until(t, "the grace runs out", func() bool { return w.do(t, "GET", aMember, "").Code == 503 })
	w.expect(t, "store_unavailable")
	if rec := w.do(t, "GET", "/_scopegate/readyz", ""); rec.Code != 503 {
		t.Errorf("ready: %d", rec.Code)
	}
}

// The policy is the configuration's: a credential that was made under a wider
// one has what is left of it.
func TestStoredCredentialFollowsItsTeam(t *testing.T) {
	for _, c := range []struct{ name, team, scopes, reason string }{
		{"narrower", "red", "groups.read-all", "insufficient_scope"},
		{"gone", "blue", "members.read", "team_gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "scopes members.read")
			w.create(t)
			w.expect(t, "")
			next := parse(t, `scopegate {
				upstream `+w.Upstream.URL+` {
					master_token {env.SCOPEGATE_TEST_MASTER}
				}
				team `+c.team+` {
					scopes `+c.scopes+`
				}
				audit {
					output file `+w.log+`
				}
			}`)
			ctx, err := caddy.ProvisionContext(&caddy.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := next.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			defer next.Cleanup()
			if next.room != w.room {
				t.Fatal("the reload opened the store a second time")
			}
			before := w.Gateway
			w.Gateway = next
			w.expect(t, c.reason)
			w.Gateway = before
			w.expect(t, "")
		})
	}
}

func TestLastUseIsKept(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	row := w.create(t)
	w.expect(t, "")
	if err := w.room.usage.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := w.registry(nil).Show(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Used.At.IsZero() || got.Used.Address != "192.0.2.1" || got.Used.Operation != "getMember" {
		t.Errorf("last use %+v", got.Used)
	}
}

func TestStoreOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		conf Store
		want string
	}{
		{"driver", Store{Driver: "redis"}, "sqlite, postgres or none"},
		{"literal address", Store{Driver: "postgres", Address: "postgres://me:secret@db/x"}, "exactly one"},
		{"address with a default", Store{Driver: "postgres", Address: "{env.X:postgres://me:secret@db/x}"}, "exactly one"},
		{"two placeholders", Store{Driver: "postgres", Address: "{env.X}{env.Y}"}, "exactly one"},
		{"no address", Store{Driver: "postgres"}, "exactly one"},
		{"address of sqlite", Store{Address: "{env.X}"}, "belong to postgres"},
		{"poll of sqlite", Store{Poll: true}, "belong to postgres"},
		{"path of none", Store{Driver: "none", Path: "x"}, "belongs to sqlite"},
		{"path with a query", Store{Path: "x.db?mode=memory"}, "plain path"},
		{"grace", Store{Grace: caddy.Duration(-1)}, "above zero"},
		{"long grace", Store{Grace: caddy.Duration(2 * time.Hour)}, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.conf.validate()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Each stored credential of a team has bounds of its own, by its id: a new key
// brings no fresh allowance, nor does a sibling that uses its own up take any.
func TestLimitsBelongToTheStoredCredential(t *testing.T) {
	w := newWorld(t, "scopes members.read\nrate_limit 100 24h\ncredential_rate_limit 3 24h")
	sibling := w.key
	row := w.create(t)
	old := w.key
	w.expect(t, "")
	w.key = w.rotate(t, row.ID, credential.Rotation{Overlap: time.Hour})
	w.expect(t, "")
	if got := w.do(t, "GET", aMember, "").Header().Get("Ratelimit"); !strings.Contains(got, `"credential";r=0;`) || !strings.Contains(got, `"team";r=97;`) {
		t.Errorf("told of %q", got)
	}
	w.expect(t, "rate_limited")
	w.key = old
	w.expect(t, "rate_limited")
	w.key = w.rotate(t, row.ID, credential.Rotation{})
	w.expect(t, "rate_limited")

	w.key = sibling // a static one, for which the team's word holds as well
	for range 3 {
		w.expect(t, "")
	}
	w.expect(t, "rate_limited")
}

func TestWhoamiTellsTheLimitsOfAStoredCredential(t *testing.T) {
	w := newWorld(t, "scopes members.read\nmax_in_flight 9\ncredential_rate_limit 30 1m 5\ncredential_max_in_flight 2")
	w.create(t)
	var view identityView
	if err := json.Unmarshal(w.do(t, "GET", "/_scopegate/v1/whoami", "").Body.Bytes(), &view); err != nil {
		t.Fatal(err)
	}
	want := limitsView{
		Team:       limitView{MaxInFlight: 9},
		Credential: limitView{Requests: 30, Window: "1m0s", Burst: 5, MaxInFlight: 2},
	}
	if view.Limits != want {
		t.Errorf("%+v, want %+v", view.Limits, want)
	}
}

// What a team says of each credential holds for a static one as well, unless
// that says something else of itself.
func TestCredentialLimitsOfTheTeam(t *testing.T) {
	const id = "abcdefghijkl:1111111111111111111111111111111111111111111111111111111111111111"
	parsed := parse(t, `scopegate {
		upstream http://127.0.0.1:1
		team red {
			credential_rate_limit 60 1m
			credential_max_in_flight 4
			credential plain {
				hash `+id+`
			}
			credential rated {
				hash `+strings.ToUpper(id)+`
				rate_limit 600 1m
			}
			credential placed {
				hash `+strings.Replace(id, "a", "b", 1)+`
				max_in_flight 40
			}
		}
		team blue {
			rate_limit 5 1m
		}
	}`)
	rules, err := parsed.compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		team, credential   string
		requests, inFlight int
	}{
		{"red", "", 0, 0},
		{"red", limits.Each, 60, 4},
		{"red", "plain", 60, 4},
		{"red", "rated", 600, 4},
		{"red", "placed", 60, 40},
		{"blue", "", 5, 0},
		{"blue", limits.Each, 0, 0},
	} {
		if got := rules.limitView(want.team, want.credential); got.Requests != want.requests || got.MaxInFlight != want.inFlight {
			t.Errorf("%s/%s: %+v, want %d requests and %d at once", want.team, want.credential, got, want.requests, want.inFlight)
		}
	}

	team := parsed.Teams[0]
	team.CredentialMaxInFlight, team.CredentialRateLimit = -1, &RateLimit{N: 1}
	if _, err := parsed.compile(); err == nil ||
		!strings.Contains(err.Error(), "credential_max_in_flight must not be negative") || strings.Count(err.Error(), "credential_rate_limit: expected") != 1 {
		t.Errorf("got %v", err)
	}
}
