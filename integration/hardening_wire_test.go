package integration_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const aMember = "/api/v1/member/m-1"

// credentials sends a good key in every place where none belongs, and in
// every form that is not quite the one in which it counts.
func (h *hardening) credentials(t *testing.T) {
	key, other := h.callers.full.key, h.callers.reader.key
	escaped := strings.ReplaceAll(url.QueryEscape(key), "sgk_", "%73gk%5F")
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + key))
	const none, many, misplaced, malformed = "no_credential", "multiple_credentials", "misplaced_credential", "malformed_credential"
	for _, c := range []struct {
		name   string
		header []string
		target string // default: a member
		reason string
	}{
		{"Basic", []string{"Authorization: Basic " + basic}, "", none},
		{"Digest", []string{`Authorization: Digest username="a", realm="b"`}, "", none},
		{"Token", []string{"Authorization: Token " + key}, "", none},
		{"no scheme", []string{"Authorization: " + key}, "", none},
		{"empty", []string{"Authorization:"}, "", none},
		{"the scheme alone", []string{"Authorization: Bearer"}, "", malformed},
		{"a tab for the space", []string{"Authorization: Bearer\t" + key}, "", none},
		{"the scheme twice", []string{"Authorization: Bearer Bearer " + key}, "", malformed},
		{"quoted", []string{`Authorization: Bearer "` + key + `"`}, "", malformed},
		{"something behind", []string{"Authorization: Bearer " + key + " x"}, "", malformed},
		{"a semicolon behind", []string{"Authorization: Bearer " + key + ";"}, "", malformed},
		{"in capitals", []string{"Authorization: Bearer " + strings.ToUpper(key)}, "", malformed},
		{"escaped", []string{"Authorization: Bearer " + escaped}, "", malformed},
		{"twice", []string{"Authorization: Bearer " + key, "Authorization: Bearer " + key}, "", many},
		{"good and bad", []string{"Authorization: Bearer " + key, "Authorization: Bearer x"}, "", many},
		{"bad and good", []string{"Authorization: Basic " + basic, "Authorization: Bearer " + key}, "", many},
		{"a list", []string{"Authorization: Bearer " + key + ", Bearer " + other}, "", many},
		{"a list with nothing", []string{"Authorization: Bearer " + key + ","}, "", many},
		{"lower case name, twice", []string{"authorization: Bearer " + key, "AUTHORIZATION: Bearer " + other}, "", many},

		{"in the query", nil, aMember + "?access_token=" + key, misplaced},
		{"in the query beside a good one", []string{"Authorization: Bearer " + key}, aMember + "?access_token=" + other, misplaced},
		{"escaped in the query", nil, aMember + "?token=" + escaped, misplaced},
		{"as the query", nil, aMember + "?" + key, misplaced},
		{"in the path", []string{"Authorization: Bearer " + key}, "/api/v1/member/" + key, misplaced},
		{"escaped in the path", []string{"Authorization: Bearer " + key}, "/api/v1/member/" + escaped, misplaced},
		{"in a cookie", []string{"Cookie: a=b; token=" + key}, "", misplaced},
		{"in X-Api-Key", []string{"X-Api-Key: " + key}, "", misplaced},
		{"in X-Api-Key beside a good one", []string{"Authorization: Bearer " + key, "X-Api-Key: " + other}, "", misplaced},
		{"in Proxy-Authorization", []string{"Proxy-Authorization: Bearer " + key}, "", misplaced},
		{"in X-Forwarded-Authorization", []string{"X-Forwarded-Authorization: Bearer " + key}, "", misplaced},
		{"in Referer", []string{"Referer: https://a.example/?k=" + key}, "", misplaced},
		{"escaped in Referer", []string{"Referer: https://a.example/?k=" + escaped}, "", misplaced},
		{"in a protocol of a socket", []string{"Sec-WebSocket-Protocol: bearer, " + key}, "", misplaced},
		// Caddy drops names that some servers take for others.
		{"under another spelling", []string{"Authorization_: Bearer " + key}, "", none},
		{"under the name CGI has", []string{"HTTP_AUTHORIZATION: Bearer " + key}, "", none},
	} {
		for _, method := range []string{"GET", "DELETE"} {
			target := c.target
			if target == "" {
				target = aMember
			}
			h.do(t, exchange{
				name: c.name, call: call{method: method, target: target, header: c.header}, status: 401, reason: c.reason,
			})
		}
	}
	for _, scheme := range []string{"bearer", "BEARER", "bEaReR", "Bearer  "} {
		x := permitted(operationAt("GET", aMember), h.callers.reader)
		x.name, x.key, x.header = "scheme "+scheme, "", []string{"Authorization: " + scheme + " " + other}
		h.do(t, x)
	}
}

