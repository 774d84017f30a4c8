package scopegate

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
)

const manyTokens = `scopes token.* members.read
	mint {
		scopes members.read
		allowed_ips 203.0.113.0/24
	}`

func TestAdminShowsTokens(t *testing.T) {
	d := newDesk(t, manyTokens)
	for range 3 {
		d.mint(t)
	}
	page := of[tokenPage](t, d.ask(t, "GET", "default/tokens?team=red&state=live&limit=2", ""), 200)
	rest := of[tokenPage](t, d.ask(t, "GET", "default/tokens?limit=2&after="+page.Next, ""), 200)
	if len(page.Tokens) != 2 || len(rest.Tokens) != 1 || rest.Next != "" {
		t.Fatalf("%+v\n%+v", page, rest)
	}
	one := page.Tokens[0]
	if got := of[tokenView](t, d.ask(t, "GET", "default/tokens/"+one.ID, ""), 200); got.Nonce != one.Nonce || got.Team != "red" || got.Name != "report" {
		t.Errorf("%+v", got)
	}
	if got := of[tokenView](t, d.ask(t, "GET", "default/tokens/"+one.Nonce, ""), 200); got.ID != one.ID {
		t.Errorf("%+v", got)
	}
	if got := of[tokenView](t, d.ask(t, "POST", "default/tokens/"+one.ID+"/revoke", `{"note":"it leaked"}`), 200); got.Cause != "it leaked" {
		t.Errorf("%+v", got)
	}
	await(t, "its deletion", func() bool { return !d.lives(one.ID) })
	if got := of[map[string]int](t, d.ask(t, "POST", "default/tokens:revoke", `{"credential":"`+d.key.ID()+`"}`), 200); got["owed"] != 2 {
		t.Errorf("%+v", got)
	}
	d.ends(t)
}

func TestAdminRefusesForTokens(t *testing.T) {
	d := newDesk(t, manyTokens)
	d.MasterTokenID = d.sim.MasterID()
	wide := d.sim.Plant("made in the console")
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"no such token", "GET", "tokens/6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e", "", 404, "adopted"},
		{"a token with no such nonce", "POST", "tokens/aaaa/revoke", "", 404, "no token"},
		{"no such state", "GET", "tokens?state=alive", "", 400, "intent, live"},
		{"a list with a wrong parameter", "GET", "tokens?tema=red", "", 400, "did you mean"},
		{"adopting the master", "POST", "tokens:adopt", `{"id":"` + d.sim.MasterID() + `","team":"red"}`, 422, "master"},
		{"adopting what GoodAccess does not have", "POST", "tokens:adopt", `{"id":"6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e","team":"red"}`, 404, "no such token"},
		{"adopting a wide one", "POST", "tokens:adopt", `{"id":"` + wide + `","team":"red"}`, 422, "cannot be adopted"},
		{"adopting for no team", "POST", "tokens:adopt", `{"id":"` + wide + `","team":"rde"}`, 404, "did you mean"},
		{"adopting no id", "POST", "tokens:adopt", `{"id":"x","team":"red"}`, 400, "UUID"},
		{"revoking all", "POST", "tokens:revoke", `{"credential":""}`, 400, "id of a credential"},
		{"draining no team", "POST", "teams/rde/drain", "", 404, "did you mean"},
		{"fewer than none", "POST", "tokens:reconcile", `{"max_deletions":-1}`, 400, "below zero"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := d.ask(t, c.method, "default/"+c.path, c.body)
			if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.want) {
				t.Errorf("%d %s, want %d with %q", rec.Code, rec.Body, c.status, c.want)
			}
		})
	}
	if !d.lives(wide) || !d.lives(d.sim.MasterID()) {
		t.Error("a refusal changed something")
	}
}

