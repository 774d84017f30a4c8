package scopegate

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
)

// broken is a store that panics at its first change of a token's row.
type broken struct {
	rows
	once *bool
}

func (b broken) UpdateToken(ctx context.Context, t store.Token, sealed []byte) (store.Token, error) {
	if !*b.once {
		*b.once = true
		panic("broken")
	}
	return b.rows.UpdateToken(ctx, t, sealed)
}

// A request that breaks off behind its back has made a token: its row must not
// go with it.
func TestMintThatBreaksOff(t *testing.T) {
	w := newWorld(t, tokenTeam)
	w.room.ledger.Rows = broken{w.room.rows, new(bool)}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not break off")
			}
		}()
		w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	}()
	if rows := w.rowsIn(t, ledger.Unknown); len(rows) != 1 || len(w.sim.Tokens()) != 2 {
		t.Fatalf("rows %+v, tokens %+v", rows, w.sim.Tokens())
	}
	if _, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{}); err != nil {
		t.Fatal(err)
	}
	w.ends(t)
}

// names makes upstream answer mints with the id of another token.
func (w *world) names(id string) (heal func()) {
	return w.sim.Fail(simulator.Fault{Operation: "createToken", Effect: func(rw http.ResponseWriter, _ *http.Request, answer func() simulator.Answer) {
		a := answer()
		a.Body = []byte(`{"created_id":"` + id + `","token":"simulated-x"}`)
		a.Send(rw)
	}})
}

// The same where that is not seen by reading it back: reads fail, or the
// process ends before. Neither the queue nor the team may delete that token.
func TestForeignTokenOutlivesAMintThatFailed(t *testing.T) {
	w := newWorld(t, tokenTeam)
	foreign := w.sim.Plant("made in the console")
	lie := w.names(foreign)
	away := w.sim.Fail(simulator.Fault{Operation: "getToken", Effect: simulator.Status(500, nil)})
	rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	lie()
	if rec.Code != 502 || strings.Contains(rec.Body.String(), "simulated-") {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.do(t, "DELETE", "/api/v1/token/"+foreign, ""); rec.Code != 404 {
		t.Errorf("its team deletes it: %d %s", rec.Code, rec.Body)
	}
	away()
	await(t, "an end of the doubt", func() bool {
		rows := w.rowsIn(t, ledger.Unknown)
		return len(rows) == 1 && rows[0].ID == ""
	})
	if _, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of what was made", func() bool { return len(w.sim.Tokens()) == 2 && len(w.rowsIn(t, ledger.Revoking)) == 0 })
	if !w.lives(foreign) {
		t.Error("the foreign token is gone")
	}
	for _, r := range w.sim.Requests() {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.Path, foreign) {
			t.Error("upstream was asked to delete it")
		}
	}
	told := false
	for line := range strings.Lines(string(readFile(t, w.log))) {
		told = told || strings.Contains(line, `"token_id":"`+foreign+`"`) && strings.Contains(line, "did not make it; it is left alone")
	}
	if !told {
		t.Error("the audit log does not tell of it")
	}
}

// An upstream that answers a mint with the id of somebody else's token has the
// gateway neither hand it out nor delete it.
func TestMintAnsweredWithAnother(t *testing.T) {
	w := newWorld(t, tokenTeam)
	foreign := w.sim.Plant("made in the console")
	heal := w.names(foreign)
	rec := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	heal()
	if rec.Code != 502 || reasonOf(t, rec) != "upstream_shape" || strings.Contains(rec.Body.String(), "simulated-") {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rows := w.rowsIn(t, ledger.Unknown); len(rows) != 1 || rows[0].ID != "" || !strings.Contains(rows[0].Cause, foreign) {
		t.Fatalf("rows %+v", rows)
	}
	if _, err := w.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of what was made", func() bool { return len(w.sim.Tokens()) == 2 && len(w.rowsIn(t, ledger.Revoking)) == 0 })
	if !w.lives(foreign) {
		t.Error("the foreign token is gone")
	}
}

// slowBody is a body of which somebody sends the end only when something has
// happened.
type slowBody struct {
	io.Reader
	first func()
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.first != nil {
		b.first()
		b.first = nil
	}
	return b.Reader.Read(p)
}

// A suspension reaches a request whose body was still being read, also one
// that would only be answered again.
func TestIdempotentMintOfTheSuspended(t *testing.T) {
	w := newWorld(t, tokenTeam)
	row, key := w.newKey(t, "red")
	body := mint(48 * time.Hour)
	if rec := w.with(t, key, "POST", "/api/v1/token", body, "Idempotency-Key: a"); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	slow := &slowBody{strings.NewReader(body), func() {
		if err := w.edit(t, row.ID, credential.KindSuspend); err != nil {
			t.Error(err)
		}
	}}
	r := httptest.NewRequest("POST", "/api/v1/token", slow)
	r.ContentLength = int64(len(body))
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "a")
	rec := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rec, &caddyhttp.Server{})
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
	if err := w.ServeHTTP(rec, r, nil); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 401 || strings.Contains(rec.Body.String(), "simulated-") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
