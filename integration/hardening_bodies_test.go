package integration_test

import (
	"fmt"
	"strings"
	"testing"
)

// bodies sends bodies that two parsers could read in two ways, or that hide
// what they are, to an operation whose body the gateway does not judge.
func (h *hardening) bodies(t *testing.T) {
	clerk := h.callers.clerk
	post := exchange{
		call: call{method: "POST", target: "/api/v1/member", key: clerk.key}, as: clerk,
	}
	const malformed, media, encoding = "malformed_body", "unsupported_media_type", "content_encoding"
	for _, c := range []struct{ name, body string }{
		{"the same key twice", `{"name":"a","name":"b"}`},
		{"the same key twice, once escaped", `{"name":"a","n\u0061me":"b"}`},
		{"the same key twice, deep down", `{"a":[{"b":{"c":1,"c":2}}]}`},
		{"a byte order mark", "\ufeff" + `{"name":"a"}`},
		{"two values", `{"name":"a"}{"name":"b"}`},
		{"two lines", "{\"name\":\"a\"}\n{\"name\":\"b\"}"},
		{"something behind", `{"name":"a"} x`},
		{"a NUL behind", "{\"name\":\"a\"}\x00"},
		{"a trailing comma", `{"name":"a",}`},
		{"a comma too many in a list", `{"name":["a",]}`},
		{"single quotes", `{'name':'a'}`},
		{"no quotes", `{name:"a"}`},
		{"a comment", `{"name":"a"/**/}`},
		{"a line comment", "{\"name\":\"a\"} // x"},
		{"a number with a leading zero", `{"a":01}`},
		{"a number with a plus", `{"a":+1}`},
		{"a hexadecimal number", `{"a":0x10}`},
		{"not a number", `{"a":NaN}`},
		{"infinity", `{"a":Infinity}`},
		{"a word", `{"a":True}`},
		{"no UTF-8", "{\"name\":\"\xff\xfe\"}"},
		{"an overlong slash", "{\"name\":\"\xc0\xaf\"}"},
		{"half a surrogate pair", `{"name":"\ud800"}`},
		{"half a surrogate pair in a name", `{"\udc00":1}`},
		{"a bare line break in a string", "{\"name\":\"a\nb\"}"},
		{"a bare NUL in a string", "{\"name\":\"a\x00b\"}"},
		{"an unknown escape", `{"name":"\x41"}`},
		{"cut short", `{"name":"a`},
		{"nothing but blanks", "  \n "},
		{"UTF-16", "{\x00\"\x00n\x00\"\x00:\x001\x00}\x00"},
		{"too deep", strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100)},
		{"a form", `name=a&password=b`},
		{"XML", `<name>a</name>`},
	} {
		x := post
		x.name, x.body, x.status, x.reason = c.name, c.body, 400, malformed
		h.do(t, x)
		x.name, x.body, x.header = c.name+", in chunks", chunked(c.body, 3), []string{"Transfer-Encoding: chunked"}
		h.do(t, x)
	}
	const good = `{"name":"a","tags":[1,2.5,true,null]}`
	for _, c := range []struct{ name, body, sent string }{
		{"an object", good, good},
		{"blanks", " {\n\t\"name\" : \"a\" }\r\n", `{"name":"a"}`},
		{"escapes", `{"n\u0061me":"\u0041\/"}`, `{"name":"A/"}`},
		{"a number", `7`, `7`},
		{"null", `null`, `null`},
	} {
		x := post
		x.name, x.body, x.status, x.sent, x.with = c.name, c.body, 200, "POST /api/v1/member", c.sent
		h.do(t, x)
		x.name, x.body, x.header = c.name+", in chunks", chunked(c.body, 1), []string{"Transfer-Encoding: chunked", "Trailer: Authorization"}
		h.do(t, x)
	}
	for _, c := range []struct {
		header []string
		reason string
	}{
		{[]string{"Content-Type: text/plain"}, media},
		{[]string{"Content-Type: application/x-www-form-urlencoded"}, media},
		{[]string{"Content-Type: multipart/form-data; boundary=x"}, media},
		{[]string{"Content-Type: application/json; charset=utf-16"}, media},
		{[]string{"Content-Type: application/json; charset=latin1"}, media},
		{[]string{"Content-Type: application/json; x=y"}, media},
		{[]string{"Content-Type: application/json, text/plain"}, media},
		{[]string{"Content-Type: application/json", "Content-Type: text/plain"}, media},
		{[]string{"Content-Type: application/jsonx"}, media},
		{[]string{"Content-Type: application/problem+json"}, media},
		{[]string{"Content-Type: text/json"}, media},
		{[]string{"Content-Type: */*"}, media},
		{[]string{"Content-Type:"}, media},
		{[]string{"Content-Encoding: gzip"}, encoding},
		{[]string{"Content-Encoding: deflate"}, encoding},
		{[]string{"Content-Encoding: br"}, encoding},
		{[]string{"Content-Encoding: zstd"}, encoding},
		{[]string{"Content-Encoding: identity, gzip"}, encoding},
		{[]string{"Content-Encoding: identity", "Content-Encoding: gzip"}, encoding},
		{[]string{"Content-Encoding: x-unknown"}, encoding},
	} {
		for _, target := range []string{"POST /api/v1/member", "PUT " + aMember} {
			x := post
			x.method, x.target, _ = strings.Cut(target, " ")
			x.name, x.header, x.body, x.status, x.reason = fmt.Sprint(c.header), c.header, good, 415, c.reason
			h.do(t, x)
		}
		x := post
		x.target, x.key, x.as = "/api/v1/token", h.callers.reader.key, h.callers.reader
		x.name, x.header, x.body, x.status, x.reason = fmt.Sprint(c.header), c.header, minting("members.read"), 415, c.reason
		h.do(t, x)
	}
	for _, header := range []string{"Content-Type: APPLICATION/JSON", "Content-Type: application/json; charset=UTF-8", "Content-Encoding: identity"} {
		x := post
		x.name, x.header, x.body, x.status, x.sent, x.with = header, []string{header}, good, 200, "POST /api/v1/member", good
		h.do(t, x)
	}
	h.sizes(t, post)
	h.passwords(t)
}

