package scopegate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/scopegate/scopegate/audit"
)

// collector is an HTTP endpoint for anchors.
type collector struct {
	mu     sync.Mutex
	status int
	bodies []string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/moved" {
		http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		return
	}
	c.bodies = append(c.bodies, r.Method+" "+r.Header.Get("Content-Type")+"\n"+string(b))
	w.WriteHeader(c.status)
}

// Each kind of anchor keeps what it was given, in a form that verify reads.
func TestAnchorsKeepSignatures(t *testing.T) {
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	kept := &collector{status: http.StatusCreated}
	server := httptest.NewServer(kept)
	t.Cleanup(server.Close)
	file, line := filepath.Join(dir, "anchors"), filepath.Join(dir, "lines")
	for name, a := range map[string]*Anchor{
		"file": {File: file}, "url": {URL: server.URL},
		"writer": {WriterRaw: json.RawMessage(`{"output": "file", "filename": "` + line + `"}`)},
	} {
		put, closer, err := a.open(ctx)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, note := range []string{aNote(1), aNote(2)} {
			if err := put(t.Context(), audit.Signature{Log: "scopegate/x", Seq: 1, Note: note}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if closer != nil {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for name, text := range map[string]string{"file": string(readFile(t, file)), "writer": string(readFile(t, line))} {
		if notes := audit.SplitNotes(text); !slices.Equal(notes, []string{aNote(1), aNote(2)}) {
			t.Errorf("%s keeps %q", name, notes)
		}
	}
	if len(kept.bodies) != 2 || !strings.HasPrefix(kept.bodies[0], "POST text/plain; charset=utf-8\nscopegate/x\n1\n") {
		t.Errorf("the endpoint got %q", kept.bodies)
	}
	kept.status = http.StatusInternalServerError
	for _, url := range []string{server.URL, server.URL + "/moved", "http://127.0.0.1:1"} {
		if err := anchorURL(url).put(t.Context(), audit.Signature{}); err == nil {
			t.Errorf("%s: an anchor that did not keep it is told to have", url)
		}
	}
	if err := anchorFile(dir).put(t.Context(), audit.Signature{}); err == nil {
		t.Error("a folder kept an anchor")
	}
}

// aNote has the form of a checkpoint.
func aNote(seq int) string {
	return fmt.Sprintf("scopegate/x\n%d\n\n\n— scopegate/x %s\n", seq, base64.StdEncoding.EncodeToString(make([]byte, 68)))
}

// A disk that is full, or a machine that lost its power, leaves part of a
// signature in a file of anchors. That is no evidence against the log.
func TestVerifyTakesAnchorsThatBrokeOff(t *testing.T) {
	path, key, anchors := chained(t, 3)
	whole := readFile(t, anchors)
	notes := audit.SplitNotes(string(whole))
	last := notes[len(notes)-1]
	for n := range len(last) {
		for name, text := range map[string]string{"the last": string(whole) + "\n" + last[:n], "one before": "\n" + last[:n] + string(whole)} {
			if got := audit.SplitNotes(text); !slices.Equal(got, notes) && n < len(last)-1 { // all but its newline is all
				t.Fatalf("%s broke off behind %d bytes: %q", name, n, got)
			}
		}
	}
	broken := write(t, "anchors", "\n"+last[:40]+string(whole)+"\n"+last[:150])
	if out, told, code := askLog(t, "", "verify", "--key", key, "--anchors", broken, path); code != 0 {
		t.Errorf("%d %s%s", code, out, told)
	}
	changed := write(t, "anchors", strings.Replace(string(whole), "\n1\n", "\n2\n", 1))
	if out, told, code := askLog(t, "", "verify", "--key", key, "--anchors", changed, path); code != 3 {
		t.Errorf("changed: %d %s%s", code, out, told)
	}
}

func TestAuditOptionsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		audit Audit
		want  string
	}{
		"durability":  {Audit{Durability: "chnages"}, "changes or full"},
		"checkpoint":  {Audit{Checkpoint: &Checkpoint{Records: -1}}, "above zero"},
		"a plain key": {Audit{Key: "PRIVATE+KEY+x"}, "{file.PATH}"},
		"no anchor":   {Audit{Anchors: []*Anchor{{}}}, "exactly one"},
		"two":         {Audit{Anchors: []*Anchor{{File: "a", URL: "https://b"}}}, "exactly one"},
		"no URL":      {Audit{Anchors: []*Anchor{{URL: "collector"}}}, "such as https://"},
		"a password":  {Audit{Anchors: []*Anchor{{URL: "https://a:b@c"}}}, "password"},
	} {
		if err := c.audit.validate(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The whole way: a token is minted and leaks, the log is verified against its
// key and what the store has kept, and somebody edits it.
func TestAuditCommandsOverALog(t *testing.T) {
	w := newWorldWith(t, tokenTeam, "")
	answer := w.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	var made struct{ Token string }
	if err := json.Unmarshal(answer.Body.Bytes(), &made); err != nil || made.Token == "" {
		t.Fatal(answer.Body)
	}
	until(t, "the store to have an anchor", func() bool {
		kept, err := w.room.rows.Anchors(t.Context(), "")
		return err == nil && len(kept) == 1
	})
	config := write(t, "Caddyfile", `http://localhost:8080 {
	scopegate {
		upstream https://integration.goodaccess.com {
			master_token {env.SCOPEGATE_TEST_MASTER}
		}
		team red {
			scopes members.read
		}
		audit {
			output file `+w.log+`
		}
	}
}
`)
	out, told, code := askLog(t, made.Token+"\n", "find", "--secret-stdin", "--config", config, "--json")
	if code != 0 || !strings.Contains(out, `"team":"red"`) || !strings.Contains(out, `"phase":"ended"`) || strings.Contains(out, made.Token) {
		t.Errorf("find: %d %s%s", code, out, told)
	}
	if out, told, code := askLog(t, "another secret of some length", "find", "--secret-stdin", "--config", config); code != 3 || out != "" {
		t.Errorf("find another: %d %s%s", code, out, told)
	}
	for want, list := range map[int][][]string{
		1:           {{"verify", "/nowhere"}, {"verify", w.log, "--anchors", config + "x"}},
		exitMisused: {{"find", "--config", config}, {"find", "--secret-stdin"}, {"verify"}, {"verify", w.log, "--key", "x"}},
	} {
		for _, args := range list {
			if out, told, code := askLog(t, made.Token, args...); code != want || told == "" {
				t.Errorf("%v: %d %s%s", args, code, out, told)
			}
		}
	}

	key, _, code := askLog(t, "", "key", "--config", config)
	if code != 0 || strings.TrimSpace(key) != w.logFile.Keys().Public() {
		t.Errorf("key: %d %s", code, key)
	}
	public := write(t, "audit.pub", key)
	for _, args := range [][]string{{"--config", config}, {w.log, "--key", "@" + public}, {w.log}} {
		if out, told, code := askLog(t, "", append([]string{"verify"}, args...)...); code != 0 || !strings.Contains(out, "verdict    sound") {
			t.Errorf("verify %v: %d %s%s", args, code, out, told)
		}
	}
	text := readFile(t, w.log)
	edited := write(t, "edited.jsonl", strings.Replace(string(text), `"team":"red"`, `"team":"rad"`, 1))
	out, told, code = askLog(t, "", "verify", edited, "--key", "@"+public, "--json")
	if code != 3 || !strings.Contains(out, `"fault": "edited"`) || !strings.Contains(told, "not what was written") {
		t.Errorf("verify an edited one: %d %s%s", code, out, told)
	}
	if out, told, code := askLog(t, string(text), "verify", "-"); code != 0 {
		t.Errorf("verify standard input: %d %s%s", code, out, told)
	}

	// Another key in its place: then the log is not trusted.
	other := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(other, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.LoadKeys(auditKeyFile(other)); err != nil { // which makes it
		t.Fatal(err)
	}
	moved := write(t, "Moved", strings.Replace(string(readFile(t, config)), w.log, other, 1))
	if out, told, code := askLog(t, "", "verify", "--config", moved); code != 3 || !strings.Contains(told, "replaced: there are anchors of a log "+w.logFile.Log()) {
		t.Errorf("verify another log: %d %s%s", code, out, told)
	}
	strange, err := audit.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.WriteKeys(auditKeyFile(w.log), strange); err != nil {
		t.Fatal(err)
	}
	if out, told, code := askLog(t, "", "verify", "--config", config); code != 3 || !strings.Contains(out, "forged") {
		t.Errorf("verify under another key: %d %s%s", code, out, told)
	}

	// No key at all: whoever asks is not the gateway's user. A key that was made
	// for the answer would call the log forged, and the team's secret unknown.
	if err := os.Remove(auditKeyFile(w.log)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify"}, {"key"}, {"find", "--secret-stdin"}} {
		out, told, code := askLog(t, "a secret of some length", append(args, "--config", config)...)
		if code != 1 || out != "" || !strings.Contains(told, "is not at "+auditKeyFile(w.log)) {
			t.Errorf("%s without the key: %d %s%s", args[0], code, out, told)
		}
	}
	if _, err := os.Stat(auditKeyFile(w.log)); err == nil {
		t.Error("a key was made for a log that has another")
	}
}

// A path that was misspelt must not be found out when the anchor is needed; and
// one line is enough.
func TestFailingAnchorIsTold(t *testing.T) {
	core, told := observer.New(zap.InfoLevel)
	file := filepath.Join(t.TempDir(), "later", "anchors")
	put := reported(anchorFile(file).put, zap.New(core))
	for range 3 {
		if err := put(t.Context(), audit.Signature{Note: "n"}); err == nil {
			t.Fatal("it was put into a folder that is not there")
		}
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := put(t.Context(), audit.Signature{Note: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := told.Len(); n != 2 || told.All()[0].Level != zap.ErrorLevel || told.All()[1].Level != zap.InfoLevel {
		t.Errorf("told %d times: %v", n, told.All())
	}
}

// chained writes a log with a key of its own, and returns its path, its public
// key and what an anchor has of it.
func chained(t *testing.T, records int) (path, public, anchors string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.jsonl")
	keys, err := audit.LoadKeys(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	sink, err := (*Audit)(nil).openSink(path, keys, func() (io.WriteCloser, error) {
		return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}, audit.PackNone)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.New(audit.Options{Gateway: "default", Durable: sink})
	if err != nil {
		t.Fatal(err)
	}
	anchors = filepath.Join(t.TempDir(), "anchors")
	sink.Anchor(anchorFile(anchors).put, deaf{})
	for range records {
		r := allowed("red", "listMembers", "members.read-all")
		if err := log.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(log.Close(), sink.Close()); err != nil {
		t.Fatal(err)
	}
	return path, keys.Public(), anchors
}

// deaf hears what a log tells of anchors.
type deaf struct{ audit.Events }

func (deaf) AuditAnchored(time.Time, error) {}

// Of many logs each is checked, by its own key and anchors, whatever is wrong
// with another; and one call says of which something is wrong.
func TestVerifyChecksManyLogs(t *testing.T) {
	a, keyA, anchorsA := chained(t, 3)
	b, keyB, anchorsB := chained(t, 5)
	trust := []string{"verify", "--key", keyA, "--key", keyB, "--anchors", anchorsA, "--anchors", anchorsB}
	edited := write(t, "edited.jsonl", strings.Replace(string(readFile(t, b)), `"red"`, `"rad"`, 1))
	for name, c := range map[string]struct {
		logs []string
		code int
		want []string
		told string
	}{
		"sound":               {[]string{a, b}, 0, []string{"sound", "sound"}, ""},
		"one edited":          {[]string{edited, a}, 3, []string{"TAMPERED WITH", "sound"}, "1 of the logs are not what was written"},
		"one not there":       {[]string{a + "x", a, b}, 1, []string{"NOT READ: open " + a + "x", "sound", "sound"}, "1 of the logs could not be read"},
		"not there and so on": {[]string{a + "x", edited}, 3, []string{"NOT READ", "TAMPERED WITH"}, "1 of the logs are not what was written, and 1 could not be read"},
		"one missing":         {[]string{a}, 3, []string{"sound"}, "replaced: there are anchors of a log " + strings.Split(keyB, "+")[0]},
		"one twice":           {[]string{a, b, write(t, "copy.jsonl", string(readFile(t, a)))}, 0, []string{"sound", "sound", "sound"}, "once more"},
	} {
		t.Run(name, func(t *testing.T) {
			out, told, code := askLog(t, "", append(trust, c.logs...)...)
			var got []string
			for line := range strings.Lines(out) {
				if verdict, ok := strings.CutPrefix(strings.TrimSpace(line), "verdict    "); ok {
					got = append(got, verdict)
				}
			}
			same := len(got) == len(c.want)
			for i := range c.want {
				same = same && strings.HasPrefix(got[i], c.want[i])
			}
			if !same || code != c.code || !strings.Contains(told, c.told) {
				t.Errorf("%d %s%s", code, out, told)
			}
		})
	}
	out, _, code := askLog(t, "", append(trust, "--json", a+"x", a, b)...)
	var logs []map[string]any
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var log map[string]any
		if dec.Decode(&log) != nil {
			break
		}
		logs = append(logs, log)
	}
	if code != 1 || len(logs) != 3 || logs[0]["error"] == nil || logs[0]["sound"] != false || logs[2]["sound"] != true {
		t.Errorf("%d %s", code, out)
	}
}

// Who deletes the log of a replica, and its key, has another begun. The store of
// the fleet knows of the one that is gone, and cannot tell it from those of other
// replicas: that is said.
func TestVerifyTellsOfLogsThatOnlyTheStoreKnows(t *testing.T) {
	path, key, _ := chained(t, 1)
	v := &verify{keys: []string{key}, fleet: true, kept: []string{aNote(1), aNote(2), strings.Replace(aNote(1), "/x", "/y", 1)}}
	var out, told bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(&out)
	cmd.SetErr(&told)
	if err := v.run(cmd, []string{path}); err != nil || !strings.Contains(told.String(), "other logs, 2:") {
		t.Errorf("%v %s%s", err, &out, &told)
	}
}

// What a log says of itself does not move the cursor of whoever looks at it.
func TestVerifyPrintsNothingThatMisleads(t *testing.T) {
	name := `\u001b[2K\rverdict    sound\u202e`
	line := `{"seq":1,"prev":"` + strings.Repeat("0", 64) + `","kind":"segment","ts":"2026-11-24T13:00:00Z","msg":"audit","log":"` + name + `","key":"` + name + `"}`
	other := strings.Replace(line, `"log":"`, `"log":"x`, 1)
	out, told, code := askLog(t, line+"\n"+other+"\n", "verify", "-")
	if code != 3 || strings.ContainsAny(out+told, "\x1b\r\u202e") || !strings.Contains(out, "sound\ufffd") {
		t.Errorf("%d %q %q", code, out, told)
	}
}

func TestAuditKeyRotates(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	config := write(t, "Caddyfile", `http://localhost:8080 {
	scopegate {
		upstream https://integration.goodaccess.com {
			master_token {env.SCOPEGATE_TEST_MASTER}
		}
		team red {
			scopes members.read
		}
	}
}
`)
	first, _, code := askLog(t, "", "key", "--config", config)
	second, _, code2 := askLog(t, "", "key", "--config", config, "--rotate")
	third, _, code3 := askLog(t, "", "key", "--config", config)
	if code+code2+code3 != 0 || first == second || second != third || first == "" {
		t.Errorf("%d %q, %d %q, %d %q", code, first, code2, second, code3, third)
	}
}
