package integration_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// received is one request as it arrived upstream.
type received struct {
	method, target string // the request line, untouched
	host           string
	header         http.Header
	length         int64 // -1 is chunked
	trailer        http.Header
	body           string

	made string // the id of the token that this made
}

// recorder is an upstream that notes what arrives and answers in the shapes
// of GoodAccess. What tokens it makes it shows and lists until it is told to
// delete them, as GoodAccess does.
type recorder struct {
	*httptest.Server
	mu     sync.Mutex
	list   []received
	tokens map[string]token // by id

	// shows answers a read of a token that is there, where it is set.
	shows func(id string, made token) string
	// keeps is how many deletions are only said to be done.
	keeps int
}

// token is one that was made, as it is shown.
type token map[string]any

// What the recorder answers. No caller may ever see the first token of the
// list, nor a secret of any, and the headers are for nobody.
const (
	anyAnswer   = `{"created_id":"made-1","message":"done"}`
	aSecret     = "somebody-elses-secret"
	noSuchToken = `{"error":"not_found","error_description":"Token not found"}`
)

// newSecret is the secret of a new token, which its maker sees, once.
func newSecret(id string) string { return "the-new-secret-of-" + id }

// mintAnswer answers a mint.
func mintAnswer(id string) string {
	return `{"created_id":"` + id + `","message":"Token created successfully","token":"` + newSecret(id) + `"}`
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{tokens: map[string]token{aToken: {"id": aToken, "name": "master", "token": aSecret}}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		body = []byte("<" + err.Error() + ">")
	}
	one := received{
		method: in.Method, target: in.RequestURI, host: in.Host, header: in.Header.Clone(),
		length: in.ContentLength, trailer: in.Trailer, body: string(body),
	}
	r.mu.Lock()
	status, text := r.answer(&one)
	r.list = append(r.list, one)
	r.mu.Unlock()

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Set-Cookie", "session=upstream")
	h.Set("Location", "https://evil.example/")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Powered-By", "upstream")
	h.Set("WWW-Authenticate", "Bearer")
	h.Set("Trailer", "X-Trailer")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	h.Set("X-Trailer", "upstream")
}

func (r *recorder) answer(in *received) (status int, body string) {
	id, one := strings.CutPrefix(in.target, "/api/v1/token/")
	switch made, there := r.tokens[id]; {
	case in.method == http.MethodPost && in.target == "/api/v1/token":
		in.made = r.mint(in.body)
		return http.StatusOK, mintAnswer(in.made)
	case in.target == "/api/v1/tokens":
		return http.StatusOK, encoded(slices.Collect(maps.Values(r.tokens)))
	case !one:
		return http.StatusOK, anyAnswer
	case !there:
		return http.StatusNotFound, noSuchToken
	case in.method == http.MethodDelete && r.keeps > 0:
		r.keeps--
		return http.StatusOK, anyAnswer
	case in.method == http.MethodDelete:
		delete(r.tokens, id)
		return http.StatusOK, anyAnswer
	case r.shows != nil:
		return http.StatusOK, r.shows(id, maps.Clone(made))
	default:
		return http.StatusOK, encoded(made)
	}
}

// mint makes a token of whatever it is asked for.
func (r *recorder) mint(body string) (id string) {
	id = uuid.NewString()
	made := token{}
	_ = json.Unmarshal([]byte(body), &made) // what is no JSON is noticed where it is judged
	made["id"], made["token"] = id, aSecret
	r.tokens[id] = made
	return id
}

func encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(text)
}

// has reports whether there is such a token.
func (r *recorder) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there := r.tokens[id]
	return there
}

// forget takes a token away without a request.
func (r *recorder) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tokens, id)
}

// lie has the recorder show tokens as they are not, and say that deletions are
// done which are not.
func (r *recorder) lie(shows func(id string, made token) string, keeps int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shows, r.keeps = shows, keeps
}

// take returns what arrived since it was last called.
func (r *recorder) take() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// repeats reports whether an object in the text holds one name twice, once
// escapes are read. It is no parser of this project's.
func repeats(text string) bool {
	dec := json.NewDecoder(strings.NewReader(text))
	var value func() bool
	value = func() bool {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		names := map[string]bool{}
		switch token {
		case json.Delim('{'):
			for dec.More() {
				name, _ := dec.Token()
				if s, ok := name.(string); ok {
					if names[s] {
						return true
					}
					names[s] = true
				}
				if value() {
					return true
				}
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				if value() {
					return true
				}
			}
			_, _ = dec.Token()
		}
		return false
	}
	return value()
}
