package scopegate

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

// run runs a sub-command and returns what it printed and whether it failed.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "scopegate", SilenceUsage: true}
	root.AddCommand(Commands()...)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyGenerateAndHashAgree(t *testing.T) {
	out, err := run(t, "", "key", "generate", "--team", "billing", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var made, hashed struct{ Key, ID, Hash, Caddyfile string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	if key, err := credential.Parse(made.Key); err != nil || key.ID() != made.ID || key.Hash().String() != made.Hash {
		t.Errorf("%s: %v", out, err)
	}
	if out, err = run(t, made.Key+"\n", "key", "hash", "--json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &hashed); err != nil || hashed.Hash != made.Hash || hashed.ID != made.ID {
		t.Errorf("hash printed %s, want %s", out, made.Hash)
	}
	file, err := run(t, "", "key", "hash", write(t, "key", made.Key))
	if err != nil || file != "hash "+made.ID+":"+made.Hash+"\n" || !strings.Contains(made.Caddyfile, strings.TrimSpace(file)) {
		t.Errorf("%q %v", file, err)
	}
}

// A key on the command line is in the shell's history and in ps.
func TestKeyHashRejectsAKeyAsArgument(t *testing.T) {
	key := credential.Generate().Reveal()
	out, err := run(t, "", "key", "hash", key)
	if err == nil || strings.Contains(out, key) {
		t.Errorf("%q %v", out, err)
	}
}

const explained = `http://localhost {
	scopegate {
		upstream https://integration.goodaccess.com {
			master_token {env.NONE}
		}
		team red {
			scopes members.* token.create
			mint {
				scopes members.read
				allowed_ips 203.0.113.0/24
			}
			allowed_ips 10.0.0.0/8
			credential one {
				hash 000000000000:0000000000000000000000000000000000000000000000000000000000000000
				scopes members.read
			}
		}
	}
}
`

func TestExplain(t *testing.T) {
	file := write(t, "Caddyfile", explained)
	mint := func(scope, ip string, life time.Duration) string {
		return `{"name":"x","allowed_scopes":["` + scope + `"],"allowed_ips":["` + ip + `"],"expires_at":"` +
			time.Now().UTC().Add(life).Format(time.DateTime) + `"}`
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		args     []string
		body     string
		decision string
		by       string
		smallest string
	}{
		{"allowed by a glob", []string{"--team", "red", "GET", "/api/v1/members"}, "", "allow/allowed", "Caddyfile:7: members.*", ""},
		{"narrowed credential", []string{"--credential", "one", "GET", "/api/v1/members"}, "", "deny/insufficient_scope", "Caddyfile:6 Caddyfile:13", "team red: credential one: scopes members.read-all"},
		{"by id", []string{"--credential", "000000000000", "GET", "/api/v1/member/x"}, "", "allow/allowed", "Caddyfile:7: members.* Caddyfile:15: members.read", ""},
		{"scope", []string{"--team", "red", "GET", "/api/v1/groups"}, "", "deny/insufficient_scope", "Caddyfile:6", "team red: scopes groups.read-all"},
		{"address", []string{"--team", "red", "--from", "192.0.2.1", "GET", "/api/v1/members"}, "", "deny/client_address", "Caddyfile:6", "team red: allowed_ips 192.0.2.1"},
		{"both", []string{"--team", "red", "--from", "192.0.2.1", "GET", "/api/v1/groups"}, "", "deny/client_address", "Caddyfile:6", "team red: allowed_ips 192.0.2.1, team red: scopes groups.read-all"},
		{"inferred", []string{"--team", "red", "DELETE", "/api/v1/group/x"}, "", "deny/operation_off", "catalogue", "operations +inferred, team red: scopes groups.delete"},
		{"unknown path", []string{"--team", "red", "GET", "/api/v1/nothing"}, "", "deny/unknown_path", "catalogue", ""},
		{"mint within", []string{"--team", "red", "POST", "/api/v1/token", "--body", "-"}, mint("members.read", "203.0.113.7", 3*day), "allow/allowed", "Caddyfile:7: token.create", ""},
		{"mint beyond all", []string{"--team", "red", "POST", "/api/v1/token", "--body", "-"}, mint("groups.read", "198.51.100.7", 120*day), "deny/mint_scopes", "Caddyfile:8", "team red: scopes groups.read, team red: mint: scopes groups.read, team red: mint: allowed_ips 198.51.100.7, team red: mint: max_ttl 121d"},
		{"mint of a token scope", []string{"--team", "red", "POST", "/api/v1/token", "--body", "-"}, mint("token.create", "203.0.113.7", 3*day), "deny/mint_scopes", "Caddyfile:8", ""},
		{"password", []string{"--team", "red", "PUT", "/api/v1/member/x", "--body", "-"}, `{"password":"x"}`, "deny/member_password", "Caddyfile:6", "team red: member_passwords"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := run(t, c.body, append([]string{"explain", "--config", file, "--json"}, c.args...)...)
			var e explanation
			if jsonErr := json.Unmarshal([]byte(out), &e); jsonErr != nil {
				t.Fatalf("%s: %v", out, jsonErr)
			}
			if got := e.Decision + "/" + e.Reason; got != c.decision || (err == nil) != (e.Decision == "allow") {
				t.Errorf("decision %s (error %v), want %s", got, err, c.decision)
			}
			if got := strings.Join(e.DecidedBy, " "); !strings.HasPrefix(got, c.by) {
				t.Errorf("decided by %q, want %q", got, c.by)
			}
			if got := strings.Join(e.Smallest, ", "); got != c.smallest {
				t.Errorf("smallest grant %q, want %q", got, c.smallest)
			}
		})
	}
}

// In a configuration that was written as JSON, places are JSON pointers.
func TestExplainNamesPlacesInJSON(t *testing.T) {
	file := write(t, "config.json", `{"apps":{"http":{"servers":{"a/b":{"routes":[{"handle":[{"handler":"scopegate",
		"upstream":{"url":"https://integration.goodaccess.com","master_token":"{env.NONE}"},
		"teams":[{"name":"red","scopes":["groups.read","members.*"]}]}]}]}}}}}`)
	out, err := run(t, "", "explain", "--config", file, "--team", "red", "GET", "/api/v1/members", "--json")
	var e explanation
	if jsonErr := json.Unmarshal([]byte(out), &e); jsonErr != nil || err != nil {
		t.Fatal(out, err)
	}
	if want := "/apps/http/servers/a~1b/routes/0/handle/0/teams/0/scopes/1: members.*"; len(e.DecidedBy) != 1 || e.DecidedBy[0] != want {
		t.Errorf("decided by %q, want %q", e.DecidedBy, want)
	}
}

func TestExplainRejects(t *testing.T) {
	file := write(t, "Caddyfile", explained)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown team":       {[]string{"--config", file, "--team", "rde", "GET", "/"}, `did you mean "red"?`},
		"unknown credential": {[]string{"--config", file, "--credential", "red/two", "GET", "/"}, "red/one"},
		"stored credential":  {[]string{"--config", file, "--credential", "4fQ9aZ0bTx1k", "GET", "/"}, "The store is not asked"},
		"no caller":          {[]string{"--config", file, "GET", "/"}, "at least one of the flags"},
		"no config":          {[]string{"--team", "red", "GET", "/"}, "config"},
		"bad address":        {[]string{"--config", file, "--team", "red", "--from", "x", "GET", "/"}, "is not an address"},
		"no gateway":         {[]string{"--config", write(t, "Caddyfile", "http://localhost {\n\trespond ok\n}\n"), "--team", "red", "GET", "/"}, "no gateway in"},
	} {
		if out, err := run(t, "", append([]string{"explain"}, c.args...)...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.want, out)
		}
	}
}

