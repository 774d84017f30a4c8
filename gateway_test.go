package scopegate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/simulator"
)

// world is a provisioned gateway before a simulated GoodAccess.
type world struct {
	*Gateway
	sim *simulator.Simulator
	key credential.Key
	log string // the audit file

	storeGone bool // the test has closed it
}

// newWorld provisions a gateway of one team with the given options.
func newWorld(t *testing.T, team string) *world {
	t.Helper()
	return newWorldWith(t, team, "")
}

// newWorldWith also takes an option of the gateway.
func newWorldWith(t *testing.T, team, option string) *world {
	t.Helper()
	sim := simulator.New(simulator.Options{})
	upstream := httptest.NewServer(sim)
	t.Cleanup(upstream.Close)
	return newWorldBefore(t, upstream.URL, sim, team, option)
}

// newWorldBefore puts the gateway before this upstream.
func newWorldBefore(t *testing.T, url string, sim *simulator.Simulator, team, option string) *world {
	t.Helper()
	w := &world{sim: sim, key: credential.Generate(), log: filepath.Join(t.TempDir(), "audit.jsonl")}
	t.Setenv("SCOPEGATE_TEST_MASTER", w.sim.Master())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	w.Gateway = parse(t, `scopegate {
		upstream `+url+` {
			master_token {env.SCOPEGATE_TEST_MASTER}
			retries 0
		}
		`+option+`
		team red {
			`+team+`
			credential one {
				hash `+w.key.ID()+`:`+w.key.Hash().String()+`
			}
		}
		audit {
			output file `+w.log+`
		}
	}`)
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	w.start(t, ctx)
	t.Cleanup(func() {
		// Else the last inside frees what it uses, maybe behind the test and
		// into folders that are being removed.
		until(t, "nobody is inside the gateway", func() bool { return w.inside.n.Load() == 0 })
		if err := w.Cleanup(); err != nil && !w.storeGone {
			t.Error(err)
		}
	})
	return w
}

// start makes the gateway the one that runs, which the ledger acts through.
func (w *world) start(t *testing.T, ctx caddy.Context) {
	t.Helper()
	mod, err := ctx.App("scopegate")
	if err != nil {
		t.Fatal(err)
	}
	app := mod.(*App)
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Stop() })
}

func parse(t *testing.T, file string) *Gateway {
	t.Helper()
	g := new(Gateway)
	if err := g.UnmarshalCaddyfile(caddyfile.NewTestDispenser(file)); err != nil {
		t.Fatal(err)
	}
	return g
}

// do sends a request with the team's key through the handler.
func (w *world) do(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	w.answerTo(t, rec, method, path, body)
	return rec
}

func (w *world) answerTo(t *testing.T, rw http.ResponseWriter, method, path, body string) {
	t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	r.Header.Set("Authorization", "Bearer "+w.key.Reveal())
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rw, &caddyhttp.Server{})
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
	if err := w.ServeHTTP(rw, r, nil); err != nil {
		t.Fatal(err)
	}
}

func reasonOf(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	var p problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("%q is no problem: %v", rec.Body, err)
	}
	return p.Reason
}

const mintBody = `{"name":"report","allowed_scopes":["members.read"],"allowed_ips":["203.0.113.9"],"expires_at":"%s"}`

func mint(after time.Duration) string {
	return strings.Replace(mintBody, "%s", time.Now().UTC().Add(after).Format(time.DateTime), 1)
}

const tokenTeam = `scopes token.* members.read
	mint {
		scopes members.read
		allowed_ips 203.0.113.0/24
		max_live 2
	}`

// A token that the gateway did not make is somebody else's, and so does not
// exist.
func TestForeignTokensDoNotExist(t *testing.T) {
	w := newWorld(t, tokenTeam)
	foreign := w.sim.Plant("made in the console")
	if list := w.do(t, "GET", "/api/v1/tokens", ""); list.Code != 200 || list.Body.String() != "[]" {
		t.Errorf("list: %d %s", list.Code, list.Body)
	}
	before := len(w.sim.Requests())
	bodies := map[string]string{}
	for _, method := range []string{"GET", "DELETE"} {
		for name, id := range map[string]string{"real": foreign, "master": w.sim.MasterID(), "random": "6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e"} {
			rec := w.do(t, method, "/api/v1/token/"+id, "")
			if rec.Code != 404 || reasonOf(t, rec) != "token_not_found" {
				t.Errorf("%s of the %s id: %d %s", method, name, rec.Code, rec.Body)
			}
			var p map[string]any
			_ = json.Unmarshal(rec.Body.Bytes(), &p)
			delete(p, "decision_id")
			text, _ := json.Marshal(p)
			bodies[string(text)] = name
		}
	}
	if len(bodies) != 1 {
		t.Errorf("the answers differ between ids: %v", bodies)
	}
	if n := len(w.sim.Requests()); n != before {
		t.Errorf("upstream was asked %d times about tokens that are not the caller's", n-before)
	}
}

