package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// mintedID makes a modest token and returns its id, and the token as its team
// is to see it.
func (h *hardening) mintedID(t *testing.T, by *holder) (id, shown string) {
	t.Helper()
	body := mintBody(goodFields())
	a := h.minted(t, by, "modest", body, body)
	var made struct {
		ID string `json:"created_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.ID == "" {
		t.Fatalf("mint: %d %s", a.status, a.body)
	}
	return made.ID, `{"id":"` + made.ID + `",` + body[1:]
}

// othersTokens reads, lists and deletes the tokens of one's own team, and
// those of others, of which nobody can tell that they exist.
func (h *hardening) othersTokens(t *testing.T) {
	full, mate := h.callers.full, h.callers.only["token.delete"]
	mine, shown := h.mintedID(t, full)
	dead, _ := h.mintedID(t, full)
	theirs, _ := h.mintedID(t, h.callers.reader)
	elsewhere, _ := h.mintedID(t, h.callers.clamped)
	on := func(method, id string, by *holder) exchange {
		return exchange{name: "one's own token", call: call{method: method, target: "/api/v1/token/" + id, key: by.key}, as: by, status: 200}
	}

	x := on(http.MethodGet, mine, full)
	x.sent = "GET " + x.target
	if a := h.do(t, x); a.body != shown {
		t.Errorf("one's own token: %s\nwant %s", a.body, shown)
	}
	// Upstream takes another spelling for another id, and says that there is
	// no such token.
	x.name, x.target = "in capitals", "/api/v1/token/"+strings.ToUpper(mine)
	if a := h.do(t, x); a.body != shown {
		t.Errorf("one's own token in capitals: %s\nwant %s", a.body, shown)
	}
	x = on(http.MethodDelete, mine, h.callers.lacking["token.delete"])
	x.name, x.status, x.reason = "without the scope", 403, "insufficient_scope"
	h.do(t, x)
	x = on(http.MethodDelete, dead, mate)
	x.name, x.sent = "by another credential of the team", "DELETE "+x.target
	x.target = "/api/v1/token/" + strings.ToUpper(dead)
	h.do(t, x)
	if h.up.has(dead) {
		t.Error("the token was not deleted")
	}

	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		answers := map[string]string{}
		for _, id := range []string{theirs, strings.ToUpper(theirs), elsewhere, dead, aToken, strings.ToUpper(aToken), uuid.NewString(), uuid.Nil.String()} {
			x := on(method, id, full)
			x.name, x.status, x.reason = "another's token", 404, "token_not_found"
			a := h.do(t, x)
			a.header.Del("Date")
			all := strings.ReplaceAll(fmt.Sprint(a.header)+a.body, a.decision(), "")
			answers[all] = id
		}
		if len(answers) != 1 {
			t.Errorf("%s: the answers tell tokens apart: %v", method, answers)
		}
	}
	for _, id := range []string{mine, theirs, elsewhere, aToken} {
		if !h.up.has(id) {
			t.Errorf("token %s was deleted", id)
		}
	}
	h.lists(t)
}

// lists sees that each team's list has its own tokens and nothing else.
func (h *hardening) lists(t *testing.T) {
	t.Helper()
	for _, by := range []*holder{h.callers.full, h.callers.only["token.read-all"], h.callers.reader, h.callers.plain} {
		x := permitted(operationAt("GET", "/api/v1/tokens"), by)
		if by == h.callers.plain {
			x.to = h.second
		}
		a := h.do(t, x)
		var list []struct{ ID, Name string }
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			t.Fatalf("list: %v: %s", err, a.body)
		}
		var got, want []string
		for _, one := range list {
			got = append(got, one.ID)
			if stamped.MatchString(one.Name + `"`) {
				t.Errorf("the list shows the stamp of %q", one.Name)
			}
		}
		for _, id := range h.tokensOf(h.owner(x)) {
			if h.up.has(id) {
				want = append(want, id)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the list of %s (-want +got):\n%s", by.name, diff)
		}
	}
}