func TestConfigurationOfTheEnvironment(t *testing.T) {
	file := write(t, "Caddyfile", explained)
	t.Setenv(configVariable, file)
	if out, err := run(t, "", "explain", "--team", "rde", "GET", "/"); err == nil || !strings.Contains(out, `did you mean "red"?`) {
		t.Errorf("explain: %v\n%s", err, out)
	}
	if out, err := run(t, "", "explain", "--config", file+"x", "--team", "red", "GET", "/"); err == nil || !strings.Contains(out, file+"x") {
		t.Errorf("explain --config: %v\n%s", err, out)
	}
	// Logs that are named are those that are asked about, and by no other key.
	t.Setenv(configVariable, file+"x")
	log, _, _ := chained(t, 1)
	if out, err := run(t, "", "audit", "verify", log); err != nil || !strings.Contains(out, "verdict    sound") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"audit", "verify"}, {"audit", "search"}, {"key", "list"}} {
		if out, err := run(t, "", args...); err == nil || !strings.Contains(out, file+"x") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// A second process takes the socket of the first away before it finds the log in
// use and ends. What is left looks like a gateway, and is none.
func TestUnreachableGatewayIsExplained(t *testing.T) {
	dir, err := os.MkdirTemp("", "scopegate-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dead := filepath.Join(dir, "dead.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	for socket, want := range map[string]string{dead: "nobody listens", filepath.Join(dir, "none.sock"): "no gateway runs"} {
		if out, err := run(t, "", "key", "list", "--address", "unix/"+socket); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want %q\n%s", socket, err, want, out)
		}
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	w := newWorld(t, "scopes members.read gateways.read token.create")
	const head = `{
	admin %admin%
}
http://localhost {
	scopegate {
		upstream %url% {
			master_token_file %token%
			%expires%
		}
		store %store%
		team red {
			scopes members.read gateways.read token.create
			credential one {
				hash 000000000000:0000000000000000000000000000000000000000000000000000000000000000
			}
		}
		team idle {
			scopes members.read
		}
		audit {
			output file %audit%
		}
	}
}
`
	token := write(t, "token", w.sim.Master())
	open := write(t, "token", w.sim.Master())
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	wrong := write(t, "token", "not-the-master-token")
	audit := write(t, "audit.jsonl", "")
	begun := write(t, "audit.jsonl", "{}\n")
	soon := "master_token_expires " + time.Now().UTC().AddDate(0, 0, 3).Format(time.DateOnly)
	damaged := write(t, "store.db", strings.Repeat("not a database", 100))
	for _, c := range []struct {
		name, admin, token, expires, audit, store string
		fails                                     bool
		want                                      []string
	}{
		{"good", "off", token, "master_token_expires 2099-01-01", audit, "none", false, []string{
			"warn  store", "ok    master token", "ok    clock", "ok    file mode", "ok    admin", "ok    audit",
			"no credential of it is in force", "no operation that is on needs gateways.read", "holds token.create but has no mint block",
		}},
		{"no static credential", "off", token, "", audit, "sqlite " + filepath.Join(t.TempDir(), "store.db"), false, []string{"ok    store", "ok    team idle", "static credentials in force: 0"}},
		{"no place for the store", "off", token, "", audit, "sqlite /proc/scopegate/store.db", true, []string{"fail  store", "-> make /proc/scopegate, and give it"}},
		{"no key of the log", "off", token, "", begun, "none", true, []string{"ok    audit", "fail  audit key", "XDG_DATA_HOME"}},
		{"damaged store", "off", token, "", audit, "sqlite " + damaged, true, []string{"fail  store"}},
		{"open admin", "localhost:2019", token, soon, audit, "none", true, []string{"fail  admin", "warn  expiry"}},
		{"open token file", "off", open, soon, audit, "none", true, []string{"fail  file mode"}},
		{"wrong token", "off", wrong, "", audit, "none", true, []string{"fail  master token", "it is not said when"}},
		{"no token file", "off", token + ".none", "", audit, "none", true, []string{"fail  file mode", "fail  master token"}},
		{"audit on a folder", "off", token, "", filepath.Dir(audit), "none", true, []string{"fail  audit"}},
		{"master ended", "off", token, "master_token_expires 2020-01-01", audit, "none", true, []string{"fail  expiry"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, "Caddyfile", strings.NewReplacer("%admin%", c.admin, "%url%", w.Upstream.URL,
				"%token%", c.token, "%expires%", c.expires, "%audit%", c.audit, "%store%", c.store).Replace(head))
			out, err := run(t, "", "check", "--config", file)
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("missing %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, w.sim.Master()) {
				t.Error("the master token was printed")
			}
			// Stored credentials may use what static ones do not.
			if c.store != "none" && strings.Contains(out, "remove these scopes from the team") {
				t.Errorf("told to take away what stored credentials use:\n%s", out)
			}
		})
	}
}

func TestCheckLooksAtAnchors(t *testing.T) {
	w := newWorld(t, "scopes members.read")
	dir := t.TempDir()
	for anchor, want := range map[string]string{
		filepath.Join(dir, "anchors"):         "ok    anchor",
		filepath.Join(dir, "none", "anchors"): "fail  anchor",
		dir:                                   "fail  anchor",
	} {
		file := write(t, "Caddyfile", "{\n\tadmin off\n}\nhttp://localhost {\n\tscopegate {\n\t\tupstream "+w.Upstream.URL+" {\n\t\t\tmaster_token {env.SCOPEGATE_TEST_MASTER}\n\t\t}\n"+
			"\t\tteam red {\n\t\t\tscopes members.read\n\t\t}\n\t\taudit {\n\t\t\toutput file "+filepath.Join(dir, "audit.jsonl")+"\n\t\t\tanchor file "+anchor+"\n\t\t}\n\t}\n}\n")
		if out, err := run(t, "", "check", "--offline", "--config", file); (err != nil) != strings.HasPrefix(want, "fail") || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", anchor, err, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestHealthAsksAProbe(t *testing.T) {
	asked := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{"": "/_scopegate/readyz", "/": "/_scopegate/readyz", "/_scopegate/livez": "/_scopegate/livez"} {
		if out, err := run(t, "", "health", srv.URL+path); err != nil {
			t.Errorf("%s%s: %s %v", srv.URL, path, out, err)
		} else if got := <-asked; got != want {
			t.Errorf("asked %s of %q, want %s", got, path, want)
		}
	}
	url, status := probeServer(t)
	for code, fails := range map[int]bool{200: false, 503: true} {
		status.Store(int64(code))
		if out, err := run(t, "", "health", url); (err != nil) != fails {
			t.Errorf("%d: %q %v", code, out, err)
		}
	}
}

// Every command shows how it is used.
func TestCommandsHaveExamples(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no short text", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	for _, cmd := range Commands() {
		visit(cmd)
	}
}
