package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenFileIsFollowed exchanges the master token under the gateway's
// feet: by writing the file, by putting another in its place and by moving a
// link, as orchestrators do. What holds no token is not used.
func TestTokenFileIsFollowed(t *testing.T) {
	t.Parallel()
	sim, env := simulated(t)
	dir := t.TempDir()
	h := newHolder("ops", "one", "members.read-all")
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path+".new"); err != nil {
			t.Fatal(err)
		}
		rename(path+".new", name)
	}
	// As Kubernetes mounts a secret: token -> ..data/token, ..data -> ..1.
	write("..1/token", sim.Master()+"\n")
	link("..1", "..data")
	link("..data/token", "token")
	config := func(where string) string {
		return preamble + site("scopegate {\nupstream {$UPSTREAM} {\n master_token {file."+where+"}\n retries 0\n}\n"+team(h, "")+plainAudit+"}\n")
	}
	g := start(t, config(filepath.Join(dir, "token")), env...)
	list := func() int { return send(t, g.addr, call{method: "GET", target: "/api/v1/members", key: h.key}).status }
	if got := list(); got != 200 {
		t.Fatalf("at first: %d", got)
	}
	secret := 1
	next := func() string { secret++; return fmt.Sprintf("another-master-%d", secret) }
	for _, c := range []struct {
		name   string
		change func(token string)
	}{
		{"a link moved", func(token string) { write("..2/token", token); link("..2", "..data") }},
		{"a link moved again", func(token string) { write("..3/token", token); link("..3", "..data") }},
		{"a file put in the place of a link", func(token string) { rename(write("new", token), "token") }},
		{"a file put in its place", func(token string) { rename(write("new", token+"\r\n"), "token") }},
		{"the file written", func(token string) { write("token", token+"\n") }},
	} {
		token := sim.RenewMaster(next())
		if got := list(); got != 502 {
			t.Errorf("%s: the old token still works: %d", c.name, got)
		}
		c.change(token)
		await(t, c.name+" to be noticed", func() bool { return list() == 200 })
		for _, useless := range []string{"", "short", "Bearer " + token, "\r\n", "caf\u00e9-caf\u00e9-caf\u00e9"} {
			complaints := strings.Count(g.output.String(), "was not loaded anew")
			rename(write("new", useless), "token")
			await(t, fmt.Sprintf("%q to be noticed", useless), func() bool {
				return strings.Count(g.output.String(), "was not loaded anew") > complaints
			})
			if got := list(); got != 200 {
				t.Errorf("%s, then %q: %d", c.name, useless, got)
			}
		}
		rename(write("new", token), "token")
		if strings.Contains(g.output.String()+g.readFile(t, "audit.jsonl"), token) {
			t.Errorf("%s: the token is in a log", c.name)
		}
		if c.name == "a link moved" {
			link("..data/token", "token")
		}
	}
}
