package scopegate

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
)

// ask sends a read with a key and returns what Caddy may ask afterwards.
func (w *world) ask(t *testing.T, server *caddyhttp.Server, path, key string) (*caddy.Replacer, *httptest.ResponseRecorder) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	repl, rec := caddy.NewReplacer(), httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, repl, rec, server)
	repl.Set("http.auth.user.id", "somebody else") // an earlier handler's word
	if err := w.ServeHTTP(rec, r, nil); err != nil {
		t.Fatal(err)
	}
	return repl, rec
}

// Caddy writes its log when the request has ended and its memory serves
// another: what it is told must still be of its own.
func TestPlaceholdersOutliveTheRequest(t *testing.T) {
	w := newWorld(t, "scopes members.*")
	server := &caddyhttp.Server{}
	permitted, answer := w.ask(t, server, aMember, w.key.Reveal())
	id := answer.Header().Get("Scopegate-Decision-Id")
	rejected, _ := w.ask(t, server, "/api/v1/teams", "")
	for range 10 {
		w.ask(t, server, "/nowhere", w.key.Reveal())
	}
	for _, c := range []struct {
		of        *caddy.Replacer
		key, want string
		known     bool
	}{
		{permitted, "http.auth.user.id", w.key.ID(), true},
		{permitted, "http.scopegate.decision_id", id, true},
		{permitted, "http.scopegate.team", "red", true},
		{permitted, "http.scopegate.operation", "getMember", true},
		{permitted, "http.scopegate.scope", "members.read", true},
		{permitted, "http.scopegate.reason", "allowed", true},
		{rejected, "http.auth.user.id", "", false},
		{rejected, "http.scopegate.team", "", false},
		{rejected, "http.scopegate.operation", "", false},
		{rejected, "http.scopegate.scope", "", false},
		{rejected, "http.scopegate.reason", "no_credential", true},
		{rejected, "http.scopegate.nonsense", "", false},
	} {
		if got, known := c.of.GetString(c.key); got != c.want || known != c.known {
			t.Errorf("{%s} is %q, %v, want %q, %v", c.key, got, known, c.want, c.known)
		}
	}
}

func TestDecisionIDs(t *testing.T) {
	w := newWorld(t, "scopes members.*")
	seen := map[string]bool{}
	for _, logged := range []bool{false, true, false, true} {
		server := &caddyhttp.Server{}
		if logged {
			server.Logs = &caddyhttp.ServerLogConfig{}
		}
		repl, rec := w.ask(t, server, aMember, w.key.Reveal())
		id := rec.Header().Get("Scopegate-Decision-Id")
		if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 4 || parsed.Variant() != uuid.RFC4122 || seen[id] {
			t.Errorf("%q is no random UUID of its own (%v)", id, err)
		}
		seen[id] = true
		if caddys, _ := repl.GetString("http.request.uuid"); (caddys == id) != logged {
			t.Errorf("access log %v: the decision is %q, the request is %q in Caddy", logged, id, caddys)
		}
	}
}
