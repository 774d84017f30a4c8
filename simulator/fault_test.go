package simulator_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

func failing(effect simulator.Effect) *simulator.Simulator {
	sim := simulator.New(simulator.Options{})
	sim.Fail(simulator.Fault{Effect: effect})
	return sim
}

// count tells how many groups there are now, past any fault.
func count(t *testing.T, sim *simulator.Simulator) int {
	t.Helper()
	return len(account{t, sim}.must("GET", "/api/v1/groups", "").list(t))
}

func TestFaultHitsWhatItNames(t *testing.T) {
	a := open(t, simulator.Options{})
	status := func(path string) int { return a.do(a.sim.Master(), "GET", path, "").status }
	a.sim.Fail(simulator.Fault{Operation: "listGroups", Times: 2, Effect: simulator.Status(503, nil)})
	heal := a.sim.Fail(simulator.Fault{Operation: "listGroups", Effect: simulator.Status(500, nil)})
	for i, want := range []int{503, 503, 500, 500} {
		if got := status("/api/v1/groups"); got != want {
			t.Errorf("request %d: status %d, want %d", i, got, want)
		}
		if got := status("/api/v1/members"); got != 200 {
			t.Errorf("another operation: status %d", got)
		}
	}
	heal()
	heal()
	if got := status("/api/v1/groups"); got != 200 {
		t.Errorf("healed: status %d", got)
	}

	heal = a.sim.Fail(simulator.Fault{Effect: simulator.Status(502, nil)})
	for _, op := range scopes.Operations() {
		if g := a.do("", op.Method, op.Path, ""); g.status != 502 {
			t.Errorf("%s: status %d, want 502", op.ID, g.status)
		}
	}
	if got := status("/elsewhere"); got != 404 {
		t.Errorf("no operation: status %d, want 404", got)
	}
	heal()
}

func TestFailRejects(t *testing.T) {
	for name, f := range map[string]simulator.Fault{
		"unknown operation": {Operation: "listTokns", Effect: simulator.Refuse()},
		"no effect":         {Operation: "listTokens"},
		"negative times":    {Times: -1, Effect: simulator.Refuse()},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			simulator.New(simulator.Options{}).Fail(f)
		})
	}
}