// untrueAnswers lets GoodAccess make tokens that are wider than they were
// asked for, or that cannot be read back, and say that it deleted what it did
// not. No such token is given out, and in the end it is deleted, unless it looks
// like somebody else's: that one is left alone.
func (h *hardening) untrueAnswers(t *testing.T) {
	full := h.callers.full
	const widened, shape = "upstream_widened", "upstream_shape"
	with := func(field string, value any) func(string, token) string {
		return func(_ string, made token) string {
			made[field] = value
			return encoded(made)
		}
	}
	wider, foreign := 0, []string{"another name", "without its stamp", "the stamp of none"}
	for _, c := range []struct {
		name, reason string
		shows        func(id string, made token) string
	}{
		{"one scope more", widened, with("allowed_scopes", []string{"members.read", "members.delete"})},
		{"another scope", widened, with("allowed_scopes", []string{"members.delete"})},
		{"every scope", widened, with("allowed_scopes", []string{"*"})},
		{"no scope", widened, with("allowed_scopes", []string{})},
		{"one address more", widened, with("allowed_ips", []string{"198.51.100.9", "203.0.113.7"})},
		{"a network", widened, with("allowed_ips", []string{"198.51.100.9/24"})},
		{"every address", widened, with("allowed_ips", []string{"0.0.0.0/0"})},
		{"no address", widened, with("allowed_ips", []string{})},
		{"a second later", widened, func(_ string, made token) string {
			made["expires_at"] = in(4 * 24 * time.Hour)
			return encoded(made)
		}},
		{"without an end", widened, with("expires_at", "")},
		{"an end that is none", widened, with("expires_at", nil)},
		{"scopes that are none", widened, with("allowed_scopes", nil)},
		{"addresses that are none", widened, with("allowed_ips", nil)},
		{"another name", widened, with("name", "somebody's")},
		{"without its stamp", widened, with("name", "report")},
		{"the stamp of none", widened, with("name", "report"+aStamp)},
		{"another token", shape, with("id", aToken)},
		{"no id", shape, with("id", nil)},
		{"a list", shape, func(_ string, made token) string { return encoded([]token{made}) }},
		{"no JSON", shape, func(string, token) string { return "<p>" }},
		{"the scopes twice", shape, func(_ string, made token) string {
			return strings.Replace(encoded(made), "{", `{"allowed_scopes":["members.read"],`, 1)
		}},
		{"the master token", "upstream_leak", with("token", masterToken)},
	} {
		if c.reason == widened {
			wider++
		}
		h.up.lie(c.shows, 0)
		before, body := h.tokensOf("default all"), mintBody(goodFields())
		h.do(t, exchange{
			name: "read back: " + c.name, call: call{method: "POST", target: "/api/v1/token", key: full.key, body: body},
			as: full, status: 502, reason: c.reason, sent: mintSent, with: body, drops: true,
		})
		for _, id := range h.tokensOf("default all") {
			if slices.Contains(before, id) {
				continue
			}
			x := exchange{name: c.name, call: call{method: "GET", target: "/api/v1/token/" + id, key: full.key}, as: full, status: 404, reason: "token_not_found"}
			h.do(t, x)
			if slices.Contains(foreign, c.name) {
				await(t, "the token to be left alone: "+c.name, func() bool {
					return slices.ContainsFunc(h.records(t), func(r record) bool { return r.Change == "ledger" && r.TokenID == id })
				})
				h.up.forget(id) // by hand
				continue
			}
			h.up.lie(nil, 0)
			await(t, "the token to be deleted: "+c.name, func() bool { return !h.up.has(id) })
		}
	}

	h.up.lie(nil, 2)
	id, _ := h.mintedID(t, full)
	x := exchange{name: "a deletion that is only said to be done", call: call{method: "DELETE", target: "/api/v1/token/" + id, key: full.key}, as: full, status: 200, drops: true}
	x.sent = "DELETE " + x.target
	h.do(t, x)
	x.name, x.method, x.status, x.reason, x.sent, x.drops = "a token that is being deleted", "GET", 404, "token_not_found", "", false
	h.do(t, x)
	await(t, "the token to be deleted", func() bool { return !h.up.has(id) })
	h.lists(t)
	if n := h.metrics(t)[`scopegate_mints_widened_total{gateway="default"}`]; n != float64(wider) {
		t.Errorf("%v wider mints were counted, want %d", n, wider)
	}
}
