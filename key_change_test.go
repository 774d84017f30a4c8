package scopegate

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

// shell runs commands against the admin API on a socket.
type shell struct {
	*desk
	address string
}

func newShell(t *testing.T, team string) *shell {
	t.Helper()
	s := &shell{desk: newDesk(t, team)}
	dir, err := os.MkdirTemp("", "scopegate-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.mux}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	s.address = "unix/" + ln.Addr().String() + "|0200"
	return s
}

// run returns what a command prints to either stream.
func (s *shell) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "scopegate", SilenceUsage: true}
	root.AddCommand(Commands()...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append(args, "--address", s.address))
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// must runs a command that has to succeed.
func (s *shell) must(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := s.run(t, "", args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, stdout, stderr)
	}
	return stdout, stderr
}

func TestKeyCommandsLookAfterACredential(t *testing.T) {
	s := newShell(t, "scopes members.read groups.read-all")
	out, _ := s.must(t, "key", "create", "--team", "red", "--name", "ci", "--ttl", "30d", "--as", "bob")
	key := strings.TrimSuffix(out, "\n")
	s.use(t, key, "")
	id := s.key.ID()
	if out, _ := s.must(t, "key", "show", id); !strings.Contains(out, "red/ci") || !strings.Contains(out, "by bob") || strings.Contains(out, key) {
		t.Errorf("shown: %s", out)
	}
	file := filepath.Join(t.TempDir(), "key")
	out, told := s.must(t, "key", "rotate", id, "--overlap", "1h", "--out", file)
	if strings.Contains(out+told, "sgk_") || !strings.Contains(told, "seen by 1 replica") {
		t.Errorf("rotated: %s%s", out, told)
	}
	next, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the key: %v %v", info.Mode(), err)
	}
	s.use(t, key, "")
	s.use(t, strings.TrimSpace(string(next)), "")
	if _, _, err := s.run(t, "", "key", "rotate", id, "--out", file); err == nil {
		t.Error("a file was overwritten")
	}

	s.must(t, "key", "suspend", id, "--note", "looked at")
	s.use(t, key, "credential_suspended")
	s.must(t, "key", "resume", id)
	if _, told := s.must(t, "key", "narrow", id, "--scopes", "groups.*"); !strings.Contains(told, "is active, with groups.read-all, until 20") {
		t.Errorf("narrowed: %s", told)
	}
	s.use(t, key, "insufficient_scope")
	if _, told := s.must(t, "key", "extend", id, "--ttl", "60d"); !strings.Contains(told, " UTC\n") || !strings.Contains(told, "until 20") {
		t.Errorf("extended: %s", told)
	}
	// The keys before are not said to work for a time that is over.
	last, told := s.must(t, "key", "rotate", id, "--overlap", "0s")
	if strings.Contains(told, "works until") || !strings.Contains(told, "no other key of it works") {
		t.Errorf("rotated at once: %s", told)
	}
	s.use(t, key, "credential_retired")
	if _, told := s.must(t, "key", "revoke", id, "--wait"); !strings.Contains(told, "seen by 1 replica") {
		t.Errorf("revoked: %s", told)
	}
	s.use(t, strings.TrimSpace(last), "credential_revoked")
	if out, _ := s.must(t, "replicas"); !strings.Contains(out, "HOST") || strings.Count(out, "\n") != 2 {
		t.Errorf("replicas: %s", out)
	}
}

// The gateway's own user, as whom operators run commands, says nothing of who it
// was.
func TestOperatorIsWhoCalledSudo(t *testing.T) {
	s := newShell(t, "scopes members.read")
	t.Setenv("SUDO_USER", "")
	for sudo, want := range map[string]string{"alice": "by alice", "bad\nname": "by " + systemUser()} {
		t.Setenv("SUDO_USER", sudo)
		out, _ := s.must(t, "key", "create", "--team", "red", "--name", "for-"+sudo[:3])
		key, err := credential.Parse(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		if out, _ := s.must(t, "key", "show", key.ID()); !strings.Contains(out, want) {
			t.Errorf("SUDO_USER=%q: want %q in\n%s", sudo, want, out)
		}
	}
}

func TestKeyCommandsForMany(t *testing.T) {
	s := newShell(t, "scopes members.read")
	for _, name := range []string{"a", "b", "c"} {
		s.must(t, "key", "create", "--team", "red", "--name", name)
	}
	if _, told, err := s.run(t, "no\n", "key", "suspend", "--team", "red"); err == nil || !strings.Contains(told, "suspend 3 credentials?") {
		t.Errorf("not confirmed: %v %s", err, told)
	}
	list := func(args ...string) (ids []string) {
		t.Helper()
		out, _ := s.must(t, append([]string{"key", "list", "--json"}, args...)...)
		var all []credentialView
		if err := json.Unmarshal([]byte(out), &all); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			ids = append(ids, c.ID)
		}
		return ids
	}
	if n := len(list("--state", "active")); n != 3 {
		t.Errorf("%d are active after a change that was not confirmed", n)
	}
	if _, _, err := s.run(t, "yes\n", "key", "suspend", "--team", "red"); err != nil {
		t.Error(err)
	}
	if n := len(list("--state", "suspended")); n != 3 {
		t.Errorf("%d are suspended", n)
	}
	ids := list()
	if _, _, err := s.run(t, strings.Join(ids[:2], "\n")+"\n", "key", "revoke", "-"); err == nil || len(list("--state", "revoked")) > 0 {
		t.Errorf("ids on standard input, not confirmed: %v", err)
	}
	if _, _, err := s.run(t, strings.Join(ids[:2], "\n")+"\n", "key", "revoke", "-", "--yes"); err != nil {
		t.Error(err)
	}
	_, told, err := s.run(t, "", "key", "resume", ids[0], ids[2])
	if err == nil || !strings.Contains(told, "changed: 1, failed: 1") {
		t.Errorf("done in part: %v %s", err, told)
	}
	if _, told := s.must(t, "key", "revoke", "--team", "red", "--older-than", "1d", "--yes"); !strings.Contains(told, "no credential is chosen") {
		t.Errorf("none: %s", told)
	}
	if out, _ := s.must(t, "key", "list"); strings.Count(out, "\n") != 4 || !strings.Contains(out, "never") {
		t.Errorf("listed: %s", out)
	}
}

func TestKeyCommandsSayWhatIsWrong(t *testing.T) {
	s := newShell(t, "scopes members.read")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"refused", []string{"key", "create", "--team", "rde", "--name", "x"}, `"red"`},
		{"no such team", []string{"key", "list", "--team", "rde"}, `did you mean "red"?`},
		{"nothing of no team", []string{"key", "revoke", "--team", "rde", "--yes"}, `did you mean "red"?`},
		{"no such id", []string{"key", "show", "000000000000"}, "no credential"},
		{"no such gateway", []string{"key", "list", "--gateway", "none"}, "no gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, told, err := s.run(t, "", tt.args...)
			if code(err) != exitRefused || !strings.Contains(told, tt.want) || out != "" {
				t.Errorf("%v, want %q\n%s%s", err, tt.want, out, told)
			}
		})
	}
	off := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(off, []byte("{\n\tadmin off\n}\nhttp://localhost {\n\tscopegate {\n\t\tupstream http://127.0.0.1:1 {\n\t\t\tmaster_token {env.X}\n\t\t}\n\t\tteam red {\n\t\t\tscopes members.read\n\t\t}\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.address = ""
	_, told, err := s.run(t, "", "key", "list", "--config", off)
	if err != nil || !strings.Contains(told, "turns the admin endpoint off") {
		t.Errorf("admin off: %v %s", err, told)
	}
}
