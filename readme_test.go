//go:build unix

package scopegate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/simulator"
)

// standIns take the place of what a test cannot do: fetch the repository, and
// run the very tests that it is one of. A command of the README that is
// neither real nor one of these fails.
const standIns = `
git() {
	case "$*" in
	"clone https://github.com/scopegate/scopegate") mkdir scopegate ;;
	*) echo "no stand-in for: git $*" >&2; return 1 ;;
	esac
}
go() {
	case "$*" in
	"run ./cmd/scopegate demo") "$BINARY" demo --once ;;
	"build -o scopegate ./cmd/scopegate") cp "$BINARY" scopegate ;;
	"test ./...") ;;
	*) echo "no stand-in for: go $*" >&2; return 1 ;;
	esac
}
`

// noHash is what stands in examples, and what readers put their own line for.
const noHash = "000000000000:0000000000000000000000000000000000000000000000000000000000000000"

var hashLine = regexp.MustCompile(`\b[0-9A-Za-z]{12}:[0-9a-f]{64}\b`)

// TestReadme does what a reader of the README does, from top to bottom. Each
// block of code is executed, sent, compared, validated or parsed; one in a
// language without a way to do so fails, so that none is left out unseen.
func TestReadme(t *testing.T) {
	r := newReader(t)
	for _, b := range blocksOf(t, "README.md") {
		if !t.Run(fmt.Sprintf("line %d %s", b.line, b.lang), func(t *testing.T) { r.follow(t, b) }) {
			break // what follows builds on it
		}
	}
}

type reader struct {
	dir, binary string
	sim         *simulator.Simulator
	api         string // the simulator's URL
	port        string // of the gateway that the README sets up
	expires     string // in place of the dates that the README was written with

	output string // of the last shell commands
	hash   string // of the last key made

	// The gateway of caddyfile.example, for which the HTTP requests are
	// written, what stands for <...> in them, and the last answer.
	example string
	keys    *strings.Replacer
	answer  *http.Response
}

func newReader(t *testing.T) *reader {
	t.Helper()
	dir, err := os.MkdirTemp("", "scopegate-readme-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &reader{
		dir: dir, binary: buildBinary(t, dir), sim: simulator.New(simulator.Options{}), port: freePort(t), hash: noHash,
		expires: time.Now().UTC().Add(14 * 24 * time.Hour).Format(time.DateTime),
	}
	api := httptest.NewServer(r.sim)
	t.Cleanup(api.Close)
	r.api = api.URL
	r.write(t, "state", "cd '"+dir+"'\n")
	t.Cleanup(func() {
		if t.Failed() { // perhaps between start and stop
			_ = r.command(context.Background(), r.binary, "stop", "--address", "unix/"+dir+"/scopegate/admin.sock").Run()
		}
	})
	r.startExample(t)
	return r
}

func (r *reader) follow(t *testing.T, b block) {
	t.Helper()
	switch b.lang {
	case "sh":
		r.run(t, b.text)
	case "text":
		r.compareOutput(t, b.text)
	case "http":
		r.exchange(t, b.text)
	case "caddyfile":
		if b.name == "" {
			validateCaddyfile(t, b.text)
			return
		}
		checkFormat(t, b.text)
		r.write(t, "saved", r.adapt(b.text))
		r.run(t, "cp "+r.dir+"/saved "+b.name)
	case "json":
		checkJSON(t, b.text)
	case "go":
		runGo(t, b)
	default:
		t.Errorf("no way to check a block of language %q", b.lang)
	}
}

var date = regexp.MustCompile(`\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\b`)

// adapt replaces what differs from machine to machine and from day to day.
func (r *reader) adapt(text string) string {
	return strings.NewReplacer(":8080", ":"+r.port, "https://integration.goodaccess.com", r.api, noHash, r.hash).Replace(text)
}

// command runs in the environment of the README's reader and in no other.
func (r *reader) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "XDG_DATA_HOME=" + r.dir + "/data", "XDG_CONFIG_HOME=" + r.dir + "/config",
		"BINARY=" + r.binary,
	}
	return cmd
}

// combined runs a command and returns what it printed. That goes through a
// file and not a pipe, which what the command leaves running would hold.
func (r *reader) combined(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := os.Create(filepath.Join(r.dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text := readText(t, out.Name())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if strings.Contains(text, r.sim.Master()) {
		t.Errorf("the master token was printed:\n%s", text)
	}
	return text
}

// run runs shell commands where those before left off: in the same folder,
// with the variables that they exported. Whoever reads standard input gets
// the master token, as the README tells its reader to paste it.
func (r *reader) run(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	state := filepath.Join(r.dir, "state")
	cmd := r.command(ctx, "sh", "-euc", ". "+state+standIns+r.adapt(text)+"\n{ export -p; echo \"cd '$PWD'\"; } >"+state)
	cmd.Stdin = strings.NewReader(r.sim.Master() + "\n")
	r.output = r.combined(t, cmd)
	if hash := hashLine.FindString(r.output); hash != "" {
		r.hash = hash
	}
}

// compareOutput looks for each line in what the last commands printed, in
// this order.
func (r *reader) compareOutput(t *testing.T, text string) {
	t.Helper()
	rest := strings.Split(r.output, "\n")
	for want := range strings.Lines(r.adapt(text)) {
		i := slices.IndexFunc(rest, func(line string) bool { return alike(strings.TrimSpace(want), strings.TrimSpace(line)) })
		if i < 0 {
			t.Fatalf("no line %q in what is left of\n%s", want, r.output)
		}
		rest = rest[i+1:]
	}
}

// alike compares a text to one in which three dots stand for anything.
func alike(want, got string) bool {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, ".*") + "$").MatchString(got)
}

