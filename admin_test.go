package scopegate

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

// desk asks the admin API, and holds every answer against the document.
type desk struct {
	*world
	mux    *http.ServeMux
	router routers.Router
}

func newDesk(t *testing.T, team string) *desk {
	t.Helper()
	d := &desk{world: newWorld(t, team), mux: http.NewServeMux()}
	for _, route := range (Admin{}).Routes() {
		d.mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				t.Errorf("%s: %v", route.Pattern, err)
			}
		})
	}
	var err error
	if d.router, err = gorillamux.NewRouter(loadDocument(t)); err != nil {
		t.Fatal(err)
	}
	return d
}

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// ask sends a request, whose headers are names and values in turns.
func (d *desk) ask(t *testing.T, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "http://localhost/scopegate/"+path, reader)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	d.mux.ServeHTTP(rec, r)
	d.validate(t, r, rec)
	return rec
}

func (d *desk) validate(t *testing.T, r *http.Request, rec *httptest.ResponseRecorder) {
	t.Helper()
	route, params, err := d.router.FindRoute(r)
	if err != nil {
		if rec.Code != 404 && rec.Code != 405 {
			t.Errorf("%s %s is not documented: %v", r.Method, r.URL.Path, err)
		}
		return
	}
	out := openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 rec.Code, Header: rec.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	bodies := []string{rec.Body.String()}
	if rec.Header().Get("Content-Type") == "application/x-ndjson" {
		bodies = linesOf(rec) // whose schema is that of each
	}
	for _, body := range bodies {
		if err := openapi3filter.ValidateResponse(t.Context(), out.SetBodyBytes([]byte(body))); err != nil {
			t.Errorf("%s %s answers what is not documented: %v\n%s", r.Method, r.URL.Path, err, body)
		}
	}
}

func linesOf(rec *httptest.ResponseRecorder) []string {
	return strings.Split(strings.TrimSuffix(rec.Body.String(), "\n"), "\n")
}

// of reads an answer, which must have this status.
func of[T any](t *testing.T, rec *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if rec.Code != status {
		t.Fatalf("answered %d, want %d: %s", rec.Code, status, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, rec.Body)
	}
	return v
}

func init() {
	// The validator knows JSON by its media type alone.
	openapi3filter.RegisterBodyDecoder("application/problem+json", openapi3filter.JSONBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.JSONBodyDecoder)
}

func TestEveryAdminRouteIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	for _, route := range adminRoutes() {
		pattern := strings.TrimSuffix(route.pattern, "{$}")
		if !documented[pattern] {
			t.Errorf("%s is not documented", pattern)
		}
		delete(documented, pattern)
	}
	for pattern := range documented {
		t.Errorf("%s is documented and does not exist", pattern)
	}
}

func TestCredentialLivesThroughTheAdminAPI(t *testing.T) {
	d := newDesk(t, "scopes members.* groups.read-all")
	made := d.ask(t, "POST", "default/credentials", `{"team":"red","name":"ci","ttl":"30d","note":"for the nightly job"}`, "Scopegate-Operator", "alice@example.com")
	c := of[credentialView](t, made, 201)
	if made.Header().Get("Location") != "/scopegate/default/credentials/"+c.ID || c.CreatedBy != "alice@example.com" || c.Expires == nil {
		t.Errorf("%v %+v", made.Header(), c)
	}
	d.use(t, c.Key, "")
	at := "default/credentials/" + c.ID
	if shown := d.ask(t, "GET", at, ""); of[credentialView](t, shown, 200).Key != "" || shown.Header().Get("ETag") != made.Header().Get("ETag") {
		t.Errorf("shown: %v %s", shown.Header(), shown.Body)
	}

	of[credentialView](t, d.ask(t, "POST", at+"/suspend", `{"note":"holiday"}`), 200)
	d.use(t, c.Key, "credential_suspended")
	if rec := d.ask(t, "POST", at+"/resume", "", "If-Match", made.Header().Get("ETag")); rec.Code != 412 {
		t.Errorf("an old ETag: %d %s", rec.Code, rec.Body)
	}
	etag := d.ask(t, "GET", at, "").Header().Get("ETag")
	of[credentialView](t, d.ask(t, "POST", at+"/resume", "", "If-Match", etag), 200)
	d.use(t, c.Key, "")

	next := of[credentialView](t, d.ask(t, "POST", at+"/rotate", `{"overlap":"1h"}`), 200)
	if next.ID != c.ID || next.Key == c.Key || len(next.Generations) != 2 {
		t.Errorf("rotated: %+v", next)
	}
	d.use(t, c.Key, "")
	d.use(t, next.Key, "")
	if rec := d.ask(t, "POST", at+"/rotate", ""); rec.Code/100 != 4 {
		t.Errorf("a third key: %d %s", rec.Code, rec.Body)
	}

	narrowed := of[credentialView](t, d.ask(t, "POST", at+"/narrow", `{"scopes":["groups.read-all"]}`), 200)
	if !slices.Equal(narrowed.Scopes, []string{"groups.read-all"}) {
		t.Errorf("narrowed to %q", narrowed.Scopes)
	}
	d.use(t, next.Key, "insufficient_scope")
	until := time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.RFC3339)
	of[credentialView](t, d.ask(t, "POST", at+"/extend", `{"expires_at":"`+until+`"}`), 200)

	revoked := of[credentialView](t, d.ask(t, "POST", at+"/revoke", ""), 200)
	d.use(t, next.Key, "credential_revoked")
	lines := linesOf(d.ask(t, "POST", "default/wait", encoded(map[string]any{"revision": revoked.Revision})))
	var last reportView
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.Done || len(last.Seen) != 1 {
		t.Errorf("waited: %q", lines)
	}
}