// headers sends, with a call that is permitted, what tells programs on the
// way or upstream to do something else. None of it may arrive.
func (h *hardening) headers(t *testing.T) {
	lines := []string{
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X-Original-Method: DELETE",
		"X-Original-URL: /api/v1/tokens", "X-Rewrite-URL: /api/v1/tokens", "X-Forwarded-Path: /api/v1/tokens",
		"X-Forwarded-Prefix: /admin", "X-Original-URI: /api/v1/tokens", "X-Accel-Redirect: /etc/passwd", "X-Sendfile: /etc/passwd",
		"X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 127.0.0.1, 10.0.0.1", "X-Real-IP: 192.0.2.1", "True-Client-IP: 192.0.2.1",
		"X-Client-IP: 192.0.2.1", "CF-Connecting-IP: 192.0.2.1", "Forwarded: for=192.0.2.1;host=evil.example", "Via: 1.1 evil",
		"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "X-Host: evil.example", "X-Forwarded-Server: evil",
		"Cookie: session=1", "Proxy-Authorization: Basic eA==", "X-Api-Key: something", "X-Auth-Token: something", "Api-Token: " + masterToken,
		"Range: bytes=0-1", "If-Range: x", "If-None-Match: *", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT", "If-Match: x",
		"Accept: text/html", "Accept-Encoding: gzip, br", "Accept-Language: de", "User-Agent: evil", "Origin: https://evil.example", "Referer: https://evil.example/",
		"TE: trailers, gzip", "Trailer: Authorization", "Keep-Alive: timeout=1000", "Proxy-Connection: keep-alive", "Max-Forwards: 0",
		"Connection: close, Authorization", "Connection: close, X-Scopegate", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c",
		"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Destination: /api/v1/tokens", "Depth: infinity",
		"Content-Encoding: gzip", "Content-Type: text/html", "Content-Length: 0", "Content-MD5: x", "Date: x", "Warning: x", "Pragma: no-cache",
		"X-Request-Id: {env.MASTER}", "X-Template: {file./etc/passwd}", "X-Placeholder: {http.vars.x}", "traceparent: 00-0-0-00", "Baggage: x=y",
		"X-Empty:", "X-Colons: a:b:c", "X-Latin: \xe9\xff", "X-Long: " + strings.Repeat("a", 8_000), "Expect: 100-continue",
		"Authorization-: Bearer x", "X_Underscore: 1", "X.Dot: 1", "Transfer-Encoding-: chunked", "Content-Length-: 7",
	}
	for _, line := range lines {
		for _, method := range []string{"GET", "DELETE"} {
			x := permitted(operationAt(method, aMember), h.callers.full)
			x.name, x.header = "header "+line[:min(40, len(line))], []string{line}
			if strings.HasPrefix(line, "Connection: Upgrade") {
				x.header = []string{"Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}
			}
			h.do(t, x)
		}
	}
	all := permitted(operationAt("GET", aMember), h.callers.full)
	all.name, all.header = "two hundred headers", nil
	for i := range 200 {
		all.header = append(all.header, fmt.Sprintf("X-Number-%d: %d", i, i))
	}
	h.do(t, all)

	// Addresses that the caller only claims to come from.
	out := h.callers.out["client_address"]
	for _, line := range []string{
		"X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1", "CF-Connecting-IP: 192.0.2.1",
		"X-Forwarded-For: 2001:db8::1", "X-Client-IP: 192.0.2.1", "True-Client-IP: 192.0.2.1",
	} {
		h.do(t, exchange{
			name: line, call: call{method: "GET", target: aMember, key: out.key, header: []string{line}},
			as: out, status: 403, reason: "client_address",
		})
	}
	// A header that a method hides in, on a path which has that method not.
	for _, line := range lines[:4] {
		h.do(t, exchange{
			name: line, call: call{method: "POST", target: aMember, key: h.callers.full.key, header: []string{line}},
			as: h.callers.full, status: 405, reason: "method_not_allowed",
		})
	}
	h.hosts(t)
}

// hosts asks for sites that the gateway is not.
func (h *hardening) hosts(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"another host", []string{"Host: evil.example"}, 421},
		{"the upstream", []string{"Host: " + h.up.Listener.Addr().String()}, 200}, // the port is not part of a site's name
		{"an empty host", []string{"Host:"}, 400},
		{"two hosts", []string{"Host: " + h.addr, "Host: evil.example"}, 400},
		{"a host with a slash", []string{"Host: 127.0.0.1/evil"}, 400},
		{"a host with a space", []string{"Host: 127.0.0.1 evil"}, 400},
	} {
		x := exchange{
			name: c.name, call: call{method: "GET", target: aMember, key: h.callers.full.key, header: c.header},
			as: h.callers.full, status: c.status, before: c.status != 200,
		}
		if c.status == 200 {
			x.sent = "GET " + aMember
		}
		h.do(t, x)
	}
	x := exchange{name: "no host", as: h.callers.full, status: 400, before: true}
	x.raw = "GET " + aMember + " HTTP/1.1\r\nAuthorization: Bearer " + h.callers.full.key + "\r\n\r\n"
	h.do(t, x)
}

