package upstream_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

// What upstream sees is what was decided and the gateway's own headers. It is
// compared whole, so that a header more fails.
func TestDoSendsWhatWasDecidedAndNoMore(t *testing.T) {
	type seen struct {
		Method, URI, Host, Body string
		Length                  int64
		Header                  http.Header
	}
	var got seen
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, r.Host, string(body), r.ContentLength, r.Header}
	})
	r := start(t, s.URL, nil)
	host := strings.TrimPrefix(s.URL, "http://")
	header := func(more ...string) http.Header {
		h := http.Header{
			"Accept": {"application/json"}, "Accept-Encoding": {"identity"},
			"Authorization": {"Bearer " + master}, "User-Agent": {"scopegate/test"},
		}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for _, c := range []struct {
		name string
		req  upstream.Request
		want seen
	}{
		{
			"a read",
			upstream.Request{Method: "GET", Path: "/api/v1/members"},
			seen{"GET", "/api/v1/members", host, "", 0, header()},
		},
		{
			"a read with a body, as the logs take it",
			upstream.Request{Method: "GET", Path: "/api/v1/system-level-logs", Body: []byte(`{"page":1}`)},
			seen{"GET", "/api/v1/system-level-logs", host, `{"page":1}`, 10, header("Content-Length", "10", "Content-Type", "application/json")},
		},
		{
			"a change",
			upstream.Request{Method: "POST", Path: "/api/v1/member", Body: []byte(`{}`)},
			seen{"POST", "/api/v1/member", host, `{}`, 2, header("Content-Length", "2", "Content-Type", "application/json")},
		},
		{
			"a change without a body",
			upstream.Request{Method: "POST", Path: "/api/v1/member/7/disconnect", Body: []byte{}},
			seen{"POST", "/api/v1/member/7/disconnect", host, "", 0, header("Content-Length", "0")},
		},
		{
			"a removal",
			upstream.Request{Method: "DELETE", Path: "/api/v1/member/a~b.c_d-e"},
			seen{"DELETE", "/api/v1/member/a~b.c_d-e", host, "", 0, header()},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := r.Do(t.Context(), c.req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("upstream saw (-want +got):\n%s", diff)
			}
		})
	}
	upstream.AssertHeadersIntact(t, r.Forwarder)
}