// Whoever waits is told of each replica that is waited for, and why the waiting
// broke off, if it did.
func TestAdminWaitTellsOfOthers(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	row := d.create(t)
	for _, other := range []store.Replica{
		{ID: "slow", Host: "there", Silence: time.Hour},
		{ID: "seen", Host: "there", Silence: time.Hour, Revision: row.Revision},
	} {
		if err := d.room.rows.Beat(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	ctx, hangUp := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "http://localhost/scopegate/default/wait", strings.NewReader(encoded(map[string]any{"revision": row.Revision})))
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	d.mux.ServeHTTP(flushing{rec, hangUp}, r)
	d.validate(t, r, rec)
	lines := linesOf(rec)
	if len(lines) != 2 {
		t.Fatalf("waited: %q", lines)
	}
	var told reportView
	if err := json.Unmarshal([]byte(lines[0]), &told); err != nil || told.Done || len(told.Seen) != 2 || len(told.Waiting) != 1 || told.Waiting[0].ID != "slow" || told.Left <= 0 {
		t.Errorf("%v: %s", err, lines[0])
	}
	var broke problemError
	if err := json.Unmarshal([]byte(lines[1]), &broke); err != nil || broke.Status != 503 {
		t.Errorf("%v: %s", err, lines[1])
	}
}

// flushing calls back once something was sent.
type flushing struct {
	*httptest.ResponseRecorder
	then func()
}

func (f flushing) Flush() { f.then() }

func encoded(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// use asks the gateway with a key; "" as the reason is a success.
func (d *desk) use(t *testing.T, key, reason string) {
	t.Helper()
	parsed, err := credential.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	d.key = parsed
	d.expect(t, reason)
}

func TestAdminListsInPages(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		of[credentialView](t, d.ask(t, "POST", "default/credentials", `{"team":"red","name":"`+name+`"}`), 201)
	}
	type page struct {
		Credentials []credentialView
		Next        string
	}
	var names []string
	for after := ""; ; {
		p := of[page](t, d.ask(t, "GET", "default/credentials?team=red&state=active,suspended&limit=2&after="+after, ""), 200)
		for _, c := range p.Credentials {
			names = append(names, c.Name)
		}
		if after = p.Next; after == "" {
			break
		}
	}
	slices.Sort(names)
	if strings.Join(names, "") != "abcde" {
		t.Errorf("listed %q", names)
	}
	if p := of[page](t, d.ask(t, "GET", "default/credentials?state=revoked", ""), 200); len(p.Credentials) != 0 {
		t.Errorf("revoked: %v", p)
	}
}

// What a team has left behind in the store must be found, to be revoked.
func TestAdminKnowsTeamsThatAreGone(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	if _, err := d.room.rows.Insert(t.Context(), store.Credential{ID: credential.Generate().ID(), Team: "gone", Name: "left", State: "active"}, 0); err != nil {
		t.Fatal(err)
	}
	type page struct{ Credentials []credentialView }
	if p := of[page](t, d.ask(t, "GET", "default/credentials?team=gone", ""), 200); len(p.Credentials) != 1 {
		t.Errorf("listed %+v", p)
	}
	type done struct{ Done []string }
	const all = `{"change":"revoke","filter":{"team":"gone"}}`
	for _, want := range []int{1, 0} { // revoked, it is still known
		if got := of[done](t, d.ask(t, "POST", "default/credentials:bulk", all), 200); len(got.Done) != want {
			t.Errorf("revoked %+v, want %d", got, want)
		}
	}
}

func TestAdminBulkCanBeRepeated(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	for _, name := range []string{"a", "b", "c"} {
		of[credentialView](t, d.ask(t, "POST", "default/credentials", `{"team":"red","name":"`+name+`"}`), 201)
	}
	type done struct {
		Matched int
		Done    []string
		Next    string
	}
	const all = `{"change":"revoke","filter":{"team":"red","state":["active"]},"limit":2`
	if got := of[done](t, d.ask(t, "POST", "default/credentials:bulk", all+`,"dry_run":true}`), 200); got.Matched != 2 || len(got.Done) != 0 {
		t.Errorf("a dry run: %+v", got)
	}
	first := of[done](t, d.ask(t, "POST", "default/credentials:bulk", all+`}`), 200)
	second := of[done](t, d.ask(t, "POST", "default/credentials:bulk", all+`,"after":"`+first.Next+`"}`), 200)
	if len(first.Done) != 2 || len(second.Done) != 1 || second.Next != "" {
		t.Errorf("%+v, then %+v", first, second)
	}
	if got := of[done](t, d.ask(t, "POST", "default/credentials:bulk", all+`}`), 200); got.Matched != 0 {
		t.Errorf("repeated: %+v", got)
	}
	// Where no state is named, those are meant that the change is for.
	if got := of[done](t, d.ask(t, "POST", "default/credentials:bulk", `{"change":"revoke","filter":{"team":"red"}}`), 200); got.Matched != 0 {
		t.Errorf("revoked ones were chosen again: %+v", got)
	}
}

// A store that fails would let each of a hundred changes fail after a while.
func TestAdminBulkStopsWhereTheStoreFails(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	for _, name := range []string{"a", "b", "c"} {
		of[credentialView](t, d.ask(t, "POST", "default/credentials", `{"team":"red","name":"`+name+`"}`), 201)
	}
	good := d.room.rows
	d.room.rows = &failingSecond{rows: good}
	type page struct {
		Done   []string
		Failed []bulkFailure
		Next   string
	}
	const all = `{"change":"suspend","filter":{"team":"red"}`
	got := of[page](t, d.ask(t, "POST", "default/credentials:bulk", all+`}`), 200)
	if len(got.Done) != 1 || len(got.Failed) != 1 || got.Failed[0].Problem.Status != 503 || got.Next != got.Done[0] {
		t.Errorf("%+v", got)
	}
	d.room.rows = good
	if got := of[page](t, d.ask(t, "POST", "default/credentials:bulk", all+`,"after":"`+got.Next+`"}`), 200); len(got.Done) != 2 || got.Next != "" {
		t.Errorf("once it is back: %+v", got)
	}
}

// failingSecond is a store that takes one change.
type failingSecond struct {
	rows
	changes int
}

func (f *failingSecond) Update(ctx context.Context, c store.Credential) (store.Credential, error) {
	if f.changes++; f.changes > 1 {
		return store.Credential{}, io.ErrClosedPipe
	}
	return f.rows.Update(ctx, c)
}

func TestAdminShowsWhatRuns(t *testing.T) {
	d := newDesk(t, "scopes members.read\nmax_credentials 7")
	if g := of[gatewayStatus](t, d.ask(t, "GET", "default", ""), 200); !g.Ready || len(g.Teams) != 1 {
		t.Errorf("%+v", g)
	}
	for _, shares := range []bool{false, true} {
		d.Coalesce = shares
		if g := of[gatewayStatus](t, d.ask(t, "GET", "default", ""), 200); g.Coalesce != shares {
			t.Errorf("coalesce: %v, want %v", g.Coalesce, shares)
		}
	}
	if team := of[teamStatus](t, d.ask(t, "GET", "default/teams/red", ""), 200); team.Max != 7 || len(team.Credentials) != 1 {
		t.Errorf("%+v", team)
	}
	for _, path := range []string{"", "openapi.json", "default/health", "default/teams", "default/replicas"} {
		if rec := d.ask(t, "GET", path, ""); rec.Code != 200 {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if r := of[struct{ Replicas []replicaView }](t, d.ask(t, "GET", "default/replicas", ""), 200); len(r.Replicas) != 1 {
		t.Errorf("replicas: %+v", r)
	}
}

func TestAdminRefuses(t *testing.T) {
	d := newDesk(t, "scopes members.read\nmax_credentials 1\nmax_credential_ttl 30d")
	c := of[credentialView](t, d.ask(t, "POST", "default/credentials", `{"team":"red","name":"first"}`), 201)
	at := "default/credentials/" + c.ID
	key := credential.Generate().Reveal()
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
		headers                  []string
	}{
		{"no such path", "GET", "default/nothing", "", 404, "openapi.json", nil},
		{"wrong method", "PUT", at, "", 405, "takes GET", nil},
		{"no such gateway", "GET", "defualt", "", 404, "did you mean \\\"default\\\"?", nil},
		{"no such team", "GET", "default/teams/rde", "", 404, "red", nil},
		{"no such credential", "GET", "default/credentials/000000000000", "", 404, "no credential", nil},
		{"unknown field", "POST", "default/credentials", `{"team":"red","nmae":"x"}`, 400, "did you mean \\\"name\\\"?", nil},
		{"field of another change", "POST", at + "/suspend", `{"ttl":"1d"}`, 400, "no field", nil},
		{"two names", "POST", "default/credentials", `{"team":"red","team":"blue"}`, 400, "strict JSON", nil},
		{"form", "POST", at + "/revoke", `note=x`, 415, "application/json", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"large", "POST", at + "/suspend", `{"note":"` + strings.Repeat("x", 65<<10) + `"}`, 413, "64 KiB", nil},
		{"wider than the team", "POST", "default/credentials", `{"team":"red","name":"x","scopes":["groups.read-all"]}`, 422, "groups.read-all", nil},
		{"longer than the team may", "POST", "default/credentials", `{"team":"red","name":"x","ttl":"31d"}`, 422, "ttl", nil},
		{"one too many", "POST", "default/credentials", `{"team":"red","name":"two"}`, 409, "", nil},
		{"name taken", "POST", "default/credentials", `{"team":"red","name":"first"}`, 409, "", nil},
		{"unknown team", "POST", "default/credentials", `{"team":"rde","name":"x"}`, 422, "red", nil},
		{"not suspended", "POST", at + "/resume", "", 409, "not suspended", nil},
		{"bad ETag", "POST", at + "/suspend", "", 400, "ETag", []string{"If-Match", "17"}},
		{"bad operator", "POST", at + "/suspend", "", 400, "letters", []string{"Scopegate-Operator", "<script>"}},
		{"list of no team", "GET", "default/credentials?team=rde", "", 404, "did you mean \\\"red\\\"?", nil},
		{"bulk of no team", "POST", "default/credentials:bulk", `{"change":"revoke","filter":{"team":"rde"}}`, 404, "did you mean \\\"red\\\"?", nil},
		{"tokens of no team", "GET", "default/tokens?team=rde", "", 404, "did you mean \\\"red\\\"?", nil},
		{"list of a key", "GET", "default/credentials?team=" + key, "", 404, "no team", nil},
		{"the first moment of all", "POST", "default/credentials", `{"team":"red","name":"x","expires_at":"0001-01-01T00:00:00Z"}`, 400, "expected a time", nil},
		{"bulk of all", "POST", "default/credentials:bulk", `{"change":"revoke","filter":{}}`, 400, "every credential", nil},
		{"bulk of all, in no state", "POST", "default/credentials:bulk", `{"change":"revoke","filter":{"state":[]}}`, 400, "every credential", nil},
		{"bulk of what it is not for", "POST", "default/credentials:bulk", `{"change":"rotate","filter":{"team":"red"}}`, 400, "expected one of", nil},
		{"wait for what is not", "POST", "default/wait", `{"revision":999999}`, 422, "no such revision", nil},
		{"bad parameter", "GET", "default/credentials?tema=red", "", 400, "did you mean \\\"team\\\"?", nil},
		{"key as an id", "GET", "default/credentials/" + key, "", 422, "", nil},
		{"key in the note of a revocation", "POST", "default/tokens:revoke", `{"credential":"` + c.ID + `","note":"` + key + `"}`, 422, "holds a key", nil},
		{"note of a drain for the terminal", "POST", "default/teams/red/drain", `{"note":"\u001b[2J"}`, 422, "printed", nil},
		{"key as a name", "POST", "default/credentials", `{"team":"red","name":"` + key + `"}`, 422, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := d.ask(t, tt.method, tt.path, tt.body, tt.headers...)
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.want) || rec.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s, want %d with %q", rec.Code, rec.Body, tt.status, tt.want)
			}
			if bytes.Contains(rec.Body.Bytes(), []byte(key)) {
				t.Error("the answer repeats a key")
			}
		})
	}
	if d.use(t, c.Key, ""); t.Failed() {
		t.Error("a refusal changed something")
	}
}
