package integration_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestHTTP2 attacks the gateway in HTTP/2, in which the request line is a set
// of headers that need not agree with each other. What arrives upstream is
// the same as for HTTP/1.1: nothing that was not built here.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	up := newRecorder(t)
	h := newHolder("ops", "one", "members.read", "members.read-all")
	g := start(t, strings.Replace(preamble, "{\n", "{\n servers {\n protocols h1 h2c\n}\n", 1)+
		site("scopegate {\n"+plainUpstream+team(h, "")+plainAudit+"}\n")+
		"http://:{$PORT} {\n bind 127.0.0.1\n respond 421\n}\n", "MASTER="+masterToken, "UPSTREAM="+up.URL)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()

	type attack struct {
		name, method, path, host string
		header                   http.Header
		body                     string
		status                   int
		reason                   string
	}
	attacks := []attack{
		{name: "permitted", path: aMember, status: 200},
		{name: "permitted, with a query", path: aMember + "?_method=DELETE", status: 200},
		{name: "another authority", path: aMember, host: "evil.example", status: 421},
		{name: "another method in a header", path: aMember, header: http.Header{"X-Http-Method-Override": {"DELETE"}}, status: 200},
		{name: "another path in a header", path: aMember, header: http.Header{"X-Original-Url": {"/api/v1/tokens"}}, status: 200},
		{name: "a cookie", path: aMember, header: http.Header{"Cookie": {"a=b", "c=d"}}, status: 200},
		{name: "two keys", path: aMember, header: http.Header{"Authorization": {"Bearer " + h.key, "Bearer " + h.key}}, status: 401, reason: "multiple_credentials"},
		{name: "no key", path: aMember, header: http.Header{"Authorization": nil}, status: 401, reason: "no_credential"},
		{name: "a wrong scope", method: "DELETE", path: aMember, status: 403, reason: "insufficient_scope"},
		{name: "a wrong method", method: "OPTIONS", path: aMember, status: 405, reason: "method_not_allowed"},
		{name: "a body where none belongs", path: aMember, body: "{}", status: 400, reason: "unexpected_body"},
		{name: "asterisk", path: "*", method: "DELETE", status: 403, reason: notCanonical},
	}
	for _, s := range spellings {
		if path := s.of(aMember); s.reason != "" && !strings.HasPrefix(path, "//") {
			attacks = append(attacks, attack{name: s.name, path: path, status: 403, reason: s.reason})
		}
	}
	for _, a := range attacks {
		if a.method == "" {
			a.method = http.MethodGet
		}
		var body io.Reader = http.NoBody
		if a.body != "" {
			body = strings.NewReader(a.body)
		}
		req, err := http.NewRequestWithContext(t.Context(), a.method, "http://"+g.addr, body)
		if err != nil {
			t.Fatal(err)
		}
		req.URL = &url.URL{Scheme: "http", Host: g.addr, Opaque: a.path}
		if req.Host = a.host; a.host == "" {
			req.Host = g.addr
		}
		req.Header.Set("Authorization", "Bearer "+h.key)
		maps.Copy(req.Header, a.header)
		if a.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
			continue
		}
		var p problem
		if a.reason != "" {
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
		}
		_ = resp.Body.Close()
		arrived := up.take()
		if resp.ProtoMajor != 2 || resp.StatusCode != a.status || p.Reason != a.reason || (len(arrived) == 1) != (a.status == 200) || len(arrived) > 1 {
			t.Errorf("%s: %s %d %q, upstream received %d requests; want %d %q", a.name, resp.Proto, resp.StatusCode, p.Reason, len(arrived), a.status, a.reason)
		}
		for _, r := range arrived {
			if err := h.judge(r, masterToken, up.Listener.Addr().String()); err != nil || r.method != a.method || r.target != aMember {
				t.Errorf("%s: upstream received %+v: %v", a.name, r, err)
			}
		}
	}
}