// The same code serves the owner's token.
func TestOwnedTokensAreRebuilt(t *testing.T) {
	w := newWorld(t, tokenTeam)
	made := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	var answer struct {
		ID string `json:"created_id"`
	}
	if err := json.Unmarshal(made.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	rec := w.do(t, "GET", "/api/v1/tokens", "")
	if err := json.Unmarshal(rec.Body.Bytes(), &list); err != nil || len(list) != 1 || list[0]["id"] != answer.ID {
		t.Fatalf("list: %s", rec.Body)
	}
	if rec := w.do(t, "GET", "/api/v1/token/"+answer.ID, ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), answer.ID) {
		t.Errorf("read: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "DELETE", "/api/v1/token/"+answer.ID, ""); rec.Code != 200 {
		t.Errorf("revoke: %d %s", rec.Code, rec.Body)
	}
}

// failing is a disk that is full.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// disk is one that fills up and is emptied again, with an audit log on it.
type disk struct {
	*os.File
	full atomic.Bool
}

func (d *disk) Write(p []byte) (int, error) {
	if d.full.Load() {
		return 0, syscall.ENOSPC
	}
	return d.File.Write(p)
}

func newDisk(t *testing.T) (*disk, *audit.Log) {
	t.Helper()
	text, err := audit.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := audit.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	d, path := &disk{}, filepath.Join(t.TempDir(), "audit.jsonl")
	sink, err := audit.Open(audit.FileOptions{
		Path: path, Keys: keys, Records: audit.DefaultRecords, Every: audit.DefaultEvery, Durability: audit.Changes,
		Open: func() (io.WriteCloser, error) {
			var err error
			d.File, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			return d, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.New(audit.Options{Gateway: "default", Durable: sink})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, log
}

// A full disk stops everything but the one thing that must always work:
// taking a right away.
func TestFullDiskStopsAllButRevocation(t *testing.T) {
	w := newWorld(t, tokenTeam)
	made := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	var answer struct {
		ID string `json:"created_id"`
	}
	_ = json.Unmarshal(made.Body.Bytes(), &answer)

	good := w.Gateway.log
	disk, full := newDisk(t)
	w.Gateway.log = full
	t.Cleanup(func() { w.Gateway.log = good })
	disk.full.Store(true)
	before := len(w.sim.Requests())
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/v1/member/0b7e5a10-0000-4000-8000-000000000101", ""},
		{"POST", "/api/v1/token", mint(48 * time.Hour)},
		{"GET", "/api/v1/tokens", ""},
		{"GET", "/_scopegate/v1/whoami", ""},
		{"GET", "/nowhere", ""},
	} {
		if rec := w.do(t, c.method, c.path, c.body); rec.Code != 503 || reasonOf(t, rec) != "audit_unavailable" {
			t.Errorf("%s %s: %d %s", c.method, c.path, rec.Code, rec.Body)
		}
	}
	if n := len(w.sim.Requests()); n != before {
		t.Errorf("%d unrecorded requests reached upstream", n-before)
	}
	if rec := w.do(t, "DELETE", "/api/v1/token/"+answer.ID, ""); rec.Code != 200 {
		t.Errorf("revocation: %d %s", rec.Code, rec.Body)
	}
	disk.full.Store(false)
	if rec := w.do(t, "GET", "/api/v1/tokens", ""); rec.Code != 200 {
		t.Errorf("with room again: %d %s", rec.Code, rec.Body)
	}
	if n := bytes.Count(readFile(t, disk.Name()), []byte(`"operation":"revokeToken"`)); n != 2 {
		t.Errorf("%d records of the revocation", n)
	}
}

func TestQuotaOfLiveTokens(t *testing.T) {
	w := newWorld(t, tokenTeam)
	for i, want := range []int{200, 200, 403} {
		if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != want {
			t.Fatalf("mint %d: %d %s", i+1, rec.Code, rec.Body)
		}
	}
}

// A mint that upstream refused made no token and takes no place; one whose
// answer was lost may have made one, and does.
func TestQuotaCountsWhatMayBeAlive(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault simulator.Fault
		want  int
	}{
		{"refused by upstream", simulator.Fault{Operation: "createToken", Times: 2, Effect: simulator.Status(400, nil)}, 200},
		{"answer lost", simulator.Fault{Operation: "createToken", Times: 2, Effect: simulator.Lose()}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, tokenTeam)
			w.sim.Fail(c.fault)
			for range 2 {
				w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
			}
			if rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != c.want {
				t.Errorf("third mint: %d %s", rec.Code, rec.Body)
			}
		})
	}
}

