package upstream_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

// hijack answers each connection with bytes of the test's own.
func hijack(tb testing.TB, f func(net.Conn, *http.Request)) string {
	tb.Helper()
	return serve(tb, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			tb.Error(err)
			return
		}
		defer conn.Close()
		f(conn, r)
	}).URL
}

func say(text string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) }
}

// hurried makes the timeout short where it is what a test waits for, and
// leaves it alone where a slow machine must not meet it.
func hurried(want policy.Reason) func(*upstream.Config, *upstream.Options) {
	return func(c *upstream.Config, _ *upstream.Options) {
		if want == policy.UpstreamTimeout {
			c.Timeout = caddy.Duration(time.Second)
		}
	}
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

func TestDoRejectsFaultyAnswers(t *testing.T) {
	large := head + "Content-Length: 2000000\r\n\r\n" + strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name   string
		answer func(net.Conn, *http.Request)
		want   policy.Reason
	}{
		{"none, the connection ends", say(""), policy.UpstreamUnreachable},
		{"none, the connection is reset", func(c net.Conn, _ *http.Request) { _ = c.(*net.TCPConn).SetLinger(0) }, policy.UpstreamUnreachable},
		{"no HTTP", say("SSH-2.0-OpenSSH\r\n"), policy.UpstreamUnreachable},
		{"half a head", say("HTTP/1.1 200 OK\r\nContent-Ty"), policy.UpstreamUnreachable},
		{"two lengths", say(head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), policy.UpstreamUnreachable},
		{"a head that does not end", say(head + "X: " + strings.Repeat("x", 300<<10) + "\r\n\r\n"), policy.UpstreamUnreachable},
		{"information without end", say(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 20000)), policy.UpstreamUnreachable},
		{"less than its length", say(head + "Content-Length: 9\r\n\r\n{}"), policy.UpstreamBroken},
		{"chunks cut off", say(head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), policy.UpstreamBroken},
		{"chunks of no length", say(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"), policy.UpstreamBroken},
		{"silence", func(c net.Conn, _ *http.Request) { _, _ = c.Read(make([]byte, 1)) }, policy.UpstreamTimeout},
		{"a body that stalls", func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, head+"Content-Length: 9\r\n\r\n{}")
			_, _ = c.Read(make([]byte, 1))
		}, policy.UpstreamTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, hijack(t, c.answer), hurried(c.want))
			for _, method := range []string{"GET", "POST"} {
				resp, err := r.Do(t.Context(), upstream.Request{Method: method, Path: "/api/v1/members"})
				if e := refused(t, resp, err, c.want); e.Unsent {
					t.Error("upstream may have seen it, yet the error says that it did not")
				}
			}
		})
	}
	// Beyond what is held back the answer has begun, and can only break off.
	for _, c := range []struct {
		name   string
		answer func(net.Conn, *http.Request)
		want   policy.Reason
	}{
		{"breaks", say(large), policy.UpstreamBroken},
		{"stalls", func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, large)
			_, _ = c.Read(make([]byte, 1))
		}, policy.UpstreamTimeout},
	} {
		t.Run("a large body that "+c.name, func(t *testing.T) {
			r := start(t, hijack(t, c.answer), hurried(c.want))
			for _, read := range []func(io.Reader) error{
				func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err },
				func(r io.Reader) error { _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); return err },
			} {
				resp, err := r.Do(t.Context(), get)
				if err != nil {
					t.Fatal(err)
				}
				if _, whole := resp.Whole(); whole || resp.ContentLength != 2000000 {
					t.Errorf("whole %v, length %d", whole, resp.ContentLength)
				}
				err = read(resp.Body)
				var e *upstream.Error
				if !errors.As(err, &e) || e.Reason != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				_, again := resp.Body.Read(make([]byte, 1))
				if !errors.Is(again, err) {
					t.Errorf("first %v, then %v", err, again)
				}
				resp.Body.Close()
			}
		})
	}
}

func TestDoTellsWhatWasCertainlyNotSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	r := start(t, url, nil)
	resp, err := r.Do(t.Context(), upstream.Request{Method: "POST", Path: "/api/v1/token", Body: []byte("{}")})
	if e := refused(t, resp, err, policy.UpstreamUnreachable); !e.Unsent {
		t.Error("nobody listened, yet it may have been sent")
	}
}

// flaky fails with one fault and answers when it was asked often enough.
func flaky(fault func(net.Conn), failures int32, asked *atomic.Int32) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) {
		if asked.Add(1) <= failures {
			fault(c)
			return
		}
		_, _ = io.WriteString(c, head+"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
	}
}

func TestOnlyReadsAreRetried(t *testing.T) {
	text := func(s string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, s) } }
	status := func(n int) func(net.Conn) {
		return text("HTTP/1.1 " + strconv.Itoa(n) + " X\r\nContent-Length: 0\r\n\r\n")
	}
	for _, c := range []struct {
		name  string
		fault func(net.Conn)
		retry bool
	}{
		{"502", status(502), true},
		{"503", status(503), true},
		{"504", status(504), true},
		{"the end of the connection", func(net.Conn) {}, true},
		{"a reset", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, true},
		{"a body cut short", text(head + "Content-Length: 9\r\n\r\n{}"), true},
		{"500", status(500), false},
		{"401", status(401), false},
		{"429", status(429), false},
		{"302", status(302), false},
		{"a leak", text(head + "X-Debug: " + master + "\r\nContent-Length: 2\r\n\r\n{}"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				var asked atomic.Int32
				r := start(t, hijack(t, flaky(c.fault, 2, &asked)), func(c *upstream.Config, _ *upstream.Options) {
					c.Retries = nil // the default, two
				})
				resp, err := r.Do(t.Context(), upstream.Request{Method: method, Path: "/api/v1/members", Body: []byte("{}")})
				want := int32(1)
				if method == "GET" && c.retry {
					want = 3
				}
				if got := asked.Load(); got != want {
					t.Errorf("%s: sent %d times, want %d (%v)", method, got, want, err)
				}
				if want == 3 && err != nil {
					t.Errorf("%s: %v", method, err)
				}
				if resp != nil {
					resp.Body.Close()
				}
			}
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); w.WriteHeader(503) })
	r := start(t, s.URL, func(c *upstream.Config, _ *upstream.Options) { *c.Retries = 1 })
	resp, err := r.Do(t.Context(), get)
	refused(t, resp, err, policy.UpstreamError)
	if got := asked.Load(); got != 2 {
		t.Errorf("asked %d times", got)
	}
}

// An upstream that is down is left alone, but a token that has to go is not
// left alive because of it.
func TestRevocationsPassAnOpenBreaker(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != "DELETE" {
			w.WriteHeader(503)
		}
	})
	r := start(t, s.URL, nil)
	open := false
	for range 20 {
		resp, err := r.Do(t.Context(), get)
		var e *upstream.Error
		if !errors.As(err, &e) {
			resp.Body.Close()
			t.Fatalf("got %v", err)
		}
		if open = e.Reason == policy.UpstreamBreakerOpen; open {
			if !e.Unsent || e.RetryAfter <= 0 {
				t.Errorf("got %+v", e)
			}
			break
		}
	}
	if !open {
		t.Fatal("the breaker stayed closed")
	}
	before := asked.Load()
	resp, err := r.Do(t.Context(), upstream.Request{Method: "DELETE", Path: "/api/v1/member/1"})
	refused(t, resp, err, policy.UpstreamBreakerOpen)
	if asked.Load() != before {
		t.Error("an open breaker let a request through")
	}
	resp, err = r.Do(t.Context(), upstream.Request{Method: "DELETE", Path: "/api/v1/token/x", Revokes: true})
	if err != nil {
		t.Fatalf("the revocation: %v", err)
	}
	resp.Body.Close()
	if states, _ := r.events.seen(); !cmp.Equal(states, []int{0, 2}) {
		t.Errorf("states %v", states)
	}
}

