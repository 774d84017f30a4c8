package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/simulator"
)

// aviary is a gateway with everything on that makes Caddy talk, and the
// collection of what it said, by place.
type aviary struct {
	*pair
	said map[string]string
}

// TestSecretsStayInside uses a gateway in all ways, lets much go wrong, and
// searches all that comes out of it: the master token is nowhere, and a local
// key is only where Caddy itself was told to log credentials.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, source, servers string }{
		{"token in a variable, credentials logged", "master_token {env.MASTER}", "trace\n log_credentials"},
		{"token in a file, credentials not logged", "master_token_file {$DIR}/master", "trace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			logged := strings.Contains(c.servers, "log_credentials")
			v, config := newAviary(t, c.source, c.servers)
			minted := v.use(t)
			v.misuse(t, config)
			v.collect(t)
			v.search(t, "the master token", v.sim.Master(), func(string, string) bool { return false })
			v.search(t, "a local key", v.caller.key[len("sgk_")+13:], func(place, line string) bool {
				var entry struct {
					Logger string `json:"logger"`
				}
				_ = json.Unmarshal([]byte(line), &entry)
				// Caddy's own log of requests. Nothing of ours writes there.
				return logged && place == "output" && strings.HasPrefix(entry.Logger, "http.log.")
			})
			v.search(t, "a minted token", minted, func(place, _ string) bool { return place == "answer of the mint" })
			if strings.Contains(v.said["output"], v.caller.key) != logged {
				t.Error("the access log is not what this test takes it for")
			}
			for _, r := range v.sim.Requests() {
				if strings.Contains(fmt.Sprint(r.Header)+r.Path+r.Query+string(r.Body), "sgk_") {
					t.Errorf("upstream received a local key: %+v", r)
				}
			}
		})
	}
}

func newAviary(t *testing.T, source, servers string) (v *aviary, config string) {
	t.Helper()
	v = &aviary{pair: &pair{caller: newHolder("ops", "one", scopesBut()...)}, said: map[string]string{}}
	// The slash is one that JSON encoders may escape.
	v.sim = simulator.New(simulator.Options{MasterToken: "canary/Master+4f9aQ2xW81cE7bR0tY6uI3oP5sD/end"})
	up := httptest.NewServer(v.sim)
	t.Cleanup(up.Close)
	config = `{
	admin unix/{$DIR}/admin.sock|0200
	auto_https off
	debug
	servers {
		` + servers + `
	}
}
` + site(`log
	scopegate {
		upstream {$UPSTREAM} {
			`+source+`
			timeout 2s
			retries 0
		}
		team ops {
			scopes `+strings.Join(scopesBut(), " ")+`
			mint {
				scopes members.read
				allowed_ips 198.51.100.0/24
			}
			rate_limit 1000 1h
			`+v.caller.block()+`
		}
		audit {
			output file {$DIR}/audit.jsonl
			output stdout
		}
	}`)
	v.gateway = start(t, strings.ReplaceAll(config, source, "master_token {env.MASTER}"), "MASTER="+v.sim.Master(), "UPSTREAM="+up.URL)
	if err := os.WriteFile(filepath.Join(v.dir, "master"), []byte(v.sim.Master()), 0o600); err != nil {
		t.Fatal(err)
	}
	v.mustLoad(t, config)
	return v, config
}

// note keeps all of an answer.
func (v *aviary) note(place string, a *answer) {
	v.said[place] = fmt.Sprint(a.status, a.header, a.body, a.more)
}

// use makes calls that go well. It returns the secret of a minted token.
func (v *aviary) use(t *testing.T) string {
	t.Helper()
	for _, op := range api {
		a := v.call(t, op.method, op.target(), op.good())
		v.note("answer of "+op.String(), a)
	}
	delete(v.said, "answer of POST /api/v1/token")
	a := v.call(t, "POST", "/api/v1/token", minting("members.read"))
	v.note("answer of the mint", a)
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != 200 || made.Token == "" {
		t.Fatalf("mint: %d %s", a.status, a.body)
	}
	for _, target := range []string{"/_scopegate/v1/whoami", "/_scopegate/readyz", "/api/v1/tokens"} {
		v.note("answer of "+target, v.call(t, "GET", target, ""))
	}
	return made.Token
}

