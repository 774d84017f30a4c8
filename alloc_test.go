//go:build !race

// The race detector makes sync.Pool forget at random, so that allocations can
// be counted only without it.

package scopegate

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/simulator"
)

// maxAllocations is what a permitted read may take of the heap in the handler:
// what net/http, Caddy and the transport take is not in it.
const maxAllocations = 8

func TestDecisionAllocatesNothing(t *testing.T) {
	w := newWorld(t, "scopes members.*\nrate_limit 1000000 1s")
	header := http.Header{"Authorization": {"Bearer " + w.key.Reveal()}}
	now := time.Now()
	var held credential.Credential
	decide := func() {
		if reason := w.auth.Authenticate(header, "", now, &held); reason != policy.Allowed {
			t.Fatal(reason)
		}
		id := &held.Identity
		verdict := w.plan.Enter(id.Team.Name, id.Name, id.Credential, now)
		defer verdict.Leave()
		d := policy.Decide(id, w.rules.router.Match(http.MethodGet, aMember), policy.Facts{Limit: verdict.Reason, Now: now})
		if !d.Allow() {
			t.Fatal(d.Reason)
		}
	}
	if n := testing.AllocsPerRun(1000, decide); n != 0 {
		t.Errorf("to identify, match and decide takes %v allocations, want none", n)
	}
}

// The handler's own are what is left of those of a whole exchange without what
// Caddy's preparation of a request takes, and a plain exchange through the same
// kind of transport: a request, and a context that bounds it.
func TestHandlerAllocations(t *testing.T) {
	w := newWorldBefore(t, canned(t), simulator.New(simulator.Options{}), "scopes members.*\nrate_limit 1000000 1s", "")
	answer := &discarded{header: http.Header{}}
	server := &caddyhttp.Server{}
	in := httptest.NewRequest(http.MethodGet, aMember, http.NoBody)
	in.Header.Set("Authorization", "Bearer "+w.key.Reveal())
	prepare := func() *http.Request {
		clear(answer.header)
		r := caddyhttp.PrepareRequest(in, caddy.NewReplacer(), answer, server)
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
		return r
	}
	whole := testing.AllocsPerRun(1000, func() {
		if err := w.ServeHTTP(answer, prepare(), nil); err != nil || answer.status != http.StatusOK {
			t.Fatal(answer.status, err)
		}
	})

	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	out := httptest.NewRequest(http.MethodGet, w.Upstream.URL+aMember, http.NoBody)
	out.Header = http.Header{"Authorization": {"Bearer master"}, "Accept": {"application/json"}, "User-Agent": {"scopegate"}}
	exchange := testing.AllocsPerRun(1000, func() {
		ctx, cancel := context.WithTimeout(out.Context(), time.Minute)
		defer cancel()
		resp, err := transport.RoundTrip(out.WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
	prepared := testing.AllocsPerRun(1000, func() { prepare() })
	if n := whole - exchange - prepared; n > maxAllocations {
		t.Errorf("the handler takes %v allocations (%v less %v of the transport and %v of Caddy), want %d at most", n, whole, exchange, prepared, maxAllocations)
	} else {
		t.Logf("the handler takes %v allocations: %v less %v of the transport and %v of Caddy", n, whole, exchange, prepared)
	}
}

// canned starts an upstream that allocates nothing for a request.
func canned(t *testing.T) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(bytes.TrimSpace(line)) > 0 {
						continue // of the head; no request here has a body
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// discarded is an answer that nobody reads.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
