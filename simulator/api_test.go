package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

const nobodyID = "0b7e5a10-0000-4000-8000-00000000ffff" // nothing has it

// account is a simulator without a network.
type account struct {
	t   *testing.T
	sim *simulator.Simulator
}

func open(t *testing.T, o simulator.Options) account {
	t.Helper()
	return account{t, simulator.New(o)}
}

type got struct {
	status int
	header http.Header
	body   string
}

// do sends one request; each of headers is "Name: value".
func (a account) do(secret, method, target, body string, headers ...string) got {
	a.t.Helper()
	r := httptest.NewRequest(method, "http://upstream.example.com"+target, strings.NewReader(body))
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	a.sim.ServeHTTP(w, r)
	return got{w.Code, w.Header(), w.Body.String()}
}

// must is do with the master token and the demand that it is answered 200.
func (a account) must(method, target, body string) got {
	a.t.Helper()
	g := a.do(a.sim.Master(), method, target, body)
	if g.status != http.StatusOK {
		a.t.Fatalf("%s %s: status %d, body %s", method, target, g.status, g.body)
	}
	return g
}

// mint makes a token with the master and returns its id and its secret.
func (a account) mint(body string) (id, secret string) {
	a.t.Helper()
	var made struct {
		ID     string `json:"created_id"`
		Secret string `json:"token"`
	}
	a.must("POST", "/api/v1/token", body).into(a.t, &made)
	if !scopes.IsUUID(made.ID) || made.Secret == "" {
		a.t.Fatalf("minted %+v: no id or no secret", made)
	}
	return made.ID, made.Secret
}

func (g got) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(g.body), v); err != nil {
		t.Fatalf("body %q: %v", g.body, err)
	}
}

// object returns a body that is one JSON object.
func (g got) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	g.into(t, &v)
	return v
}

// list returns a body that is one JSON array of objects.
func (g got) list(t *testing.T) []map[string]any {
	t.Helper()
	var v []map[string]any
	g.into(t, &v)
	return v
}

// byID finds an object in a list.
func byID(list []map[string]any, id string) map[string]any {
	for _, one := range list {
		if one["id"] == id {
			return one
		}
	}
	return nil
}

// serve puts a simulator on loopback, for what needs real connections.
func serve(t *testing.T, sim *simulator.Simulator) (call func(method, path, body string) (*http.Response, error)) {
	t.Helper()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Transport.(*http.Transport).DisableCompression = true
	return func(method, path, body string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+sim.Master())
		return client.Do(r)
	}
}

func readAll(t *testing.T, resp *http.Response) (string, error) {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
