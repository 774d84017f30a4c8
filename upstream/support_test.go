package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

const master = "gat_canary/0123456789abcdef+ABCDEF"

// events notes what a forwarder tells.
type events struct {
	mu       sync.Mutex
	breaker  []int
	rejected int
	loaded   chan struct{}
}

func newEvents() *events { return &events{loaded: make(chan struct{}, 64)} }

func (e *events) Breaker(state int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.breaker = append(e.breaker, state)
}

func (e *events) MasterLoaded(time.Time) { e.loaded <- struct{}{} }

func (e *events) MasterRejected() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rejected++
}

func (e *events) seen() (breaker []int, rejected int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]int(nil), e.breaker...), e.rejected
}

// rig is a forwarder before an upstream of the test's own.
type rig struct {
	*upstream.Forwarder
	events *events
	logs   *observer.ObservedLogs
	errors chan string // the messages logged as errors
	path   string      // of the token's file
}

func start(tb testing.TB, url string, change func(*upstream.Config, *upstream.Options)) *rig {
	tb.Helper()
	r := &rig{events: newEvents(), errors: make(chan string, 64), path: filepath.Join(tb.TempDir(), "token")}
	if err := os.WriteFile(r.path, []byte(master+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	var core zapcore.Core
	core, r.logs = observer.New(zapcore.DebugLevel)
	none := 0
	c := &upstream.Config{URL: url, MasterTokenFile: r.path, Retries: &none}
	o := upstream.Options{Events: r.events, Logger: zap.New(core, zap.Hooks(r.note)), UserAgent: "scopegate/test", Teams: 1}
	if change != nil {
		change(c, &o)
	}
	f, err := upstream.New(caddyContext(tb), c, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	})
	<-r.events.loaded
	r.Forwarder = f
	return r
}

func (r *rig) note(e zapcore.Entry) error {
	if e.Level == zapcore.ErrorLevel {
		r.errors <- e.Message
	}
	return nil
}

func caddyContext(tb testing.TB) caddy.Context {
	tb.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	tb.Cleanup(cancel)
	return ctx
}

func serve(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

var get = upstream.Request{Method: "GET", Path: "/api/v1/members", Team: "billing"}

// refused asserts that Do gave an error and returns it.
func refused(tb testing.TB, resp *upstream.Response, err error, want policy.Reason) *upstream.Error {
	tb.Helper()
	if err == nil {
		resp.Body.Close()
		tb.Fatalf("got status %d, want %s", resp.Status, want)
	}
	var e *upstream.Error
	if !errors.As(err, &e) {
		tb.Fatalf("error %T (%v) is no *upstream.Error", err, err)
	}
	if e.Reason != want {
		tb.Fatalf("reason %s (%v), want %s", e.Reason, err, want)
	}
	if strings.Contains(err.Error(), master) {
		tb.Fatalf("the error tells the master token: %v", err)
	}
	return e
}

func transport(fields map[string]any) json.RawMessage {
	fields["protocol"] = "http"
	raw, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return raw
}