// sizes sends bodies up to their bound, beyond it, and not to their end.
func (h *hardening) sizes(t *testing.T, post exchange) {
	const mint, other = 64 << 10, 1 << 20
	sized := func(n int) string { return `"` + strings.Repeat("a", n-2) + `"` }
	in := []string{"Transfer-Encoding: chunked"}

	x := post
	x.name, x.body, x.status, x.sent, x.with = "as large as may be", sized(other), 200, "POST /api/v1/member", sized(other)
	h.do(t, x)
	x = post
	x.name, x.body, x.status, x.reason = "one byte too large", sized(other+1), 413, "body_too_large"
	h.do(t, x)
	x.name, x.body, x.header = "one byte too large, in chunks", chunked(sized(other+1), 8<<10), in
	h.do(t, x)
	x.name, x.body, x.header = "only said to be too large", "", []string{"Content-Length: 999999999999", "Content-Type: application/json"}
	h.do(t, x)
	x.name, x.header = "said to be too large, to be asked for", append(x.header, "Expect: 100-continue")
	h.do(t, x)

	x = post
	x.target, x.key, x.as = "/api/v1/token", h.callers.reader.key, h.callers.reader
	x.name, x.body, x.status, x.reason = "a mint one byte too large", sized(mint+1), 413, "body_too_large"
	h.do(t, x)
	x.name, x.body, x.header = "a mint one byte too large, in chunks", chunked(sized(mint+1), 8<<10), in
	h.do(t, x)

	x = post
	x.name, x.status, x.reason, x.leave = "cut off", 400, "malformed_body", true
	x.body, x.header = `{"name":"a"}`, []string{"Content-Length: 100"}
	h.do(t, x)
	for _, c := range []struct{ name, body string }{
		{"cut off in chunks", "5\r\n{\"nam"},
		{"a chunk without an end", "2\r\n{}\r\n"},
		{"a size that is none", "zz\r\n{}\r\n0\r\n\r\n"},
		{"a negative size", "-2\r\n{}\r\n0\r\n\r\n"},
		{"a size too large for numbers", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"},
		{"a chunk that is longer than it says", "1\r\n{}\r\n0\r\n\r\n"},
		{"a bare line feed in an extension", "2;a\nb\r\n{}\r\n0\r\n\r\n"},
		{"an endless extension", "2;" + strings.Repeat("a", 64<<10) + "\r\n{}\r\n0\r\n\r\n"},
	} {
		x.name, x.body, x.header = c.name, c.body, in
		h.do(t, x)
	}
}

// passwords tries to set a member's password in every spelling that some
// parser may take for it.
func (h *hardening) passwords(t *testing.T) {
	clerk, full := h.callers.clerk, h.callers.full
	for _, body := range []string{
		`{"password":"x"}`, `{"name":"a","password":"x"}`, `{"PASSWORD":"x"}`, `{"Password":null}`, `{"pass\u0077ord":"x"}`,
		`{"paſſword":"x"}`, `{"passw\u200bord":"x"}`, `{"ｐａｓｓｗｏｒｄ":"x"}`, `{"pässword":"x"}`, `{"pass_word":"x"}`, `{"pass-word":"x"}`,
		`{"password ":"x"}`, `{"password\u0000":"x"}`, `{"password[]":"x"}`, `{"new_password":"x"}`, `{"passwordConfirmation":"x"}`,
		`{"data":{"password":"x"}}`, `{"a":[[{"b":{"password":"x"}}]]}`, `[{"password":"x"}]`, `{"passwd":"x"}`, `{"pass":"x"}`, `{"pwd":"x"}`,
	} {
		x := exchange{
			name: "password", call: call{method: "PUT", target: aMember, key: clerk.key, body: body},
			as: clerk, status: 403, reason: "member_password",
		}
		h.do(t, x)
	}
	for _, c := range []struct {
		by     *holder
		target string
		body   string
	}{
		{clerk, "PUT " + aMember, `{"name":"New"}`},
		{clerk, "POST /api/v1/member", `{"name":"New","password":"first"}`},
		{full, "PUT " + aMember, `{"password":"x"}`},
	} {
		method, target, _ := strings.Cut(c.target, " ")
		h.do(t, exchange{
			name: "permitted", call: call{method: method, target: target, key: c.by.key, body: c.body},
			as: c.by, status: 200, sent: c.target, with: c.body,
		})
	}
}