// TestEffects looks at those that answer in full.
func TestEffects(t *testing.T) {
	const secret = "canary-secret"
	for _, tc := range []struct {
		name   string
		effect simulator.Effect
		status int
		done   bool // the operation was carried out
		check  func(t *testing.T, resp *http.Response, body string)
	}{
		{
			"status", simulator.Status(429, http.Header{"Retry-After": {"7"}}), 429, false,
			func(t *testing.T, resp *http.Response, body string) {
				if resp.Header.Get("Retry-After") != "7" || !json.Valid([]byte(body)) {
					t.Errorf("header %v, body %s", resp.Header, body)
				}
			},
		},
		{
			"status with another type", simulator.Status(502, http.Header{"Content-Type": {"text/html"}}), 502, false,
			func(t *testing.T, resp *http.Response, _ string) {
				if got := resp.Header.Values("Content-Type"); len(got) != 1 || got[0] != "text/html" {
					t.Errorf("Content-Type %v", got)
				}
			},
		},
		{
			"status without a body", simulator.Status(204, nil), 204, false,
			func(t *testing.T, _ *http.Response, body string) {
				if body != "" {
					t.Errorf("body %s", body)
				}
			},
		},
		{
			"redirect", simulator.Redirect("https://elsewhere.example.com/"), 302, false,
			func(t *testing.T, resp *http.Response, _ string) {
				if got := resp.Header.Get("Location"); got != "https://elsewhere.example.com/" {
					t.Errorf("Location %q", got)
				}
			},
		},
		{
			"garble", simulator.Garble(), 200, true,
			func(t *testing.T, resp *http.Response, body string) {
				if json.Valid([]byte(body)) || resp.ContentLength != int64(len(body)) || body == "" {
					t.Errorf("length %d, body %s", resp.ContentLength, body)
				}
			},
		},
		{
			"gzip", simulator.Gzip(), 200, true,
			func(t *testing.T, resp *http.Response, body string) {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(z)
				if err != nil || !json.Valid(plain) || resp.Header.Get("Content-Encoding") != "gzip" {
					t.Errorf("%v, %v, body %s", err, resp.Header, plain)
				}
			},
		},
		{
			"huge", simulator.Huge(100_001), 200, false,
			func(t *testing.T, resp *http.Response, body string) {
				if resp.ContentLength != -1 || len(body) != 100_001 || !json.Valid([]byte(body)) {
					t.Errorf("length %d, %d bytes", resp.ContentLength, len(body))
				}
			},
		},
		{
			"leak in a header", simulator.LeakHeader("X-Debug", secret), 200, true,
			func(t *testing.T, resp *http.Response, _ string) {
				if resp.Header.Get("X-Debug") != secret {
					t.Errorf("header %v", resp.Header)
				}
			},
		},
		{"leak in a body", simulator.LeakBody(secret, 65_530), 200, false, leaksAt(secret, 65_530)},
		{"leak at the least offset", simulator.LeakBody(secret, 0), 200, false, leaksAt(secret, 9)},
		{
			"an effect of one's own", func(w http.ResponseWriter, _ *http.Request, answer func() simulator.Answer) {
				a := answer()
				a.Body = bytes.ReplaceAll(a.Body, []byte("created_id"), []byte("uid"))
				a.Send(w)
			}, 200, true,
			func(t *testing.T, _ *http.Response, body string) {
				if !strings.Contains(body, `"uid"`) {
					t.Errorf("body %s", body)
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim := simulator.New(simulator.Options{})
			sim.Fail(simulator.Fault{Operation: "createGroup", Effect: tc.effect})
			before := count(t, sim)
			resp, err := serve(t, sim)("POST", "/api/v1/group", `{"name":"New"}`)
			if err != nil {
				t.Fatal(err)
			}
			body, err := readAll(t, resp)
			if err != nil || resp.StatusCode != tc.status {
				t.Fatalf("status %d, %v", resp.StatusCode, err)
			}
			tc.check(t, resp, body)
			if done := count(t, sim) > before; done != tc.done {
				t.Errorf("carried out: %v, want %v", done, tc.done)
			}
		})
	}
}

func leaksAt(secret string, offset int) func(*testing.T, *http.Response, string) {
	return func(t *testing.T, _ *http.Response, body string) {
		if got := strings.Index(body, secret); got != offset || !json.Valid([]byte(body)) {
			t.Errorf("the secret is at %d, want %d", got, offset)
		}
	}
}

func TestSwitchingProtocols(t *testing.T) {
	call := serve(t, failing(simulator.Status(http.StatusSwitchingProtocols, http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
	})))
	resp, err := call("GET", "/api/v1/groups", "")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// After Lose the caller knows as little as after Refuse; only the account
// knows the difference. A mint that is lost in this way is the worst case.
func TestConnectionsAreReset(t *testing.T) {
	for _, tc := range []struct {
		name   string
		effect simulator.Effect
		groups int
	}{
		{"refuse", simulator.Refuse(), 1},
		{"lose", simulator.Lose(), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim := simulator.New(simulator.Options{})
			sim.Fail(simulator.Fault{Operation: "createGroup", Effect: tc.effect})
			resp, err := serve(t, sim)("POST", "/api/v1/group", `{"name":"New"}`)
			if err == nil {
				_ = resp.Body.Close()
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("error %v, want a reset", err)
			}
			if got := count(t, sim); got != tc.groups {
				t.Errorf("%d groups, want %d", got, tc.groups)
			}
		})
	}
	for _, tls := range []struct {
		name  string
		http2 bool
	}{{"HTTP/1.1 over TLS", false}, {"HTTP/2", true}} {
		t.Run(tls.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(failing(simulator.Refuse()))
			server.EnableHTTP2 = tls.http2
			server.StartTLS()
			t.Cleanup(server.Close)
			r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/api/v1/group", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := server.Client().Do(r)
			if err == nil {
				_ = resp.Body.Close()
				t.Errorf("status %d, want an error", resp.StatusCode)
			}
		})
	}
}

