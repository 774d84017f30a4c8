package integration_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
)

// good is a body that the operation takes.
func (op *operation) good() string {
	switch op.body {
	case "none":
		return ""
	case "mint":
		return minting("members.read")
	}
	return `{"name":"a name","nested":[1,{"b":null}]}`
}

// minting is the body of a modest mint, as the gateway encodes it.
func minting(scope string) string {
	return `{"name":"report","expires_at":"` + in(3*24*time.Hour) + `","allowed_ips":["198.51.100.9"],"allowed_scopes":["` + scope + `"]}`
}

// in is a wall time in UTC as the API writes them.
func in(d time.Duration) string { return time.Now().UTC().Add(d).Format("2006-01-02 15:04:05") }

// permitted is the exchange in which a caller who may uses an operation. The
// token that is named is nobody's, so that it is not found.
func permitted(op *operation, by *holder) exchange {
	body := op.good()
	x := exchange{
		name: "permitted", call: call{method: op.method, target: op.target(), key: by.key, body: body},
		as: by, status: 200, sent: op.method + " " + op.target(), with: body,
	}
	if op.tokens() && op.path != "/api/v1/token" && op.path != "/api/v1/tokens" {
		x.status, x.reason, x.sent = 404, "token_not_found", ""
	}
	return x
}

// operations tries every operation with a caller who may use it, and with
// every kind of caller who may not.
func (h *hardening) operations(t *testing.T) {
	forged, err := credential.Parse(h.callers.full.key)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := credential.GenerateWithID(forged.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range api {
		by := h.callers.full
		if op.scope != "" {
			by = h.callers.only[op.scope]
		}
		if op.body == "mint" {
			by = h.callers.full // who holds token.create alone has nothing to give
		}
		x := permitted(op, by)
		a := h.do(t, x)
		if want := relayed(op); x.sent != "" && x.sent != mintSent && (a.body != want || a.broken || a.header.Get("Content-Type") != "application/json") {
			t.Errorf("%s: answer %q, want %q", op, a.body, want)
		}
		if got := a.header.Get("X-Accepted-OAuth-Scopes"); got != op.scope {
			t.Errorf("%s: X-Accepted-OAuth-Scopes %q", op, got)
		}

		// The gateway that has the guessed operations off.
		x = permitted(op, h.callers.plain)
		x.to = h.second
		switch {
		case op.inferred:
			x.status, x.reason, x.sent = 403, "operation_off", ""
		case op.body == "mint":
			x.status, x.reason, x.sent = 403, "mint_not_granted", ""
		}
		h.do(t, x)

		refused := permitted(op, h.callers.full)
		refused.sent = ""
		for _, c := range []struct{ name, key, reason string }{
			{"no key", "", "no_credential"},
			{"a key cut short", h.callers.full.key[:len(h.callers.full.key)-1], "malformed_credential"},
			{"a key mistyped", strings.Replace(h.callers.full.key, "_", "-", 1), "malformed_credential"},
			{"the master token", masterToken, "malformed_credential"},
			{"an unknown key", credential.Generate().Reveal(), "unknown_credential"},
			{"a known id with another secret", wrong.Reveal(), "unknown_credential"},
			{"a key of the other gateway", h.callers.plain.key, "unknown_credential"},
		} {
			x := refused
			x.name, x.key, x.as, x.status, x.reason = c.name, c.key, nil, 401, c.reason
			h.do(t, x)
		}
		for reason, by := range h.callers.out {
			x := refused
			x.name, x.key, x.as, x.status, x.reason = reason, by.key, by, 401, reason
			if reason == "client_address" {
				x.status = 403
			}
			h.do(t, x)
		}
		if op.scope == "" {
			continue
		}
		x = refused
		x.name, x.as, x.status, x.reason = "all scopes but the one", h.callers.lacking[op.scope], 403, "insufficient_scope"
		x.key = x.as.key
		a = h.do(t, x)
		if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, `scope="`+op.scope+`"`) {
			t.Errorf("%s: challenge %q", op, challenge)
		}
		if op.body == "none" {
			x := refused
			x.name, x.body, x.status, x.reason = "a body where none belongs", `{}`, 400, "unexpected_body"
			h.do(t, x)
		}
	}
}

// relayed is what the caller of an operation gets of the recorder's answers.
func relayed(op *operation) string {
	switch op.path {
	case "/api/v1/tokens":
		return "[]"
	}
	return anyAnswer
}

// methods tries every path with every method that it does not have. Upstream
// might take a HEAD for a GET, or any case of letters for one.
func (h *hardening) methods(t *testing.T) {
	allowed := map[string][]string{"/_scopegate/v1/whoami": {"GET"}}
	for _, op := range api {
		allowed[op.target()] = append(allowed[op.target()], op.method)
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		for _, method := range []string{
			"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
			"get", "Post", "QUERY", "PROPFIND", "PURGE", "DELETE-ALL",
		} {
			if slices.Contains(methods, method) {
				continue
			}
			a := h.do(t, exchange{
				name: "wrong method", call: call{method: method, target: path, key: h.callers.full.key},
				as: h.callers.full, status: http.StatusMethodNotAllowed, reason: "method_not_allowed",
			})
			if allow := a.header.Get("Allow"); allow != strings.Join(methods, ", ") {
				t.Errorf("%s: Allow: %q, want %q", path, allow, methods)
			}
		}
	}
}