func TestDoRelaysStatuses(t *testing.T) {
	for _, status := range []int{200, 201, 202, 203, 204, 205, 400, 404, 409, 422, 429} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "application/json; charset=utf-8")
			h.Set("Retry-After", "17")
			h.Set("Set-Cookie", "session=1")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"message":"x"}`)
		})
		r := start(t, s.URL, nil)
		resp, err := r.Do(t.Context(), get)
		if err != nil {
			t.Fatalf("%d: %v", status, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.Date == "" || resp.Status != status || resp.ContentType != "application/json; charset=utf-8" || resp.ContentLength != int64(len(body)) {
			t.Errorf("%d: got %d, %q, length %d, body %q, %v", status, resp.Status, resp.ContentType, resp.ContentLength, body, err)
		}
		want := ""
		if status == 429 {
			want = "17"
		}
		if resp.RetryAfter != want {
			t.Errorf("%d: Retry-After %q, want %q", status, resp.RetryAfter, want)
		}
	}
}

func TestDoRejectsStatuses(t *testing.T) {
	for _, c := range []struct {
		status int
		want   policy.Reason
	}{
		{101, policy.UpstreamStatus},
		{206, policy.UpstreamStatus},
		{300, policy.UpstreamRedirect},
		{301, policy.UpstreamRedirect},
		{302, policy.UpstreamRedirect},
		{303, policy.UpstreamRedirect},
		{307, policy.UpstreamRedirect},
		{308, policy.UpstreamRedirect},
		{304, policy.UpstreamStatus},
		{401, policy.UpstreamUnauthorized},
		{403, policy.UpstreamForbidden},
		{402, policy.UpstreamStatus},
		{405, policy.UpstreamStatus},
		{407, policy.UpstreamStatus},
		{410, policy.UpstreamStatus},
		{418, policy.UpstreamStatus},
		{600, policy.UpstreamError},
		{999, policy.UpstreamError},
		{500, policy.UpstreamError},
		{501, policy.UpstreamError},
		{502, policy.UpstreamError},
		{503, policy.UpstreamError},
		{504, policy.UpstreamError},
	} {
		var elsewhere atomic.Int32
		other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 " + strconv.Itoa(c.status) + " X\r\nLocation: " + other.URL + "\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}")
			_ = rw.Flush()
		})
		r := start(t, s.URL, nil)
		resp, err := r.Do(t.Context(), get)
		e := refused(t, resp, err, c.want)
		if e.UpstreamStatus != c.status || e.Unsent {
			t.Errorf("%d: got %d, unsent %v", c.status, e.UpstreamStatus, e.Unsent)
		}
		if elsewhere.Load() > 0 {
			t.Errorf("%d: the redirect was followed", c.status)
		}
	}
}

// A master token that upstream rejects is the gateway's trouble: counted each
// time, logged as an error, but not once a request.
func TestDoTellsOfARejectedMaster(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	r := start(t, s.URL, nil)
	for range 3 {
		resp, err := r.Do(t.Context(), get)
		refused(t, resp, err, policy.UpstreamUnauthorized)
	}
	if _, n := r.events.seen(); n != 3 {
		t.Errorf("counted %d times", n)
	}
	if n := r.logs.FilterLevelExact(zapcore.ErrorLevel).Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestDoDropsInformationAndTrailers(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Secret")
		_, _ = io.WriteString(w, "[]")
		w.Header().Set("X-Secret", "1")
	})
	r := start(t, s.URL, nil)
	resp, err := r.Do(t.Context(), get)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, whole := resp.Whole(); resp.Status != 200 || !whole || string(body) != "[]" {
		t.Errorf("got %d, %q, %v", resp.Status, body, whole)
	}
}

func TestDoRejectsEncodedAnswers(t *testing.T) {
	for _, encoding := range []string{"gzip", "br", "identity, gzip", "x"} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", encoding)
			_, _ = io.WriteString(w, "[]")
		})
		r := start(t, s.URL, nil)
		resp, err := r.Do(t.Context(), get)
		refused(t, resp, err, policy.UpstreamShape)
	}
}

func TestRetryAfterIsRelayedInItsFormsOnly(t *testing.T) {
	for value, want := range map[string]string{
		"0": "0", "120": "120", "Wed, 21 Oct 2026 07:28:00 GMT": "Wed, 21 Oct 2026 07:28:00 GMT",
		"": "", "-1": "", "soon": "", "1; x": "", "99999999999": "",
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(429)
		})
		r := start(t, s.URL, nil)
		resp, err := r.Do(t.Context(), get)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.RetryAfter != want {
			t.Errorf("%q: got %q", value, resp.RetryAfter)
		}
	}
}

// A caller who hangs up during a change must not leave it half known.
func TestDoFinishesAChangeWhoseCallerLeft(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, `{"created_id":"1"}`)
	})
	r := start(t, s.URL, nil)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
		close(release)
	}()
	resp, err := r.Do(ctx, upstream.Request{Method: "POST", Path: "/api/v1/token", Body: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := resp.Whole(); string(body) != `{"created_id":"1"}` {
		t.Errorf("got %q", body)
	}
	if ctx.Err() == nil {
		t.Error("the caller did not leave")
	}
}

func TestDoEndsAReadWhoseCallerLeft(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := start(t, s.URL, nil)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	resp, err := r.Do(ctx, get)
	refused(t, resp, err, policy.ClientGone)
}

// The transport sees no variable and no placeholder of the caller's request:
// a dial may outlast the request, and a proxy's URL may hold placeholders.
func TestDoKeepsTheCallersVariablesFromTheTransport(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
	r := start(t, s.URL, nil)
	in := httptest.NewRequest("GET", "/", nil).WithContext(t.Context())
	in = caddyhttp.PrepareRequest(in, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
	vars, _ := in.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // what the race detector would find
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				vars["x"] = i
			}
		}
	}()
	resp, err := r.Do(in.Context(), get)
	close(stop)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestBodyAfterCloseGivesNothing(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
	r := start(t, s.URL, nil)
	resp, err := r.Do(t.Context(), get)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if body, whole := resp.Whole(); whole || len(body) > 0 {
		t.Errorf("got %q", body)
	}
	if n, err := resp.Body.Read(make([]byte, 8)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestCloseOfNothing(t *testing.T) {
	var f *upstream.Forwarder
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestManyExchangesAtOnce(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20<<10/16)
	for _, size := range []int{0, 100, len(body)} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			in, _ := io.ReadAll(r.Body)
			_, _ = w.Write(in)
			for range 8 {
				_, _ = io.WriteString(w, body[:size])
			}
		})
		r := start(t, s.URL, nil)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				req := get
				if i%2 == 0 {
					req.Method, req.Body = "POST", []byte(`{"x":1}`)
				}
				for range 10 {
					resp, err := r.Do(t.Context(), req)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := string(req.Body) + strings.Repeat(body[:size], 8); err != nil || string(got) != want {
						t.Errorf("got %d bytes, want %d, %v", len(got), len(want), err)
					}
				}
			})
		}
		wg.Wait()
		upstream.AssertHeadersIntact(t, r.Forwarder)
	}
}