func TestTruncatedBody(t *testing.T) {
	resp, err := serve(t, failing(simulator.Truncate()))("GET", "/api/v1/groups", "")
	if err != nil {
		t.Fatal(err)
	}
	body, err := readAll(t, resp)
	if !errors.Is(err, io.ErrUnexpectedEOF) || int64(len(body)) != resp.ContentLength/2 {
		t.Errorf("%d of %d bytes, %v", len(body), resp.ContentLength, err)
	}
}

func TestHeldAnswers(t *testing.T) {
	type outcome struct {
		status int
		body   string
		err    error
	}
	for _, tc := range []struct {
		name   string
		effect func(chan<- struct{}, <-chan struct{}) simulator.Effect
	}{{"hold", simulator.Hold}, {"stall", simulator.Stall}} {
		t.Run(tc.name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			sim := simulator.New(simulator.Options{})
			sim.Fail(simulator.Fault{Operation: "createGroup", Effect: tc.effect(arrived, release)})
			call := serve(t, sim)
			came := make(chan outcome, 1)
			go func() {
				resp, err := call("POST", "/api/v1/group", `{"name":"New"}`)
				if err != nil {
					came <- outcome{err: err}
					return
				}
				body, err := readAll(t, resp)
				came <- outcome{resp.StatusCode, body, err}
			}()
			<-arrived
			if got := count(t, sim); got != 2 {
				t.Errorf("%d groups while held, want 2", got)
			}
			select {
			case o := <-came:
				t.Errorf("answered while held: %+v", o)
			default:
			}
			close(release)
			if o := <-came; o.err != nil || o.status != 200 || !json.Valid([]byte(o.body)) {
				t.Errorf("released: %+v", o)
			}
		})
		// A caller that hangs up must not leave a handler behind: the server
		// could not be closed then.
		t.Run(tc.name+", and the caller hangs up", func(t *testing.T) {
			for _, arrived := range []chan struct{}{nil, make(chan struct{})} {
				ctx, cancel := context.WithCancel(t.Context())
				r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/groups", nil)
				cancel()
				failing(tc.effect(arrived, make(chan struct{}))).ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // an hour for each byte, in the bubble's time
		a := account{t, failing(simulator.Trickle(time.Hour))}
		g := a.do(a.sim.Master(), "GET", "/api/v1/groups", "")
		if g.status != 200 || !json.Valid([]byte(g.body)) {
			t.Errorf("status %d, body %s", g.status, g.body)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/groups", nil)
		time.AfterFunc(90*time.Minute, cancel)
		w := httptest.NewRecorder()
		a.sim.ServeHTTP(w, r)
		if w.Body.Len() != 1 {
			t.Errorf("%d bytes came before the caller hung up, want 1", w.Body.Len())
		}
	})
}

// An upstream that makes another token than the one asked for: only reading
// it back shows that.
func TestWidenedToken(t *testing.T) {
	a := open(t, simulator.Options{})
	a.sim.Fail(simulator.Fault{Operation: "createToken", Times: 2, Effect: simulator.Widen()})
	id, secret := a.mint(`{"name":"asked","expires_at":"2001-01-01 00:00:00","allowed_ips":["203.0.113.9"],"allowed_scopes":["groups.read"]}`)
	shown := a.must("GET", "/api/v1/token/"+id, "").object(t)
	if shown["name"] != "asked" || shown["expires_at"] != nil || len(shown["allowed_ips"].([]any)) != 0 ||
		len(shown["allowed_scopes"].([]any)) != scopes.All().Len() {
		t.Errorf("shown as %v", shown)
	}
	if g := a.do(secret, "GET", "/api/v1/members", ""); g.status != 200 {
		t.Errorf("used: status %d", g.status)
	}
	a.mint(`{`) // even what is no JSON
}
