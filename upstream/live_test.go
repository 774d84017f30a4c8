package upstream_test

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

// trap counts the connections that a proxy of the environment would be given.
var trap struct {
	net.Listener
	connections atomic.Int32
}

// TestMain sets the environment's proxies before anything asks for them, since
// net/http looks once.
func TestMain(m *testing.M) {
	var err error
	if trap.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			trap.connections.Add(1)
			c.Close()
		}
	}()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		os.Setenv(name, "http://"+trap.Addr().String())
	}
	os.Exit(m.Run())
}

func TestNewRejectsSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("SCOPEGATE_TEST_EMPTY", "")
	t.Setenv("SCOPEGATE_TEST_BEARER", "Bearer "+master)
	for _, c := range []struct{ name, token, file, want string }{
		{"a variable that is not set", "{env.SCOPEGATE_TEST_UNSET}", "", "is not set"},
		{"a variable that is empty", "{env.SCOPEGATE_TEST_EMPTY}", "", "is empty"},
		{"a variable with the whole header", "{env.SCOPEGATE_TEST_BEARER}", "", "token alone"},
		{"a file that is missing", "{file." + dir + "/missing}", "", "no such file"},
		{"a file that is missing, by path", "", dir + "/missing", "no such file"},
		{"the token in the place of its path", "", master, "may be the token itself): no such file"},
		{"the same in a placeholder", "{file." + master + "}", "", "may be the token itself): no such file"},
		{"a file that is empty", "", write("empty", ""), "is empty"},
		{"a file of a line end", "", write("line", "\n"), "is empty"},
		{"a file too large", "", write("large", strings.Repeat("x", 1<<20)), "more than"},
		{"a directory", "", dir, "not a regular file"},
		{"a device", "", "/dev/zero", "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := upstream.New(caddyContext(t), &upstream.Config{URL: api, MasterToken: c.token, MasterTokenFile: c.file}, upstream.Options{})
			if f != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v, want %q", f, err, c.want)
			}
			if strings.Contains(err.Error(), master) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

func TestNewTakesEverySource(t *testing.T) {
	var got string
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") })
	t.Setenv("SCOPEGATE_TEST_TOKEN", "from-a-variable")
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("from-a-file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		config upstream.Config
	}{
		{"Bearer from-a-variable", upstream.Config{MasterToken: "{env.SCOPEGATE_TEST_TOKEN}"}},
		{"Bearer from-a-file", upstream.Config{MasterToken: "{file." + path + "}"}},
		{"Bearer from-a-file", upstream.Config{MasterTokenFile: path}},
	} {
		c.config.URL = s.URL
		f, err := upstream.New(caddyContext(t), &c.config, upstream.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Ready(); err != nil {
			t.Error(err)
		}
		resp, err := f.Do(t.Context(), get)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got != c.want {
			t.Errorf("sent %q, want %q", got, c.want)
		}
		for range 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// bearers is an upstream that tells what it was sent.
func bearers(tb testing.TB) (*httptest.Server, func(*rig) string) {
	tb.Helper()
	var got atomic.Value
	s := serve(tb, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
	return s, func(r *rig) string {
		tb.Helper()
		resp, err := r.Do(tb.Context(), get)
		if err != nil {
			tb.Fatal(err)
		}
		resp.Body.Close()
		bearer, _ := got.Load().(string)
		return bearer
	}
}

func TestChangedTokenIsUsedWithoutAReload(t *testing.T) {
	s, bearer := bearers(t)
	r := start(t, s.URL, nil)
	if got := bearer(r); got != "Bearer "+master {
		t.Fatalf("got %q", got)
	}
	// In place.
	if err := os.WriteFile(r.path, []byte("the-second-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	<-r.events.loaded
	if got := bearer(r); got != "Bearer the-second-token" {
		t.Errorf("got %q", got)
	}
	// By a file put in its place.
	other := filepath.Join(filepath.Dir(r.path), "next")
	if err := os.WriteFile(other, []byte("the-third-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, r.path); err != nil {
		t.Fatal(err)
	}
	<-r.events.loaded
	if got := bearer(r); got != "Bearer the-third-token" {
		t.Errorf("got %q", got)
	}
}

// Kubernetes swaps a link to a directory, through which the file's own link
// leads: the file itself never changes.
func TestSwappedLinkIsFollowed(t *testing.T) {
	s, bearer := bearers(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"1": "the-first-token", "2": "the-second-token"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "token"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(from, to string) {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link("1", "..data")
	link("..data/token", "token")
	r := start(t, s.URL, func(c *upstream.Config, _ *upstream.Options) { c.MasterTokenFile = filepath.Join(dir, "token") })
	if got := bearer(r); got != "Bearer the-first-token" {
		t.Fatalf("got %q", got)
	}
	link("2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	<-r.events.loaded
	if got := bearer(r); got != "Bearer the-second-token" {
		t.Errorf("got %q", got)
	}
}

// A file emptied by a rotation half done must not disarm the gateway.
func TestEmptiedTokenIsNotUsed(t *testing.T) {
	s, bearer := bearers(t)
	r := start(t, s.URL, nil)
	if err := os.Truncate(r.path, 0); err != nil {
		t.Fatal(err)
	}
	if got := <-r.errors; !strings.Contains(got, "stays in use") {
		t.Errorf("logged %q", got)
	}
	if got := bearer(r); got != "Bearer "+master {
		t.Errorf("got %q", got)
	}
	if err := r.Ready(); err != nil {
		t.Error(err)
	}
}

// trusting makes a transport that trusts the server's certificate.
func trusting(s *httptest.Server, more map[string]any) map[string]any {
	der := base64.StdEncoding.EncodeToString(s.Certificate().Raw)
	tls := map[string]any{"ca": map[string]any{"provider": "inline", "trusted_ca_certs": []string{der}}}
	maps.Copy(tls, more)
	return map[string]any{"tls": tls}
}

func TestDoOverTLS(t *testing.T) {
	for _, c := range []struct {
		name, proto string
		http2       bool
	}{{"HTTP/1.1", "HTTP/1.1", false}, {"HTTP/2", "HTTP/2.0", true}} {
		t.Run(c.name, func(t *testing.T) {
			var proto, bearer string
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				proto, bearer = r.Proto, r.Header.Get("Authorization")
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(body)
			}))
			s.EnableHTTP2 = c.http2
			s.StartTLS()
			t.Cleanup(s.Close)
			r := start(t, s.URL, func(c *upstream.Config, _ *upstream.Options) { c.TransportRaw = transport(trusting(s, nil)) })
			for _, method := range []string{"GET", "POST", "DELETE"} {
				resp, err := r.Do(t.Context(), upstream.Request{Method: method, Path: "/api/v1/x", Body: []byte(`{"page":1}`)})
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := resp.Whole(); string(body) != `{"page":1}` || proto != c.proto || bearer != "Bearer "+master {
					t.Errorf("%s: got %q over %s", method, body, proto)
				}
				resp.Body.Close()
			}
			upstream.AssertHeadersIntact(t, r.Forwarder)
		})
	}
}

// Nothing of a request, least of all the master token, reaches a server that
// cannot prove that it is the one meant. https alone must ask for that proof:
// with `transport http` and with no transport at all.
func TestDoRejectsServersThatProveNothing(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	plain := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for _, c := range []struct {
		name, url string
		transport map[string]any
	}{
		{"an unknown authority", s.URL, nil},
		{"an unknown authority, with a transport", s.URL, map[string]any{}},
		{"the certificate of another name", "https://localhost" + port, trusting(s, nil)},
		{"no TLS at all", "https" + strings.TrimPrefix(plain.URL, "http"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.url, func(config *upstream.Config, _ *upstream.Options) {
				if c.transport != nil {
					config.TransportRaw = transport(c.transport)
				}
			})
			for range 10 {
				resp, err := r.Do(t.Context(), upstream.Request{Method: "POST", Path: "/api/v1/token", Body: []byte("{}")})
				if e := refused(t, resp, err, policy.UpstreamUnreachable); !e.Unsent {
					t.Errorf("may have been sent: %v", err)
				}
			}
			if states, _ := r.events.seen(); len(states) != 2 {
				t.Errorf("TLS errors did not open the breaker: %v", states)
			}
		})
	}
	if asked.Load() != 0 {
		t.Errorf("%d requests arrived", asked.Load())
	}
	if s.Certificate().VerifyHostname("localhost") == nil {
		t.Error("the test's certificate proves too much")
	}
	var unknown x509.UnknownAuthorityError
	r := start(t, s.URL, nil)
	if _, err := r.Do(t.Context(), get); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

// A variable of the environment must not decide who carries the requests, be
// it set by a container's image or by an attacker.
func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	before := trap.connections.Load()
	r := start(t, "https://upstream.example", func(c *upstream.Config, _ *upstream.Options) {
		// A resolver that is not there: no request leaves this machine.
		c.TransportRaw = transport(map[string]any{"resolver": map[string]any{"addresses": []string{"tcp/127.0.0.1:1"}}})
		c.Timeout = caddy.Duration(5 * time.Second)
	})
	resp, err := r.Do(t.Context(), get)
	refused(t, resp, err, policy.UpstreamUnreachable)
	if n := trap.connections.Load() - before; n != 0 {
		t.Errorf("the proxy was given %d connections", n)
	}
}

// A configured proxy is used, and carries what it cannot read.
func TestConfiguredProxyIsUsed(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }))
	t.Cleanup(s.Close)
	var seen http.Header
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:443" {
			t.Errorf("asked for %s %s", r.Method, r.Host)
		}
		seen = r.Header.Clone()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		out, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, conn); out.Close() }()
		go func() { _, _ = io.Copy(conn, out); conn.Close() }()
	})
	t.Setenv("SCOPEGATE_TEST_PROXY", proxy.URL)
	for _, address := range []string{proxy.URL, "{env.SCOPEGATE_TEST_PROXY}"} {
		seen = nil
		r := start(t, "https://example.com", func(c *upstream.Config, _ *upstream.Options) {
			fields := trusting(s, nil)
			fields["network_proxy"] = map[string]any{"from": "url", "url": address}
			c.TransportRaw = transport(fields)
		})
		resp, err := r.Do(t.Context(), get)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if seen == nil || seen.Get("Authorization") != "" {
			t.Errorf("the proxy saw %v", seen)
		}
	}
}

// Go's HTTP/2 client prints the headers that it sends when it is debugged.
func TestNewRejectsADebuggedHTTP2(t *testing.T) {
	t.Setenv("SCOPEGATE_TEST_TOKEN", "0123456789abcdef")
	t.Setenv("GODEBUG", "http2debug=2")
	f, err := upstream.New(caddyContext(t), &upstream.Config{URL: "http://127.0.0.1:1", MasterToken: "{env.SCOPEGATE_TEST_TOKEN}"}, upstream.Options{})
	if err == nil || !strings.Contains(err.Error(), "http2debug") {
		_ = f.Close()
		t.Errorf("error %v", err)
	}
}
