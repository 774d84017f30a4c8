package integration_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// received is one request as it arrived upstream.
type received struct {
	method, target string // the request line, untouched
	host           string
	header         http.Header
	length         int64 // -1 is chunked
	trailer        http.Header
	body           string
}

// recorder is an upstream that notes what arrives and answers in the shapes
// of GoodAccess.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	list []received
}

// What the recorder answers. No caller may ever see the second token of the
// list, and the headers are for nobody.
const (
	mintedID   = "0d9a4f3e-1c57-4b8e-a2d6-7f1e3c5b9a80"
	mintAnswer = `{"created_id":"` + mintedID + `","message":"Token created successfully","token":"the-new-secret"}`
	listAnswer = `[{"id":"` + aToken + `","name":"master","token":"somebody-elses-secret"}]`
	anyAnswer  = `{"created_id":"made-1","message":"done"}`
)

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
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
	text := anyAnswer
	switch in.RequestURI {
	case "/api/v1/token":
		text = mintAnswer
	case "/api/v1/tokens":
		text = listAnswer
	}
	_, _ = io.WriteString(w, text)
	h.Set("X-Trailer", "upstream")
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