// Answers that displease say nothing about upstream's health.
func TestBreakerIgnoresAnswers(t *testing.T) {
	for _, status := range []int{401, 403, 404, 429, 500, 501, 302} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		r := start(t, s.URL, nil)
		for range 30 {
			if resp, err := r.Do(t.Context(), get); err == nil {
				resp.Body.Close()
			}
		}
		if states, _ := r.events.seen(); !cmp.Equal(states, []int{0}) {
			t.Errorf("%d: states %v", status, states)
		}
	}
}

func TestDoWithholdsLeaks(t *testing.T) {
	escaped := strings.ReplaceAll(master, "/", `\/`)
	for _, c := range []struct{ name, header, body string }{
		{"in a header that is not relayed", "X-Debug: Bearer " + master, "{}"},
		{"in one that is", "Content-Type: text/plain; x=" + master, "{}"},
		{"as the whole body", "", master},
		{"in a body", "", `{"token":"` + master + `"}`},
		{"with a slash escaped", "", `{"token":"` + escaped + `"}`},
		{"at the end of what is held back", "", strings.Repeat("x", 64<<10-len(master)) + master + strings.Repeat("x", 100)},
		{"in an answer of an error", "", `{"message":"bad token ` + master + `"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "HTTP/1.1 404 X\r\nContent-Length: " + strconv.Itoa(len(c.body)) + "\r\n"
			if c.header != "" {
				text += c.header + "\r\n"
			}
			r := start(t, hijack(t, say(text+"\r\n"+c.body)), nil)
			resp, err := r.Do(t.Context(), get)
			if e := refused(t, resp, err, policy.UpstreamLeak); !errors.Is(e, upstream.ErrLeak) {
				t.Errorf("got %v", e)
			}
			if r.logs.FilterMessageSnippet("withheld").Len() != 1 {
				t.Error("nothing in the log")
			}
			for _, entry := range r.logs.All() {
				if strings.Contains(entry.Message, master) || len(entry.ContextMap()) > 0 && strings.Contains(strings.Join(values(entry.ContextMap()), " "), master) {
					t.Errorf("the log tells the master token: %v", entry)
				}
			}
		})
	}
}

func values(m map[string]any) []string {
	var list []string
	for _, v := range m {
		if s, ok := v.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// A leak beyond what is held back breaks the answer off before its first
// byte, wherever the borders of buffers and packets fall.
func TestBodyBreaksOffBeforeALateLeak(t *testing.T) {
	for _, at := range []int{64<<10 - 5, 64 << 10, 64<<10 + 1, 128<<10 - 10, 300 << 10} {
		body := append(bytes.Repeat([]byte("y"), at), master...)
		body = append(body, bytes.Repeat([]byte("z"), 100<<10)...)
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			rest := body
			for len(rest) > 0 {
				n := min(len(rest), 1000)
				_, _ = w.Write(rest[:n])
				_ = http.NewResponseController(w).Flush()
				rest = rest[n:]
			}
		})
		r := start(t, s.URL, nil)
		resp, err := r.Do(t.Context(), get)
		if err != nil {
			t.Fatalf("%d: %v", at, err)
		}
		var got bytes.Buffer
		_, err = io.Copy(&got, resp.Body)
		resp.Body.Close()
		var e *upstream.Error
		if !errors.Is(err, upstream.ErrLeak) || !errors.As(err, &e) || e.Reason != policy.UpstreamLeak {
			t.Errorf("%d: got %v", at, err)
		}
		if got.Len() > at {
			t.Errorf("%d: %d bytes of the token came through", at, got.Len()-at)
		}
		if n := r.logs.FilterMessageSnippet("withheld").Len(); n != 1 {
			t.Errorf("%d: logged %d times", at, n)
		}
	}
}

// Whoever finds an answer that has the token in it can ask for it at any pace:
// the log has one line of it.
func TestLeakIsLoggedOnceAMinute(t *testing.T) {
	r := start(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Debug", master) }).URL, nil)
	for range 20 {
		resp, err := r.Do(t.Context(), upstream.Request{Method: "GET", Path: "/api/v1/members"})
		refused(t, resp, err, policy.UpstreamLeak)
	}
	if n := r.logs.FilterMessageSnippet("the master token occurs").Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
}
