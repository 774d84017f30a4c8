package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/simulator"
)

// lostWithin is when a token whose reply was lost is gone at the latest: its
// mint is given up after twice the timeout and what four calls of the store may
// take, is looked for within the next quarter of a minute, and a process that
// died at work holds it up for two minutes.
const lostWithin = 2*5*time.Second + 4*5*time.Second + 15*time.Second + 2*time.Minute + patience

// bank is a gateway with a ledger, before an account that others use too.
type bank struct {
	*gateway
	sim           *simulator.Simulator
	caller, rival *holder

	foreign string            // a token that was made past the gateway
	said    map[string]string // all that came out of the gateway, but for mints
	secrets map[string]string // of the tokens that were made, by what they are
}

func newBank(t *testing.T) (b *bank, config string) {
	t.Helper()
	every := []string{"members.read", "token.create", "token.read", "token.read-all", "token.delete"}
	b = &bank{
		caller: newHolder("billing", "one", every...), rival: newHolder("support", "one", every...),
		said: map[string]string{}, secrets: map[string]string{},
	}
	var env []string
	b.sim, env = simulated(t)
	b.foreign = b.sim.Plant("made in the console")
	const grant = "mint {\n scopes members.read\n allowed_ips 198.51.100.0/24\n max_live 4\n}\n"
	config = preamble + site("scopegate {\nupstream {$UPSTREAM} {\n master_token {env.MASTER}\n timeout 5s\n retries 0\n}\n"+
		"store sqlite {$DIR}/store.db\n"+team(b.caller, grant)+team(b.rival, grant)+"audit {\n output file {$DIR}/audit.jsonl\n}\n}\n")
	b.gateway = start(t, config, env...)
	return b, config
}

// mint asks for a token.
func (b *bank) mint(name string, header ...string) call {
	return call{
		method: "POST", target: "/api/v1/token", key: b.caller.key, header: header,
		body: strings.Replace(minting("members.read"), "report", name, 1),
	}
}

// mustMint makes a token, and keeps its secret to look for.
func (b *bank) mustMint(t *testing.T, name string) (id string) {
	t.Helper()
	return b.made(t, name, send(t, b.addr, b.mint(name)))
}