// A token of the account that a team could have made itself can be made its
// own; one that is wider in any way cannot.
func TestAdopt(t *testing.T) {
	d := newDesk(t, manyTokens)
	byHand := func(scopes, ips string, life time.Duration) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://upstream.example.com/api/v1/token", strings.NewReader(fmt.Sprintf(
			`{"name":"by hand","allowed_scopes":[%s],"allowed_ips":[%s],"expires_at":%q}`, scopes, ips, time.Now().UTC().Add(life).Format(time.DateTime))))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+d.sim.Master())
		rec := serve(d.sim, r)
		return of[minted](t, rec, 200).ID
	}
	for name, id := range map[string]string{
		"a scope of token.*": byHand(`"token.read"`, `"203.0.113.9"`, 48*time.Hour),
		"a scope too many":   byHand(`"members.read","members.update"`, `"203.0.113.9"`, 48*time.Hour),
		"every scope":        byHand(``, `"203.0.113.9"`, 48*time.Hour),
		"every address":      byHand(`"members.read"`, ``, 48*time.Hour),
		"another address":    byHand(`"members.read"`, `"198.51.100.1"`, 48*time.Hour),
		"too long a life":    byHand(`"members.read"`, `"203.0.113.9"`, 5000*time.Hour),
	} {
		if rec := d.ask(t, "POST", "default/tokens:adopt", `{"id":"`+id+`","team":"red"}`); rec.Code != 422 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	good := byHand(`"members.read"`, `"203.0.113.9"`, 48*time.Hour)
	if v := of[tokenView](t, d.ask(t, "POST", "default/tokens:adopt", `{"id":"`+strings.ToUpper(good)+`","team":"red"}`, operatorHeader, "ops"), 201); !v.Adopted || v.AdoptedBy != "ops" || v.ID != good || v.Name != "by hand" {
		t.Errorf("%+v", v)
	}
	if rec := d.ask(t, "POST", "default/tokens:adopt", `{"id":"`+good+`","team":"red"}`); rec.Code != 409 {
		t.Errorf("again: %d %s", rec.Code, rec.Body)
	}
	if rec := d.do(t, "GET", "/api/v1/token/"+good, ""); rec.Code != 200 {
		t.Errorf("its team does not see it: %d %s", rec.Code, rec.Body)
	}
	if v := of[reconciliationView](t, d.ask(t, "POST", "default/tokens:reconcile", `{}`), 200); v.Counts[ledger.Ours] != 1 || v.Counts[ledger.Drifted] != 0 {
		t.Errorf("%+v", v)
	}
	if rec := d.do(t, "DELETE", "/api/v1/token/"+good, ""); rec.Code != 200 || d.lives(good) {
		t.Errorf("its team cannot delete it: %d %s", rec.Code, rec.Body)
	}
}

// A team that is gone loses nothing until somebody says so.
func TestDrain(t *testing.T) {
	d := newDesk(t, manyTokens)
	_, err := d.room.ledger.Adopt(t.Context(), store.Token{Nonce: "n", ID: d.sim.Plant("old"), Team: "gone", Name: "old"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	debt := of[struct {
		Tokens   []tokenView `json:"tokens"`
		Awaiting []drainable `json:"awaiting_drain"`
	}](t, d.ask(t, "GET", "default/debt", ""), 200)
	if len(debt.Awaiting) != 1 || debt.Awaiting[0] != (drainable{"gone", 1}) || len(debt.Tokens) != 0 {
		t.Errorf("%+v", debt)
	}
	heal := d.sim.Fail(simulator.Fault{Operation: "revokeToken", Effect: simulator.Status(500, nil)})
	if got := of[map[string]int](t, d.ask(t, "POST", "default/teams/gone/drain", `{"note":"it ended"}`), 200); got["owed"] != 1 {
		t.Errorf("%+v", got)
	}
	await(t, "an attempt", func() bool {
		page := of[tokenPage](t, d.ask(t, "GET", "default/tokens?team=gone&state=revoking", ""), 200)
		return len(page.Tokens) == 1 && page.Tokens[0].Attempts > 0 && page.Tokens[0].Failure != "" && page.Tokens[0].Cause == "it ended"
	})
	heal()
	d.ends(t)
}

func TestSuspendCascades(t *testing.T) {
	d := newDesk(t, manyTokens)
	row, key := d.newKey(t, "red")
	if rec := d.with(t, key, "POST", "/api/v1/token", mint(48*time.Hour)); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	at := "default/credentials/" + row.ID + "/suspend"
	if v := of[credentialView](t, d.ask(t, "POST", at, ""), 200); v.Owed != nil || len(d.rowsIn(t, ledger.Live)) != 1 {
		t.Errorf("%+v", v)
	}
	if v := of[credentialView](t, d.ask(t, "POST", at, `{"cascade":true}`), 200); v.Owed == nil || *v.Owed != 1 {
		t.Errorf("%+v", v)
	}
	d.ends(t)
}
