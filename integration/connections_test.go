package integration_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// connections counts those that a server accepts.
type connections struct{ opened atomic.Int64 }

func (c *connections) count(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		c.opened.Add(1)
	}
}

// TestConnectionsUpstreamAreUsedAgain sends a thousand requests and counts the
// connections that upstream accepts: one for each that are under way at once
// with HTTP/1.1, and one for all of them with HTTP/2.
func TestConnectionsUpstreamAreUsedAgain(t *testing.T) {
	t.Parallel()
	const requests, callers = 1000, 8
	for _, c := range []struct {
		name  string
		http2 bool
		want  int64
	}{{"HTTP/1.1", false, callers}, {"HTTP/2", true, 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var conns connections
			arrived, release := make(chan struct{}, requests), make(chan struct{})
			up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-release
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `"`+r.Proto+`"`)
			}))
			up.EnableHTTP2, up.Config.ConnState = c.http2, conns.count
			up.StartTLS()
			t.Cleanup(up.Close)
			authority := filepath.Join(t.TempDir(), "upstream.pem")
			if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			h := newHolder("ops", "one", "members.read-all")
			g := start(t, preamble+site(`scopegate {
				upstream {$UPSTREAM} {
					master_token {env.MASTER}
					max_in_flight `+fmt.Sprint(callers)+`
					transport http {
						tls_trust_pool file {$AUTHORITY}
					}
				}
				store none
				team ops {
					scopes members.read-all
					`+h.block()+`
				}
				audit {
					output file {$DIR}/audit.jsonl
				}
			}`), "MASTER="+masterToken, "UPSTREAM="+up.URL, "AUTHORITY="+authority)
			read := call{method: "GET", target: "/api/v1/members", key: h.key}
			answered := func(a *answer) {
				t.Helper()
				if a.status != 200 || !strings.Contains(a.body, c.name) {
					t.Errorf("answered %d %s", a.status, a.body)
				}
			}

			// The first, by which it is known what upstream speaks. Then as many
			// as there are places, all under way at once.
			first := begin(t, g.addr, read)
			<-arrived
			release <- struct{}{}
			answered(<-first)
			var all []<-chan *answer
			for range callers {
				all = append(all, begin(t, g.addr, read))
			}
			for range callers {
				<-arrived
			}
			close(release)
			for _, back := range all {
				answered(<-back)
			}
			// And each caller one after the other.
			var sent atomic.Int64
			sent.Store(1 + callers)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for sent.Add(1) <= requests {
						answered(send(t, g.addr, read))
					}
				})
			}
			wg.Wait()
			if n := conns.opened.Load(); n != c.want || len(arrived) != requests-1-callers {
				t.Errorf("%d connections for %d requests, want %d for %d", n, len(arrived)+1+callers, c.want, requests)
			}
		})
	}
}