func TestClampSaysSo(t *testing.T) {
	w := newWorld(t, strings.Replace(tokenTeam, "max_live 2", "max_ttl 2d\n\t\tclamp", 1))
	rec := w.do(t, "POST", "/api/v1/token", mint(9*24*time.Hour))
	if rec.Code != 200 || rec.Header().Get("Scopegate-Clamped") != "expires_at" {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
}

// A member's password is full control over the account, however it is spelt.
func TestMemberPasswordNeedsItsOwnGrant(t *testing.T) {
	const member = "/api/v1/member/0b7e5a10-0000-4000-8000-000000000101"
	for _, body := range []string{`{"password":"x"}`, `{"PASSWORD":"x"}`, `{"pass\u0077ord":"x"}`, `{"data":{"new_password":"x"}}`} {
		if rec := newWorld(t, "scopes members.update").do(t, "PUT", member, body); rec.Code != 403 || reasonOf(t, rec) != "member_password" {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	if rec := newWorld(t, "scopes members.update").do(t, "PUT", member, `{"name":"New Name"}`); rec.Code != 200 {
		t.Errorf("name alone: %d %s", rec.Code, rec.Body)
	}
	if rec := newWorld(t, "scopes members.update\nmember_passwords").do(t, "PUT", member, `{"password":"x"}`); rec.Code != 200 {
		t.Errorf("granted: %d %s", rec.Code, rec.Body)
	}
}

// An added operation is not known to make a new member merely since it is a
// POST: it may set the password of one who is there.
func TestMemberPasswordIsRefusedOfAddedOperations(t *testing.T) {
	const path = "/api/v1/member/{teamMemberId}/access"
	for _, method := range []string{"POST", "PUT", "PATCH"} {
		w := newWorldWith(t, "scopes members.update", "operation "+method+" "+path+" members.update")
		if rec := w.do(t, method, "/api/v1/member/x/access", `{"password":"x"}`); rec.Code != 403 || reasonOf(t, rec) != "member_password" {
			t.Errorf("%s: %d %s", method, rec.Code, rec.Body)
		}
	}
}

func TestWhoamiTellsTheGrant(t *testing.T) {
	w := newWorld(t, tokenTeam+"\nrate_limit 5 1m")
	rec := w.do(t, "GET", "/_scopegate/v1/whoami", "")
	var view identityView
	if err := json.Unmarshal(rec.Body.Bytes(), &view); err != nil {
		t.Fatal(err)
	}
	if view.Team != "red" || view.Credential != w.key.ID() || len(view.MintableScopes) != 1 || view.Limits.Team.Requests != 5 {
		t.Errorf("%+v", view)
	}
	if rec.Header().Get("Ratelimit-Policy") == "" || rec.Header().Get("X-Oauth-Scopes") == "" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", rec.Header())
	}
}

func TestProbesNeedNoKeyAndTellNothing(t *testing.T) {
	w := newWorld(t, tokenTeam)
	for path, want := range map[string]int{"/_scopegate/livez": 200, "/_scopegate/readyz": 200} {
		r := httptest.NewRequest("GET", path, nil)
		rec := httptest.NewRecorder()
		if err := w.ServeHTTP(rec, r, nil); err != nil || rec.Code != want || rec.Body.String() != "ok\n" {
			t.Errorf("%s: %d %q %v", path, rec.Code, rec.Body, err)
		}
	}
}

// Caddy cleans up after a Provision that failed anywhere; a nil there would
// crash the load request.
func TestCleanupAfterHalfAProvision(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	for _, file := range []string{
		`scopegate`,
		`scopegate {
			upstream http://127.0.0.1:1 {
				master_token {env.SCOPEGATE_NOT_SET}
			}
			team red {
				scopes members.read
			}
			audit {
				output file ` + filepath.Join(dir, "a.jsonl") + `
			}
		}`,
	} {
		g := parse(t, file)
		ctx, err := caddy.ProvisionContext(&caddy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Provision(ctx); err == nil {
			t.Error("provisioned")
		}
		if err := g.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	if err := new(Gateway).Cleanup(); err != nil {
		t.Error(err)
	}
}

// Requests inside when a configuration is replaced keep what they use; later
// ones are turned away.
func TestTenureFreesAfterTheLastRequest(t *testing.T) {
	var ten tenure
	freed := 0
	free := func() error { freed++; return nil }
	if !ten.enter() || !ten.enter() {
		t.Fatal("not admitted")
	}
	if err := ten.end(free); err != nil || freed != 0 {
		t.Fatal("freed while requests were inside")
	}
	if ten.enter() {
		t.Error("admitted after the end")
	}
	ten.leave()
	if freed != 0 {
		t.Error("freed while a request was inside")
	}
	ten.leave()
	if freed != 1 {
		t.Errorf("freed %d times", freed)
	}
	if ten.enter() || freed != 1 {
		t.Error("admitted, or freed again")
	}
}

// What is freed waits for goroutines that may themselves ask to be let in: they
// are turned away, and not made to wait for it.
func TestTenureTurnsAwayWhileItFrees(t *testing.T) {
	var ten tenure
	err := ten.end(func() error {
		answer := make(chan bool)
		go func() { answer <- ten.enter() }()
		if <-answer {
			t.Error("admitted after the end")
		}
		return io.EOF
	})
	if !errors.Is(err, io.EOF) {
		t.Errorf("freeing failed, and the end says %v", err)
	}
}

func TestParseClient(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "192.0.2.1:80": "192.0.2.1",
		"[2001:db8::1]:80": "2001:db8::1", "fe80::1%eth0": "fe80::1",
		"": "invalid IP", "@": "invalid IP", "evil": "invalid IP", "192.0.2.1, 10.0.0.1": "invalid IP",
	} {
		if got := parseClient(in).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestAuditRecordsHoldNoSecret(t *testing.T) {
	w := newWorld(t, tokenTeam)
	rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		t.Fatal(rec.Body)
	}
	log := readFile(t, w.log)
	for name, secret := range map[string]string{"minted": answer.Token, "master": w.sim.Master(), "key": w.key.Reveal()} {
		if bytes.Contains(log, []byte(secret)) {
			t.Errorf("the audit log holds the %s secret", name)
		}
	}
	if n := bytes.Count(log, []byte(`"phase":"`)); n != 4 {
		t.Errorf("%d records of a mint and its proof", n)
	}
}

// probeServer answers every request with the status that is stored.
func probeServer(t *testing.T) (string, *atomic.Int64) {
	t.Helper()
	status := new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(srv.Close)
	return srv.URL, status
}

// The standard streams are copies only: Caddy does not read them by itself.
func TestMirrorsBesideTheFile(t *testing.T) {
	g := parse(t, `scopegate {
		audit {
			output stdout
			output file /var/log/audit.jsonl
			output net 127.0.0.1:9 {
				soft_start
			}
		}
	}`)
	if len(g.Audit.MirrorsRaw) != 2 || string(g.Audit.MirrorsRaw[0]) != `{"output":"stdout"}` ||
		string(g.Audit.WriterRaw) != `{"filename":"/var/log/audit.jsonl","output":"file"}` {
		t.Errorf("%s %s", g.Audit.WriterRaw, g.Audit.MirrorsRaw)
	}
}

// A collector that is down when the gateway starts must not take it along when
// it stops.
func TestMirrorThatNeverConnected(t *testing.T) {
	g := parse(t, `scopegate {
		upstream http://127.0.0.1:1 {
			master_token {env.SCOPEGATE_TEST_MASTER}
		}
		team red {
			scopes members.read
		}
		audit {
			output file `+filepath.Join(t.TempDir(), "a.jsonl")+`
			output net 127.0.0.1:1 {
				soft_start
			}
		}
	}`)
	t.Setenv("SCOPEGATE_TEST_MASTER", "0123456789abcdef")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Cleanup(); err == nil || !strings.Contains(err.Error(), "mirror") {
		t.Errorf("error %v", err)
	}
}
