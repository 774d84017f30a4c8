package integration_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// stored is the body of a site whose credentials are in a store.
func stored(option string) string {
	return `scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
		}
		` + option + `
		team billing {
			scopes members.read members.read-all
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}
	handle /metrics {
		metrics
	}`
}

// upstreamOf starts a simulated API, and returns what a gateway needs of it.
func upstreamOf(t *testing.T) (env []string) {
	t.Helper()
	sim := simulator.New(simulator.Options{})
	up := httptest.NewServer(sim)
	t.Cleanup(up.Close)
	return []string{"UPSTREAM=" + up.URL, "MASTER=" + sim.Master()}
}

type storedCredential struct {
	ID       string `json:"id"`
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
}

// tell asks the admin API for a change.
func (g *gateway) tell(t *testing.T, path, body string) (c storedCredential) {
	t.Helper()
	resp, err := g.admin.Post("http://admin/scopegate/default/"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if strings.HasPrefix(path, "wait") {
		text = []byte(lines[len(lines)-1])
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return c
}

// with makes a request with a key and returns the status.
func (g *gateway) with(t *testing.T, key string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+g.addr+"/api/v1/members", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	var resp *http.Response
	// While Caddy replaces a listener, a connection that still waits there is
	// reset, as with any Caddy; callers try again.
	await(t, "an answer", func() bool {
		resp, err = http.DefaultClient.Do(req)
		return err == nil
	})
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// A credential outlives reloads, good and failed ones, and the process; its key
// is in nothing that the gateway says or keeps.
func TestStoredCredentials(t *testing.T) {
	t.Parallel()
	env := upstreamOf(t)
	config := preamble + site(stored("store sqlite {$DIR}/store.db"))
	g := start(t, config, env...)
	c := g.tell(t, "credentials", `{"team":"billing","name":"ci","note":"made by a test"}`)
	if status := g.with(t, c.Key); status != http.StatusOK {
		t.Fatalf("a new key: %d", status)
	}

	g.mustLoad(t, strings.Replace(config, "members.read members.read-all", "members.read-all members.read", 1))
	if status := g.with(t, c.Key); status != http.StatusOK {
		t.Errorf("after a reload: %d", status)
	}
	if status, _ := g.load(t, strings.Replace(config, "{env.MASTER}", "{env.NOT_SET}", 1)); status == http.StatusOK {
		t.Fatal("a bad configuration was loaded")
	}
	next := g.tell(t, "credentials/"+c.ID+"/rotate", `{"overlap":"1h"}`)
	for _, key := range []string{c.Key, next.Key} {
		if status := g.with(t, key); status != http.StatusOK {
			t.Errorf("rotated after a failed reload: %d", status)
		}
	}
	revoked := g.tell(t, "credentials/"+c.ID+"/revoke", "")
	g.tell(t, "wait", `{"revision":`+itoa(revoked.Revision)+`}`)
	for _, key := range []string{c.Key, next.Key} {
		if status := g.with(t, key); status != http.StatusUnauthorized {
			t.Errorf("revoked: %d", status)
		}
	}

	_, shown := g.ask(t, "/scopegate/default/credentials/"+c.ID)
	_, dump := g.ask(t, "/config/")
	_, metrics := g.ask(t, "/metrics")
	if !strings.Contains(metrics, `scopegate_credential_changes_total{change="rotate",gateway="default"} 1`) {
		t.Error("the rotation was not counted")
	}
	g.stop(t)
	said := map[string]string{"the credential": shown, "the configuration": dump, "the metrics": metrics, "the output": g.output.String()}
	g.files(t, said)
	for place, text := range said {
		for _, key := range []string{c.Key, next.Key} {
			if secret := key[len("sgk_")+13:]; strings.Contains(text, secret) {
				t.Errorf("%s holds a key", place)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(g.dir, "store.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the store: %v %v", info, err)
	}
}

// A stored credential's allowance is neither made anew by a reload nor by a
// rotation, and no other credential can use it up.
func TestStoredCredentialsAreLimited(t *testing.T) {
	t.Parallel()
	config := preamble + site(strings.Replace(stored("store sqlite {$DIR}/store.db"),
		"scopes members.read members.read-all", "scopes members.read-all\ncredential_rate_limit 2 24h", 1))
	g := start(t, config, upstreamOf(t)...)
	one, two := g.tell(t, "credentials", `{"team":"billing","name":"one"}`), g.tell(t, "credentials", `{"team":"billing","name":"two"}`)
	for _, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		if status := g.with(t, one.Key); status != want {
			t.Errorf("%d, want %d", status, want)
		}
	}
	for _, limit := range []string{"2 24h\ncredential_max_in_flight 5", "3 24h", "3 24h 9"} {
		g.mustLoad(t, strings.Replace(config, "2 24h", limit, 1))
		if status := g.with(t, one.Key); status != http.StatusTooManyRequests {
			t.Errorf("after loading %q: %d", limit, status)
		}
	}
	next := g.tell(t, "credentials/"+one.ID+"/rotate", `{"overlap":"1h"}`)
	if status := g.with(t, next.Key); status != http.StatusTooManyRequests {
		t.Errorf("a new key: %d", status)
	}
	if status := g.with(t, two.Key); status != http.StatusOK {
		t.Errorf("another credential: %d", status)
	}
}

// files adds all that the gateway keeps, by path.
func (g *gateway) files(t *testing.T, to map[string]string) {
	t.Helper()
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		to[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func itoa(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// Two replicas share a database: what one makes works on the other, what one
// revokes ends on the other, and both refuse everything once they have not
// heard from it for their grace.
func TestFleet(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Close() })
	env := append(upstreamOf(t), "DATABASE_URL="+cluster.DSN("postgres"))
	config := preamble + site(stored("store postgres {env.DATABASE_URL}\nstore_grace 2s"))
	one, two := start(t, config, env...), start(t, config, env...)

	c := one.tell(t, "credentials", `{"team":"billing","name":"shared"}`)
	if status := two.with(t, c.Key); status != http.StatusOK {
		t.Fatalf("a key of the other replica: %d", status)
	}
	other := one.tell(t, "credentials", `{"team":"billing","name":"other"}`)
	// What has just been changed is not known until it is asked for again.
	one.tell(t, "wait", `{"revision":`+itoa(other.Revision)+`}`)
	for _, g := range []*gateway{one, two} {
		if status := g.with(t, other.Key); status != http.StatusOK {
			t.Fatalf("another key: %d", status)
		}
	}
	revoked := one.tell(t, "credentials/"+c.ID+"/revoke", "")
	one.tell(t, "wait", `{"revision":`+itoa(revoked.Revision)+`}`)
	if status := two.with(t, c.Key); status != http.StatusUnauthorized {
		t.Errorf("revoked on the other replica, which has seen it: %d", status)
	}

	rows, err := pgtest.Text(t.Context(), cluster.DSN("postgres"))
	if err != nil || !strings.Contains(rows, c.ID) || !strings.Contains(rows, other.ID) {
		t.Fatalf("reading the database: %v", err)
	}
	for _, key := range []string{c.Key, other.Key} {
		if strings.Contains(rows, key[len("sgk_")+13:]) {
			t.Error("the database holds a key")
		}
	}

	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if status := two.with(t, other.Key); status != http.StatusOK {
		t.Errorf("a known key within the grace: %d", status)
	}
	for _, g := range []*gateway{one, two} {
		await(t, "the grace to run out", func() bool { return g.with(t, other.Key) == http.StatusServiceUnavailable })
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gateway{one, two} {
		await(t, "the store to be back", func() bool { return g.with(t, other.Key) == http.StatusOK })
		if status := g.with(t, c.Key); status != http.StatusUnauthorized {
			t.Errorf("revoked, after the store was away: %d", status)
		}
	}
}