func (r *reader) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) startExample(t *testing.T) {
	t.Helper()
	made, err := r.command(t.Context(), r.binary, "key", "generate", "--team", "billing", "--json").Output()
	var key struct{ Key, ID, Hash string }
	if err = errors.Join(err, json.Unmarshal(made, &key)); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	r.example = "127.0.0.1:" + port
	r.keys = strings.NewReplacer("<billing's key>", key.Key, "<the master token>", r.sim.Master(), "localhost:8080", "localhost:"+port)
	start := r.command(t.Context(), r.binary, "start", "--config", "caddyfile.example", "--adapter", "caddyfile")
	socket := r.dir + "/example.sock"
	start.Env = append(start.Env,
		"GOODACCESS_MASTER_TOKEN="+r.sim.Master(), "BILLING_HASH="+key.ID+":"+key.Hash,
		"SCOPEGATE_UPSTREAM="+r.api, "SCOPEGATE_PORT="+port, "SCOPEGATE_METRICS_PORT="+freePort(t),
		"SCOPEGATE_ADMIN="+socket, "SCOPEGATE_AUDIT="+r.dir+"/example.jsonl")
	r.combined(t, start)
	t.Cleanup(func() {
		if err := r.command(context.Background(), r.binary, "stop", "--address", "unix/"+socket).Run(); err != nil {
			t.Errorf("stopping the gateway of caddyfile.example: %v", err)
		}
	})
}

// exchange sends a request to the gateway; or compares the answer to the last
// one; or, where the host is GoodAccess's, compares what arrived there.
func (r *reader) exchange(t *testing.T, text string) {
	t.Helper()
	text = date.ReplaceAllString(r.keys.Replace(text), r.expires)
	head, body, _ := strings.Cut(text, "\n\n")
	lines := bufio.NewReader(strings.NewReader(strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"))
	if strings.HasPrefix(head, "HTTP/") {
		want, err := http.ReadResponse(lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer want.Body.Close()
		r.compareAnswer(t, want, body)
		return
	}
	req, err := http.ReadRequest(lines)
	if err != nil {
		t.Fatal(err)
	}
	if req.Host == "integration.goodaccess.com" {
		r.compareArrived(t, req, body)
		return
	}
	req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", r.example
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	if r.answer, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(r.answer.Body)
	if err = errors.Join(err, r.answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	r.answer.Body = io.NopCloser(bytes.NewReader(answer))
}

// stamp is what the gateway puts behind a token's name.
var stamp = regexp.MustCompile(`-sg-[a-z2-7]{8}-[a-z2-7]{8}-[a-z2-7]{20}-[a-z2-7]{16}`)

// arrived is the last request with a method. Behind a caller's there may be
// the gateway's own.
func (r *reader) arrived(method string) (last simulator.Seen) {
	for _, seen := range r.sim.Requests() {
		if seen.Method == method {
			last = seen
		}
	}
	return last
}

func (r *reader) compareArrived(t *testing.T, want *http.Request, body string) {
	t.Helper()
	if r.answer.StatusCode != http.StatusOK {
		t.Fatalf("the request before was answered %s", r.answer.Status)
	}
	got := r.arrived(want.Method)
	if got.Method != want.Method || got.Path != want.URL.Path || got.Query != want.URL.RawQuery {
		t.Errorf("%s %s?%s arrived", got.Method, got.Path, got.Query)
	}
	got.Header.Del("Content-Length")
	for name, values := range got.Header {
		if !alike(want.Header.Get(name), strings.Join(values, ", ")) {
			t.Errorf("%s: %q arrived, want %q", name, values, want.Header.Get(name))
		}
	}
	for name := range want.Header {
		if got.Header[name] == nil {
			t.Errorf("no %s arrived", name)
		}
	}
	if diff := cmp.Diff(strings.TrimSpace(body), stamp.ReplaceAllString(string(got.Body), "-sg-...")); diff != "" {
		t.Errorf("body that arrived (-want +got):\n%s", diff)
	}
}

func (r *reader) compareAnswer(t *testing.T, want *http.Response, body string) {
	t.Helper()
	if r.answer.StatusCode != want.StatusCode {
		t.Errorf("answered %s, want %s", r.answer.Status, want.Status)
	}
	for name := range want.Header {
		if got := r.answer.Header.Get(name); got == "" || !alike(want.Header.Get(name), got) {
			t.Errorf("%s: %q, want %q", name, got, want.Header.Get(name))
		}
	}
	var wantBody, gotBody map[string]any
	if err := json.Unmarshal([]byte(body), &wantBody); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(r.answer.Body).Decode(&gotBody); err != nil {
		t.Fatal(err)
	}
	for name, value := range wantBody {
		if value == "..." && gotBody[name] != nil {
			wantBody[name] = gotBody[name]
		}
	}
	if diff := cmp.Diff(wantBody, gotBody); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// buildBinary builds the command as this test was built, so that the two
// share the build cache.
func buildBinary(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "binary")
	args := []string{"build", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "./cmd/scopegate")...).CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	return binary
}

// freePort finds a port that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
