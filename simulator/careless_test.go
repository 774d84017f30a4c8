package simulator_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/simulator"
)

// Whoever relays a request to an upstream that reads it more freely than the
// relay did acts on another object than the one that was judged. These are
// the ways in which the simulator reads freely.
func TestRequestsAreReadCarelessly(t *testing.T) {
	for _, tc := range []struct {
		name, method, target, header string
		operation                    string
	}{
		{"dot segments", "GET", "/api/v1/groups/../tokens", "", "listTokens"},
		{"escaped dot segments", "GET", "/api/v1/groups/%2e%2E/tokens", "", "listTokens"},
		{"escaped slash", "GET", "/api/v1/group/x%2f..%2f..%2ftokens", "", "listTokens"},
		{"doubled slash", "GET", "//api/v1//tokens", "", "listTokens"},
		{"slash behind", "GET", "/api/v1/tokens/", "", "listTokens"},
		{"escaped letter", "GET", "/api/v1/%74okens", "", "listTokens"},
		{"method in a header", "POST", "/api/v1/group/" + simulator.GroupID, "X-HTTP-Method-Override: delete", "deleteGroup"},
		{"method in the query", "POST", "/api/v1/group/" + simulator.GroupID + "?_method=DELETE", "", "deleteGroup"},
		{"a GET names no other method", "GET", "/api/v1/group/" + simulator.GroupID + "?_method=DELETE", "X-HTTP-Method-Override: DELETE", "getGroup"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim := simulator.New(simulator.Options{})
			server := httptest.NewServer(sim)
			t.Cleanup(server.Close)
			status := rawRequest(t, server.Listener.Addr(), tc.method, tc.target, tc.header, "Authorization: Bearer "+sim.Master())
			if status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			path, query, _ := strings.Cut(tc.target, "?")
			seen := sim.Requests()
			if len(seen) != 1 || seen[0].Operation != tc.operation || seen[0].Method != tc.method ||
				seen[0].Path != path || seen[0].Query != query {
				t.Errorf("seen %+v, want %s", seen, tc.operation)
			}
		})
	}
}

// rawRequest writes the request itself, since clients clean what they send.
func rawRequest(t *testing.T, to net.Addr, method, target string, headers ...string) int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: upstream.example.com\r\nContent-Length: 0\r\n", method, target)
	for _, h := range headers {
		if h != "" {
			b.WriteString(h + "\r\n")
		}
	}
	if _, err := io.WriteString(conn, b.String()+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// A web application sends headers that no API client needs; a gateway that
// relays them is to be found out.
func TestAnswersCarryHeadersToBeDropped(t *testing.T) {
	g := open(t, simulator.Options{}).must("GET", "/api/v1/members", "")
	for _, name := range []string{"Set-Cookie", "X-Powered-By", "Access-Control-Allow-Origin"} {
		if g.header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
}

// No request brings the simulator down, and each answer is JSON.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/api/v1/members", "", "")
	f.Add("POST", "/api/v1/member/x/disconnect", "", "PUT")
	f.Add("PUT", "/api/v1/group/"+simulator.GroupID, `{"name":"x"}`, "")
	f.Add("GET", "/api/v1/gateway-level-logs", `{"page":-9,"limit":1}`, "")
	f.Add("POST", "/api/v1/relation/group/../group/%2f/member", "\x00", "CONNECT")
	f.Fuzz(func(t *testing.T, method, target, body, override string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://upstream.example.com", strings.NewReader(body))
		if err != nil || r.URL == nil {
			return
		}
		if r.URL, err = r.URL.Parse(target); err != nil {
			return
		}
		sim := simulator.New(simulator.Options{})
		r.Header.Set("Authorization", "Bearer "+sim.Master())
		r.Header.Set("X-HTTP-Method-Override", override)
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, r)
		if w.Code >= 500 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("status %d, body %s", w.Code, w.Body)
		}
		if len(sim.Requests()) != 1 {
			t.Errorf("%d requests recorded", len(sim.Requests()))
		}
	})
}
