// Package integration_test runs the gateway as its users do: the real binary,
// built once, with a Caddyfile, over real sockets, before an upstream that
// belongs to the test. What it expects is written down here by hand and taken
// from no package of the project, so that the two cannot err together.
//
// A gateway that raced, panicked or did not end cleanly fails the test that
// started it, whatever that test looked at.
package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/scopegate/scopegate"
)

// patience bounds every wait for something that will happen. It is so long
// that only what never happens meets it, on a busy machine too.
const patience = 30 * time.Second

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "scopegate-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "scopegate")
	args := append([]string{"build", "-o", binary}, buildFlags()...)
	build := exec.Command("go", append(args, "../cmd/scopegate")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the gateway: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// buildFlags are those that this test was built with: a race in the gateway is
// looked for when one in the test is, and what is built is built once.
func buildFlags() []string {
	var flags []string
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" || s.Key == "-tags" {
			flags = append(flags, s.Key+"="+s.Value)
		}
	}
	return flags
}

// preamble are the global options of most tests: an admin socket of its own,
// and nothing left behind or fetched.
const preamble = `{
	admin unix/{$DIR}/admin.sock|0200
	persist_config off
	auto_https off
}
`

// site is a Caddyfile's site at {$ADDR}, on loopback alone.
func site(body string) string {
	return "http://{$ADDR} {\n bind 127.0.0.1\n" + body + "\n}\n"
}

// gateway is a running process of the binary.
type gateway struct {
	// dir holds all of its files: admin.sock, audit.jsonl and Caddy's own.
	dir string
	// addr and second are free addresses for sites, {$ADDR} and {$SECOND}.
	addr, second string
	admin        *http.Client // over its socket; any host will do
	output       output       // standard error
	env          []string
	cmd          *exec.Cmd
	ended        chan error
}

// start runs a Caddyfile and waits until the gateway at {$ADDR} is alive. The
// Caddyfile finds {$DIR}, {$ADDR}, {$PORT} of that, {$SECOND} and the further
// variables, each NAME=value, in its environment.
func start(t *testing.T, caddyfile string, env ...string) *gateway {
	t.Helper()
	// Not t.TempDir: its names are too long for a socket.
	dir, err := os.MkdirTemp("", "scopegate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &gateway{dir: dir, addr: freeAddress(t), second: freeAddress(t)}
	_, port, _ := net.SplitHostPort(g.addr)
	g.admin = &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		},
	}}
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir + "/data", "XDG_CONFIG_HOME=" + dir + "/config",
		"DIR=" + dir, "ADDR=" + g.addr, "PORT=" + port, "SECOND=" + g.second,
		"GORACE=halt_on_error=1", "GOTRACEBACK=all",
	}, env...)
	t.Cleanup(func() { g.stop(t) })
	g.launch(t)
	return g
}

// launch starts the process, and waits until it is alive.
func (g *gateway) launch(t *testing.T) {
	t.Helper()
	cmd := exec.Command(binary, "run", "--config", filepath.Join(g.dir, "Caddyfile"), "--adapter", "caddyfile")
	cmd.Stdout, cmd.Stderr, cmd.Env = &g.output, &g.output, g.env
	g.cmd, g.ended = cmd, make(chan error, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := g.ended
	go func() { ended <- cmd.Wait() }()
	await(t, "the gateway to be alive", func() bool {
		select {
		case err := <-g.ended:
			g.ended <- err
			t.Fatal("the gateway did not start")
		default:
		}
		resp, err := http.Get("http://" + g.addr + "/_scopegate/livez")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// crash ends the process without a word to it.
func (g *gateway) crash(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.ended
}

// stop ends the process and sees that it was well to the end.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-g.ended:
		g.ended <- err
		if err != nil {
			t.Errorf("the gateway ended: %v", err)
		}
	case <-time.After(patience):
		_ = g.cmd.Process.Kill()
		t.Error("the gateway did not end when it was told to")
	}
	for _, sign := range []string{"DATA RACE", "panic", "fatal error", "goroutine "} {
		if strings.Contains(g.output.String(), sign) {
			t.Errorf("the gateway's output holds %q", sign)
		}
	}
	if t.Failed() {
		t.Logf("output of the gateway:\n%s", g.output.tail())
	}
}

// load gives the running gateway another Caddyfile, as `scopegate reload`
// does, and returns what the admin endpoint answered, once the gateway's
// sockets are those of one configuration again.
func (g *gateway) load(t *testing.T, caddyfile string) (status int, answer string) {
	t.Helper()
	resp, err := g.admin.Post("http://admin/load", "text/caddyfile", strings.NewReader(caddyfile))
	if err != nil {
		t.Fatalf("loading a configuration: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	g.settle(t)
	return resp.StatusCode, string(body)
}

// settle waits until the sockets of one configuration are left. While Caddy
// replaces a listener, two sockets listen at its address, and Linux resets the
// connections that it gave to the older when that closes. Where there is no
// /proc, nothing is known of sockets and nothing is waited for.
func (g *gateway) settle(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(sockets); errors.Is(err, os.ErrNotExist) {
		return
	}
	await(t, "the older listeners to close", func() bool {
		return listeners(t, g.addr) == 1 && listeners(t, g.second) <= 1
	})
}

// sockets is the kernel's table of TCP sockets, a line each.
const sockets = "/proc/self/net/tcp"

// listeners counts the sockets that listen at an address on loopback.
func listeners(t *testing.T, addr string) (n int) {
	t.Helper()
	table, err := os.ReadFile(sockets)
	if err != nil {
		t.Fatal(err)
	}
	// Ports are in hexadecimal, and no two tests have the same.
	port := fmt.Sprintf(":%04X", netip.MustParseAddrPort(addr).Port())
	for line := range strings.Lines(string(table)) {
		const localAddress, state, listen = 1, 3, "0A"
		f := strings.Fields(line)
		if len(f) > state && f[state] == listen && strings.HasSuffix(f[localAddress], port) {
			n++
		}
	}
	return n
}

// mustLoad is load of a configuration that is good.
func (g *gateway) mustLoad(t *testing.T, caddyfile string) {
	t.Helper()
	if status, answer := g.load(t, caddyfile); status != http.StatusOK {
		t.Fatalf("loading a good configuration: %d %s", status, answer)
	}
}

// ask sends a GET to the admin endpoint.
func (g *gateway) ask(t *testing.T, path string) (status int, answer string) {
	t.Helper()
	resp, err := g.admin.Get("http://admin" + path)
	if err != nil {
		t.Fatalf("asking the admin endpoint for %s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// given are the addresses that were found free before.
var given sync.Map

// freeAddress finds an address on loopback where nobody listens, and that no
// other test was given.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, taken := given.LoadOrStore(ln.Addr().String(), true); taken {
		return freeAddress(t)
	}
	return ln.Addr().String()
}

// await waits until something has come true.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	awaitWithin(t, patience, what, done)
}

// awaitWithin waits for something that takes its time.
func awaitWithin(t *testing.T, bound time.Duration, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(bound); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail is the end of the output, for a test that failed.
func (o *output) tail() string {
	const most = 8 << 10
	text := o.String()
	if len(text) > most {
		text = "...\n" + text[len(text)-most:]
	}
	return text
}

// readFile returns a file of the gateway, "" for one that is not there.
func (g *gateway) readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}