// made reads the answer to a mint that went well.
func (b *bank) made(t *testing.T, name string, a *answer) (id string) {
	t.Helper()
	var made struct {
		ID    string `json:"created_id"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusOK || made.ID == "" || made.Token == "" {
		t.Fatalf("mint %s: %d %s", name, a.status, a.body)
	}
	b.secrets["the token "+name] = made.Token
	return made.ID
}

// by makes a call, and keeps what was answered.
func (b *bank) by(t *testing.T, h *holder, method, target string) *answer {
	t.Helper()
	a := send(t, b.addr, call{method: method, target: target, key: h.key})
	b.said[fmt.Sprintf("answer %d of %s %s", len(b.said), method, target)] = fmt.Sprint(a.header) + a.body + a.more
	return a
}

// lists sees what tokens a team is shown.
func (b *bank) lists(t *testing.T, h *holder, want ...string) {
	t.Helper()
	a := b.by(t, h, "GET", "/api/v1/tokens")
	var list []struct{ ID, Name string }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != http.StatusOK {
		t.Fatalf("list: %d %s", a.status, a.body)
	}
	got := []string{}
	for _, one := range list {
		got = append(got, one.ID)
		if strings.Contains(one.Name, "-sg-") {
			t.Errorf("the list shows the stamp of %q", one.Name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("the list of %s (-want +got):\n%s", h.team, diff)
	}
}

// has reports whether there is such a token upstream.
func (b *bank) has(id string) bool {
	return slices.ContainsFunc(b.sim.Tokens(), func(one simulator.Token) bool { return one.ID == id })
}

// row is what the admin API shows of a token.
type row struct {
	ID, Nonce, Team, State, Cause, Name string
}

// rows asks the admin API for the ledger.
func (b *bank) rows(t *testing.T) (list []row) {
	t.Helper()
	status, text := b.ask(t, "/scopegate/default/tokens")
	var page struct{ Tokens []row }
	if err := json.Unmarshal([]byte(text), &page); err != nil || status != http.StatusOK {
		t.Fatalf("the ledger: %d %s", status, text)
	}
	b.said["the ledger"] += text
	return page.Tokens
}

// rowOf finds a token in the ledger by its name.
func (b *bank) rowOf(t *testing.T, name string) row {
	t.Helper()
	list := b.rows(t)
	i := slices.IndexFunc(list, func(r row) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("the ledger has no %s: %+v", name, list)
	}
	return list[i]
}

// held makes a mint whose answer upstream holds back once the token is there.
func (b *bank) held(t *testing.T, name string) (id string, back <-chan *answer, release func()) {
	t.Helper()
	made, let := make(chan simulator.Answer), make(chan struct{})
	hold := simulator.Hold(nil, let)
	b.sim.Fail(simulator.Fault{Operation: "createToken", Times: 1, Effect: func(w http.ResponseWriter, r *http.Request, answer func() simulator.Answer) {
		a := answer()
		made <- a
		hold(w, r, func() simulator.Answer { return a })
	}})
	back = begin(t, b.addr, b.mint(name))
	a := <-made
	return b.made(t, name, &answer{status: a.Status, body: string(a.Body)}), back, func() { close(let) }
}

// TestLedger makes, lists, reads and deletes tokens, through reloads and a
// crash of the gateway at the worst moment: GoodAccess has made a token, and
// its answer has not come. That token is found by its stamp and deleted, and
// no other one is. No secret of a token is kept or shown anywhere.
func TestLedger(t *testing.T) {
	t.Parallel()
	b, config := newBank(t)
	mint := b.mint("first", "Idempotency-Key: one")
	first := send(t, b.addr, mint)
	kept := b.made(t, "first", first)
	again := func(when string) {
		t.Helper()
		if a := send(t, b.addr, mint); a.status != http.StatusOK || a.body != first.body || a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("the first mint again, %s: %d %s", when, a.status, a.body)
		}
	}
	again("at once")
	b.use(t, kept)
	b.reload(t, config, kept)
	again("after reloads")

	lost, back, release := b.held(t, "lost")
	b.crash(t)
	release()
	if a := <-back; a.status != 0 {
		t.Errorf("an answer of a process that was killed: %d %s", a.status, a.body)
	}
	b.launch(t)
	// It serves a moment before the admin API knows of it.
	await(t, "the gateway to be known", func() bool {
		status, _ := b.ask(t, "/scopegate/default")
		return status == http.StatusOK
	})
	if r := b.rowOf(t, "lost"); r.State != "intent" || r.ID != "" || !b.has(lost) {
		t.Errorf("after the crash: %+v", r)
	}
	again("after a crash")
	second, third := b.mustMint(t, "second"), b.mustMint(t, "third")
	if a := send(t, b.addr, b.mint("fourth")); a.Reason != "mint_quota" {
		t.Errorf("the lost token takes no place: %d %s", a.status, a.body)
	}
	b.mustLoad(t, strings.Replace(config, "max_live 4", "max_live 5", 1))
	awaitWithin(t, lostWithin, "the lost token to be gone", func() bool { return b.rowOf(t, "lost").State == "gone" })
	if r := b.rowOf(t, "lost"); r.ID != lost || b.has(lost) {
		t.Errorf("the lost token: %+v", r)
	}
	b.lists(t, b.caller, kept, second, third)
	for _, id := range []string{kept, second, third, b.foreign} {
		if !b.has(id) {
			t.Errorf("token %s was deleted too", id)
		}
	}
	again("in the end")
	b.onRecord(t, lost)
	b.keepsNoSecret(t, kept)
}

// use lists, reads and deletes.
func (b *bank) use(t *testing.T, kept string) {
	t.Helper()
	b.lists(t, b.caller, kept)
	b.lists(t, b.rival)
	if a := b.by(t, b.caller, "GET", "/api/v1/token/"+kept); a.status != http.StatusOK || !strings.Contains(a.body, `"name":"first"`) {
		t.Errorf("read: %d %s", a.status, a.body)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if a := b.by(t, b.rival, method, "/api/v1/token/"+kept); a.status != http.StatusNotFound || !b.has(kept) {
			t.Errorf("%s by another team: %d %s", method, a.status, a.body)
		}
	}
	short := b.mustMint(t, "short")
	b.lists(t, b.caller, kept, short)
	if a := b.by(t, b.caller, "DELETE", "/api/v1/token/"+short); a.status != http.StatusOK || b.has(short) {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if r := b.rowOf(t, "short"); r.State != "gone" || r.ID != short {
		t.Errorf("a deleted token: %+v", r)
	}
	b.lists(t, b.caller, kept)
}

// reload replaces the configuration while a mint is under way, and while a
// deletion is owed.
func (b *bank) reload(t *testing.T, config, kept string) {
	t.Helper()
	patient := strings.Replace(config, "timeout 5s", "timeout 30s", 1)
	b.mustLoad(t, patient)
	held, back, release := b.held(t, "held")
	b.mustLoad(t, strings.Replace(patient, "max_live 4", "max_live 5", 1))
	release()
	if id := b.made(t, "held", <-back); id != held {
		t.Errorf("the token %s was answered for %s", id, held)
	}
	b.lists(t, b.caller, kept, held)

	heal := b.sim.Fail(simulator.Fault{Operation: "revokeToken", Effect: simulator.Status(http.StatusInternalServerError, nil)})
	if a := b.by(t, b.caller, "DELETE", "/api/v1/token/"+held); a.status == http.StatusOK {
		t.Errorf("a deletion that failed: %d %s", a.status, a.body)
	}
	b.lists(t, b.caller, kept)
	if status, _ := b.load(t, strings.Replace(patient, "{env.MASTER}", "{env.NOT_SET}", 1)); status == http.StatusOK {
		t.Fatal("a bad configuration was loaded")
	}
	b.mustLoad(t, config)
	heal()
	await(t, "the deletion that is owed", func() bool { return !b.has(held) && b.rowOf(t, "held").State == "gone" })
}

// onRecord sees that what the gateway did by itself is on record and counted.
func (b *bank) onRecord(t *testing.T, lost string) {
	t.Helper()
	did := map[string]bool{}
	for _, r := range b.records(t) {
		if r.Operator != "" && r.Phase == "decided" {
			did[r.Operation+" "+r.TokenID] = true
		}
	}
	for _, want := range []string{"listTokens ", "revokeToken " + lost, "getToken " + lost} {
		if !did[want] {
			t.Errorf("%s is not on record", want)
		}
	}
	await(t, "the tokens to be counted", func() bool {
		m := b.metrics(t)
		return m[`scopegate_tokens{gateway="default",state="live",team="billing"}`] == 3 && m[`scopegate_revocations_pending{gateway="default"}`] == 0
	})
}

// keepsNoSecret looks for the secrets of all tokens in what the gateway says
// and keeps. The first answer to a mint is kept sealed.
func (b *bank) keepsNoSecret(t *testing.T, kept string) {
	t.Helper()
	for _, path := range []string{"/config/", "/metrics", "/scopegate/", "/scopegate/default", "/scopegate/default/tokens/" + kept} {
		status, text := b.ask(t, path)
		if status != http.StatusOK {
			t.Errorf("admin %s: %d", path, status)
		}
		b.said["admin "+path] = text
	}
	b.said["the audit log"] = b.readFile(t, "audit.jsonl")
	b.files(t, b.said)
	b.stop(t)
	b.files(t, b.said)
	b.said["the output"] = b.output.String()
	for _, place := range []string{"the ledger", "the audit log", filepath.Join(b.dir, "store.db"), "admin /scopegate/default/tokens/" + kept} {
		if !strings.Contains(b.said[place], kept) {
			t.Errorf("%s is not what this test takes it for", place)
		}
	}
	for what, secret := range b.secrets {
		search(t, b.said, what, secret, func(string, string) bool { return false })
	}
	if len(b.secrets) != 6 {
		t.Errorf("%d tokens were made", len(b.secrets))
	}
}