// misuse makes calls that go wrong, here and upstream, and loads
// configurations that are.
func (v *aviary) misuse(t *testing.T, config string) {
	t.Helper()
	key, master := v.caller.key, v.sim.Master()
	for i, c := range []call{
		{method: "GET", target: "/api/v1/members", key: key[:len(key)-1] + "x"},
		{method: "GET", target: "/api/v1/members", header: []string{"Authorization: Bearer " + key, "Authorization: Bearer " + key}},
		{method: "GET", target: "/api/v1/members", header: []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+key))}},
		{method: "GET", target: "/api/v1/member/x%00", key: key},
		{method: "PATCH", target: "/api/v1/members", key: key},
		{method: "POST", target: "/api/v1/token", key: key, body: `{"name":"` + key + `"}`},
		{method: "POST", target: "/api/v1/token", key: key, body: `{"` + key + `":1}`},
		{method: "POST", target: "/api/v1/token", key: key, body: strings.Replace(minting("members.read"), "members.read", key, 1)},
		{method: "POST", target: "/api/v1/token", key: key, body: strings.Replace(minting("members.read"), "198.51.100.9", key, 1)},
		{method: "POST", target: "/api/v1/group", key: key, body: `{"a":"` + key},
	} {
		v.note(fmt.Sprintf("answer of wrong call %d", i), send(t, v.addr, c))
	}
	for i, effect := range []simulator.Effect{
		simulator.Status(401, nil), simulator.Status(403, nil), simulator.Status(500, nil), simulator.Refuse(), simulator.Truncate(),
		simulator.Redirect("https://evil.example/?token=" + master), simulator.Status(429, http.Header{"Retry-After": {master}}), simulator.Gzip(),
		simulator.LeakHeader("X-Debug", master), simulator.LeakHeader("Content-Type", master), simulator.LeakHeader("Date", master), simulator.LeakHeader(master, "x"),
		simulator.LeakBody(master, 0), simulator.LeakBody(master, 64<<10-7), simulator.LeakBody(master, 300<<10),
		simulator.LeakBody(strings.ReplaceAll(master, "/", `\/`), 1000), simulator.LeakBody(strings.ReplaceAll(master, "/", `\/`), 64<<10-7),
		simulator.Trickle(time.Minute), plainly(`{"created_id":"` + master + `"}`), plainly(`[{"id":"` + master + `"}]`),
	} {
		for _, op := range []string{"/api/v1/members", "/api/v1/tokens"} {
			heal := v.sim.Fail(simulator.Fault{Effect: effect})
			v.note(fmt.Sprintf("answer of fault %d on %s", i, op), v.call(t, "GET", op, ""))
			heal()
		}
		heal := v.sim.Fail(simulator.Fault{Effect: effect})
		v.note(fmt.Sprintf("answer of fault %d on a mint", i), v.call(t, "POST", "/api/v1/token", minting("members.read")))
		heal()
		v.call(t, "GET", "/api/v1/members", "") // one that goes well, for the breaker
	}
	for i, bad := range []string{
		strings.NewReplacer("{env.MASTER}", "{$MASTER}", "master_token_file {$DIR}/master", "master_token {$MASTER}").Replace(config),
		strings.NewReplacer("{env.MASTER}", `"Bearer {$MASTER}"`, "master_token_file {$DIR}/master", "master_token {file.{$MASTER}:{$MASTER}}").Replace(config),
		strings.NewReplacer("{env.MASTER}", "{env.MASTER}{$MASTER}", "master_token_file", "master_token").Replace(config),
		strings.ReplaceAll(config, "upstream {$UPSTREAM}", "upstream https://user:{$MASTER}@127.0.0.1"),
	} {
		status, text := v.load(t, bad)
		if status == http.StatusOK {
			t.Errorf("bad configuration %d was loaded", i)
		}
		v.said[fmt.Sprintf("answer of bad configuration %d", i)] = text
	}
}

// collect gathers what there is to see from outside, and what is on disk.
func (v *aviary) collect(t *testing.T) {
	t.Helper()
	for _, path := range []string{
		"/config/", "/metrics", "/scopegate/", "/scopegate/default", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/reverse_proxy/upstreams",
	} {
		status, text := v.ask(t, path)
		if status != http.StatusOK {
			t.Errorf("admin %s: %d", path, status)
		}
		v.said["admin "+path] = text
	}
	for _, args := range [][]string{
		{"check"}, {"adapt"}, {"explain", "--json", "--team", "ops", "GET", "/api/v1/members"},
	} {
		cmd := exec.Command(binary, append(args[:1:1], append([]string{"--config", filepath.Join(v.dir, "Caddyfile")}, args[1:]...)...)...)
		cmd.Env = append(os.Environ(), v.cmd.Env...)
		out, _ := cmd.CombinedOutput() // some of these find something to complain of
		if len(out) == 0 {
			t.Errorf("%v printed nothing", args)
		}
		v.said["command "+strings.Join(args, " ")] = string(out)
	}
	await(t, "the configuration to be saved", func() bool { return v.readFile(t, "config/caddy/autosave.json") != "" })
	v.said["autosave"] = v.readFile(t, "config/caddy/autosave.json")
	v.said["audit log"] = v.readFile(t, "audit.jsonl")
	v.said["output"] = v.output.String()
	for _, place := range []string{"autosave", "audit log", "output"} {
		if !strings.Contains(v.said[place], "scopegate") && !strings.Contains(v.said[place], "createToken") {
			t.Errorf("%s is not what this test takes it for", place)
		}
	}
	if !strings.Contains(v.said["output"], `"level":"debug"`) || !strings.Contains(v.said["output"], "http.log.trace") {
		t.Error("the log is not at DEBUG with traces")
	}
}

// search looks for a secret in all that was said.
func (v *aviary) search(t *testing.T, what, secret string, permitted func(place, line string) bool) {
	t.Helper()
	search(t, v.said, what, secret, permitted)
}

// search looks for a secret, each half of it, and their other forms, in texts
// by the place where they stand.
func search(t *testing.T, said map[string]string, what, secret string, permitted func(place, line string) bool) {
	t.Helper()
	half := len(secret) / 2
	forms := []string{secret, secret[:half], secret[half:], base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprintf("%x", secret)}
	for _, form := range forms[:3] {
		forms = append(forms, strings.ReplaceAll(form, "/", `\/`), strings.NewReplacer("/", "%2F", "+", "%2B").Replace(form))
	}
	for place, text := range said {
		for line := range strings.Lines(text) {
			for _, form := range forms {
				if strings.Contains(line, form) && !permitted(place, line) {
					t.Errorf("%s (%s) stands in %s:\n%.600s", what, form, place, line)
				}
			}
		}
	}
}
