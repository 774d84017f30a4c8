package integration_test

import (
	"fmt"
	"strings"
	"testing"
)

// spelling is another way to write a path.
type spelling struct {
	name   string
	of     func(path string) string
	reason string // "" where Caddy's HTTP server refuses it
}

// last replaces the last slash of a path.
func last(with string) func(string) string {
	return func(p string) string {
		i := strings.LastIndexByte(p, '/')
		return p[:i] + with + p[i+1:]
	}
}

func replace(from, to string) func(string) string {
	return func(p string) string { return strings.Replace(p, from, to, 1) }
}

func behind(text string) func(string) string { return func(p string) string { return p + text } }

const notCanonical, unknown = "path_not_canonical", "unknown_path"

// spellings are those that some program on the way, or upstream, could take
// for the path that they were made of, or for another.
var spellings = []spelling{
	{"trailing slash", behind("/"), notCanonical},
	{"two trailing slashes", behind("//"), notCanonical},
	{"two leading slashes", func(p string) string { return "/" + p }, notCanonical},
	{"an empty segment", last("//"), notCanonical},
	{"an empty segment early", replace("/v1/", "//v1/"), notCanonical},
	{"a dot segment", last("/./"), notCanonical},
	{"a dot segment behind", behind("/."), notCanonical},
	{"there and back", last("/x/../"), notCanonical},
	{"up behind", behind("/.."), notCanonical},
	{"from above", replace("/api/", "/../api/"), notCanonical},
	{"out of another operation", func(p string) string { return "/api/v1/members/../.." + p }, notCanonical},
	{"encoded dots", last("/x/%2e%2e/"), notCanonical},
	{"encoded dots in capitals", last("/x/%2E%2E/"), notCanonical},
	{"half encoded dots", last("/x/.%2e/"), notCanonical},
	{"dots encoded twice", last("/x/%252e%252e/"), notCanonical},
	{"an encoded slash", last("%2f"), notCanonical},
	{"an encoded slash in capitals", last("%2F"), notCanonical},
	{"a slash encoded twice", last("%252f"), notCanonical},
	{"an overlong slash", last("%c0%af"), notCanonical},
	{"a fullwidth slash", last("%EF%BC%8F"), notCanonical},
	{"a backslash", last(`\`), notCanonical},
	{"an encoded backslash", last("%5c"), notCanonical},
	{"dots and backslashes", last(`/x\..\`), notCanonical},
	{"an encoded letter", replace("/api/", "/%61pi/"), notCanonical},
	{"a matrix parameter", behind(";x=1"), notCanonical},
	{"a matrix parameter early", replace("/v1/", "/v1;jsessionid=1/"), notCanonical},
	{"dots hidden in a matrix parameter", last("/..;/"), notCanonical},
	{"an encoded NUL", behind("%00"), notCanonical},
	{"an encoded NUL and a suffix", behind("%00.json"), notCanonical},
	{"an encoded line break", behind("%0d%0aX-Evil:1"), notCanonical},
	{"an encoded space", behind("%20"), notCanonical},
	{"a fragment", behind("#x"), notCanonical},
	{"an encoded question mark", behind("%3fx=1"), notCanonical},
	{"an encoded percent sign", behind("%25"), notCanonical},
	{"a comma", behind(",x"), notCanonical},
	{"a colon", behind(":x"), notCanonical},
	{"an at sign", behind("@x"), notCanonical},
	{"an asterisk", behind("*"), notCanonical},
	{"a plus", behind("+"), notCanonical},
	{"a byte beyond ASCII", behind("\xe9"), notCanonical},
	{"a letter beyond ASCII", behind("é"), notCanonical},
	{"a zero-width space", behind("%E2%80%8B"), notCanonical},

	{"capitals", strings.ToUpper, unknown},
	{"one capital", replace("/api/", "/Api/"), unknown},
	{"another version", replace("/v1/", "/v2/"), unknown},
	{"a number that looks like it", replace("/v1/", "/v01/"), unknown},
	{"without a version", replace("/api/v1/", "/api/"), unknown},
	{"without its prefix", replace("/api/v1/", "/"), unknown},
	{"with its prefix twice", replace("/api/v1/", "/api/v1/api/v1/"), unknown},
	{"more segments", behind("/zzz/zzz"), unknown},
	{"the gateway's own prefix", replace("/api/", "/_scopegate/api/"), unknown},

	{"a bare NUL", behind("\x00"), ""},
	{"a tab", behind("\t"), ""},
	{"a space", behind(" x"), ""},
	{"a broken escape", behind("%zz"), ""},
	{"half an escape", behind("%2"), ""},
	{"no leading slash", func(p string) string { return p[1:] }, ""},
	{"a bare carriage return", behind("\r"), ""},
}

// paths tries every operation under every other spelling of its path, by a
// caller who may do everything: only one spelling of a path is that path.
func (h *hardening) paths(t *testing.T) {
	full := h.callers.full
	for _, op := range api {
		for _, s := range spellings {
			x := exchange{
				name: s.name, call: call{method: op.method, target: s.of(op.target()), key: full.key, body: op.good()},
				as: full, status: 403, reason: s.reason,
			}
			if s.reason == "" {
				x.status, x.before = 400, true
			}
			h.do(t, x)
		}
		if !strings.HasSuffix(op.path, "}") {
			x := permitted(op, full)
			x.name, x.target, x.status, x.reason, x.sent = "a suffix", op.target()+".json", 403, unknown, ""
			h.do(t, x)
		}
		// The query is no part of any operation: it is left behind.
		for _, query := range []string{"?", "?a=b&_method=DELETE", "?/../../x", "?%00%zz", "??x#y"} {
			x := permitted(op, full)
			x.name, x.target = "a query", op.target()+query
			h.do(t, x)
		}
	}
	h.ids(t)
	h.targets(t)
}

// ids tries ids of a form that they do not have.
func (h *hardening) ids(t *testing.T) {
	full := h.callers.full
	for _, c := range []struct{ id, reason string }{
		{"..", notCanonical},
		{".", notCanonical},
		{"%2e%2e%2fmember", notCanonical},
		{"1;2", notCanonical},
		{strings.Repeat("a", 129), "invalid_id"},
		{strings.Repeat("a", 4000), "invalid_id"},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			h.do(t, exchange{
				name: "bad id", call: call{method: method, target: "/api/v1/member/" + c.id, key: full.key},
				as: full, status: 403, reason: c.reason,
			})
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		for _, id := range []string{
			"1", "me", "self", "current", "all", "*", aToken[:35], aToken + "0", "{" + aToken + "}", "urn:uuid:" + aToken,
			strings.ReplaceAll(aToken, "-", ""), strings.Replace(aToken, "-", "_", 1), strings.Replace(aToken, "5", "g", 1),
		} {
			reason := "invalid_id"
			if strings.ContainsAny(id, "*{:") {
				reason = notCanonical
			}
			h.do(t, exchange{
				name: "bad token id", call: call{method: method, target: "/api/v1/token/" + id, key: full.key},
				as: full, status: 403, reason: reason,
			})
		}
	}
}

// targets tries request targets that are no path.
func (h *hardening) targets(t *testing.T) {
	full := h.callers.full
	for _, c := range []struct {
		name, method, target string
		status               int
		sent                 string
	}{
		{"this host in absolute form", "GET", "http://" + h.addr + "/api/v1/members", 200, "GET /api/v1/members"},
		{"this host with a user", "GET", "http://evil@" + h.addr + "/api/v1/members", 200, "GET /api/v1/members"},
		{"another scheme", "GET", "ftp://" + h.addr + "/api/v1/members", 200, "GET /api/v1/members"},
		{"another host in absolute form", "GET", "http://evil.example/api/v1/members", 421, ""},
		// The port is not part of a site's name.
		{"the upstream in absolute form", "GET", h.up.URL + "/api/v1/members", 200, "GET /api/v1/members"},
		{"an authority", "CONNECT", h.up.Listener.Addr().String(), 403, ""},
		{"another authority", "CONNECT", "evil.example:443", 421, ""},
		{"an authority with a path", "GET", "//evil.example/api/v1/members", 403, ""},
		{"nothing", "GET", "", 400, ""},
		{"an opaque URI", "GET", "mailto:someone@example.com", 403, ""},
	} {
		x := exchange{
			name: c.name, call: call{method: c.method, target: c.target, key: full.key},
			as: full, status: c.status, sent: c.sent, before: c.status == 421 || c.status == 400,
		}
		if c.status == 403 {
			x.reason = notCanonical
		}
		h.do(t, x)
	}
	for _, path := range []string{
		"/", "/api", "/api/v1", "/api/v2/members", "/index.php", "/.env", "/metrics", "/config/", "/load", "/scopegate/",
		"/_scopegate", "/_scopegate/v1", "/_scopegate/v1/whoami/x", "/_scopegate/v2/whoami", "/debug/pprof/", "/api/v1/relations",
		"/api/v1/relation/1", "/api/v1/member/a/b/c", "/api/v1/member/a/connect", "/api/v1/relation/member/1/group/2", "/api/v1/token/" + aToken + "/secret",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			reason := unknown
			if path == "/" || strings.HasSuffix(path, "/") {
				reason = notCanonical
			}
			h.do(t, exchange{
				name: "unknown path", call: call{method: method, target: path, key: full.key},
				as: full, status: 403, reason: reason,
			})
			x := exchange{name: "unknown path without a key", call: call{method: method, target: path}, status: 401, reason: "no_credential"}
			h.do(t, x)
		}
	}
	x := exchange{name: "asterisk", call: call{method: "GET", target: "*", key: full.key}, as: full, status: 403, reason: notCanonical}
	h.do(t, x)
	long := "/api/v1/member/" + strings.Repeat("x/", 4000)
	h.do(t, exchange{name: "long", call: call{method: "GET", target: long, key: full.key}, as: full, status: 403, reason: notCanonical})
	h.do(t, exchange{name: fmt.Sprintf("%d segments", 4000), call: call{method: "GET", target: long + "y", key: full.key}, as: full, status: 403, reason: unknown})
}
