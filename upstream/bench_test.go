package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/scopegate/scopegate/upstream"
)

// The two benchmarks carry the same requests to the same upstream: ours, and
// Caddy's reverse_proxy, than which it must be cheaper. cpu-ns/op is the time
// of the whole process, the upstream's included, since goroutines that the
// transport keeps busy elsewhere are as dear as our own.

func BenchmarkDo(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			s := serve(b, answer(size.bytes))
			r := start(b, s.URL, nil)
			measure(b, func() {
				resp, err := r.Do(b.Context(), get)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			})
		})
	}
}

func BenchmarkMint(b *testing.B) {
	s := serve(b, answer(300))
	r := start(b, s.URL, nil)
	req := upstream.Request{Method: "POST", Path: "/api/v1/token", Body: []byte(`{"name":"ci","allowed_scopes":["members.read"]}`), Team: "billing"}
	measure(b, func() {
		resp, err := r.Do(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	})
}

func BenchmarkReverseProxy(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			s := serve(b, answer(size.bytes))
			u, _ := url.Parse(s.URL)
			h := &reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{{Dial: u.Host}}}
			ctx, err := caddy.ProvisionContext(&caddy.Config{}) // it asks for an app
			if err != nil {
				b.Fatal(err)
			}
			if err := h.Provision(ctx); err != nil {
				b.Fatal(err)
			}
			defer h.Cleanup()
			server := &caddyhttp.Server{}
			measure(b, func() {
				in := httptest.NewRequest("GET", "/api/v1/members", nil)
				w := &discard{header: http.Header{}}
				in = caddyhttp.PrepareRequest(in.WithContext(b.Context()), caddy.NewReplacer(), w, server)
				if err := h.ServeHTTP(w, in, nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

var sizes = []struct {
	name  string
	bytes int
}{{"1KiB", 1 << 10}, {"32KiB", 32 << 10}, {"1MiB", 1 << 20}}

func answer(bytes int) http.HandlerFunc {
	body := []byte(strings.Repeat(`{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","name":"a member"},`, bytes/64+1)[:bytes])
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}

func measure(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	do()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		do()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