// smuggling hides a second request in the body of a first, or breaks the
// rules by which two programs agree where a request ends. Upstream gets
// requests of the gateway's own making, so that at most one arrives, and the
// gateway answers once.
func (h *hardening) smuggling(t *testing.T) {
	full := h.callers.full
	inner := "DELETE " + aMember + " HTTP/1.1\r\nHost: " + h.addr + "\r\n\r\n"
	head := func(lines ...string) string {
		return "GET " + aMember + " HTTP/1.1\r\nHost: %HOST%\r\nAuthorization: Bearer " + full.key + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	for _, c := range []struct {
		name, raw string
		reason    string // "" where Caddy's HTTP server refuses it
		status    int
	}{
		{"both lengths, chunked first", head("Transfer-Encoding: chunked", "Content-Length: 4", "Connection: close") + "0\r\n\r\n" + inner, "passes", 200},
		{"both lengths, length first", head("Content-Length: 4", "Transfer-Encoding: chunked", "Connection: close") + "0\r\n\r\n" + inner, "passes", 200},
		{"two lengths", head("Content-Length: 0", "Content-Length: 60") + inner, "", 400},
		{"a list of lengths", head("Content-Length: 0, 60") + inner, "", 400},
		{"a negative length", head("Content-Length: -1") + inner, "", 400},
		{"a signed length", head("Content-Length: +5") + inner, "", 400},
		{"a length in hexadecimal", head("Content-Length: 0x10") + inner, "", 400},
		{"a length with a space inside", head("Content-Length: 1 0") + inner, "", 400},
		{"a length beyond numbers", head("Content-Length: 99999999999999999999") + inner, "", 400},
		{"a length with letters", head("Content-Length: ten") + inner, "", 400},
		{"a space before the colon", head("Content-Length : 60") + inner, "", 400},
		{"an unknown coding", head("Transfer-Encoding: xchunked") + inner, "", 501},
		{"identity", head("Transfer-Encoding: identity") + inner, "", 501},
		{"gzip and chunked", head("Transfer-Encoding: gzip, chunked") + inner, "", 501},
		{"chunked twice", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + inner, "", 501},
		{"chunked in a list twice", head("Transfer-Encoding: chunked, chunked") + inner, "", 501},
		{"chunked and nothing", head("Transfer-Encoding: chunked,") + inner, "", 501},
		{"quoted chunked", head(`Transfer-Encoding: "chunked"`) + inner, "", 501},
		{"chunked behind a vertical tab", head("Transfer-Encoding: \vchunked") + inner, "", 400},
		{"a folded line", head("X-A: b", " Transfer-Encoding: chunked", "Connection: close"), "passes", 200},
		{"a folded first line", "GET " + aMember + " HTTP/1.1\r\n Host: %HOST%\r\n\r\n", "", 400},
		{"a line without a colon", head("Transfer-Encoding"), "", 400},
		{"an empty name", head(": x"), "", 400},
		{"a space in a name", head("X A: b"), "", 400},
		{"a NUL in a name", head("X\x00A: b"), "", 400},
		{"a NUL in a value", head("X-A: b\x00c"), "", 400},
		{"a bare carriage return in a value", head("X-A: b\rTransfer-Encoding: chunked"), "", 400},
		{"a name beyond ASCII", head("X-\xe9: b"), "", 400},
		{"bare line feeds", strings.ReplaceAll(head("Connection: close"), "\r\n", "\n"), "passes", 200},
		{"no version", "GET " + aMember + "\r\n\r\n", "", 400},
		{"version 0.9", "GET " + aMember + " HTTP/0.9\r\nHost: %HOST%\r\n\r\n", "", 505},
		{"version 2.0", "GET " + aMember + " HTTP/2.0\r\nHost: %HOST%\r\n\r\n", "", 505},
		{"version 11", "GET " + aMember + " HTTP/11\r\nHost: %HOST%\r\n\r\n", "", 400},
		{"version in small letters", "GET " + aMember + " http/1.1\r\nHost: %HOST%\r\n\r\n", "", 400},
		{"a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "", 400},
		{"a method with a slash", "GET/ " + aMember + " HTTP/1.1\r\nHost: %HOST%\r\n\r\n", "", 400},
		{"two spaces", "GET  " + aMember + " HTTP/1.1\r\nHost: %HOST%\r\n\r\n", "", 400},
		{"an expectation nobody knows", head("Expect: 200-ok"), "", 417},
		{"a huge header", head("X-Huge: " + strings.Repeat("a", 2<<20)), "", 431},
		{"a huge number of headers", head(strings.Repeat("X-Many: a\r\n", 200_000) + "X-End: a"), "", 431},
		{"a huge path", "GET /api/v1/member/" + strings.Repeat("a", 2<<20) + " HTTP/1.1\r\nHost: %HOST%\r\n\r\n", "", 431},
	} {
		x := exchange{name: c.name, as: full, status: c.status, before: c.reason == ""}
		x.method, x.raw = "GET", c.raw
		if c.reason == "passes" {
			x.sent = "GET " + aMember
		}
		if a := h.do(t, x); a.more != "" {
			t.Errorf("%s: a second answer: %.200q", c.name, a.more)
		}
	}
	// A body that no operation has, with a request of its own in it: what
	// follows the first request is not authorised by it.
	for _, line := range []string{fmt.Sprintf("Content-Length: %d", len(inner)), "Transfer-Encoding: chunked"} {
		body := inner
		if line == "Transfer-Encoding: chunked" {
			body = chunked(inner, 16)
		}
		x := exchange{name: "a request in a body: " + line, as: full, status: 400, reason: "unexpected_body"}
		x.method, x.raw = "GET", head(line, "Content-Type: application/json", "Connection: close")+body
		if a := h.do(t, x); a.more != "" {
			t.Errorf("%s: a second answer: %.200q", x.name, a.more)
		}
	}
}
