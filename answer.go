package scopegate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

// Header values that never change, kept so that no request makes them anew.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
	asJSON  = []string{"application/json"}

	asProblem = []string{"application/problem+json"}
)

// answer passes the upstream's answer on: step 8. Of the token API's, what was
// made, read or listed is looked through first, and what became of a token is
// told to the ledger. It reports whether the caller got all of it.
func (q *request) answer(resp *upstream.Response) (complete bool) {
	switch q.match.Operation.ID {
	case scopes.ListTokens:
		if succeeded(resp) {
			return q.answerList(resp)
		}
	case scopes.GetToken, scopes.RevokeToken:
		return q.answerToken(resp)
	case scopes.CreateToken:
		if succeeded(resp) {
			return q.answerMint(resp)
		}
		q.drop() // refused as it was asked for: there is no token
	}
	return q.relay(resp)
}

func succeeded(resp *upstream.Response) bool { return resp.Status/100 == 2 }

// rebuilt answers with a body made here, or with 502 where the upstream's was
// not understood: an unknown shape may hold anything.
func (q *request) rebuilt(resp *upstream.Response, body []byte, err error) bool {
	if err != nil {
		q.answerFailure(refuseUnread(err).of(resp))
		return false
	}
	return q.reply(resp.Status, asJSON, body)
}

// relay streams an answer through. Where it breaks off, so does ours: a
// caller must never take half an answer for the whole.
func (q *request) relay(resp *upstream.Response) bool {
	h := q.w.Header()
	if resp.RetryAfter != "" {
		h["Retry-After"] = []string{resp.RetryAfter}
	}
	kind := q.one(contentType(resp))
	if body, ok := resp.Whole(); ok {
		return q.reply(resp.Status, kind, body)
	}
	h["Content-Type"] = kind
	if resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	q.commonHeaders(h)
	q.status = resp.Status
	q.w.WriteHeader(resp.Status)
	var err error
	if q.written, err = copyBody(q.w, resp); err == nil {
		return true
	}
	q.reason = policy.ClientGone
	if e := new(upstream.Error); errors.As(err, &e) {
		q.reason = e.Reason
	}
	panic(http.ErrAbortHandler)
}

// contentType is what upstream says, or what browsers do not look into.
func contentType(resp *upstream.Response) string {
	return cmp.Or(resp.ContentType, "application/octet-stream")
}

// buffers are what answers are copied through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody copies an answer as it comes. One whose length is not known may be
// a slow stream, so each piece is sent on at once.
func copyBody(w http.ResponseWriter, resp *upstream.Response) (written int64, err error) {
	buf := buffers.Get().(*[32 << 10]byte) //nolint:forcetypeassert // only these are stored in it
	defer buffers.Put(buf)
	var flush func() error
	if resp.ContentLength < 0 {
		flush = http.NewResponseController(w).Flush
	}
	for {
		n, readErr := resp.Body.Read(buf[:])
		if n > 0 {
			m, err := w.Write(buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
			if flush != nil {
				_ = flush()
			}
		}
		switch {
		case readErr == io.EOF:
			return written, nil
		case readErr != nil:
			return written, readErr
		}
	}
}

// reply writes a whole answer.
func (q *request) reply(status int, contentType []string, body []byte) bool {
	h := q.w.Header()
	h["Content-Type"] = contentType
	if len(body) > countedAlready {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	q.commonHeaders(h)
	q.status = status
	q.w.WriteHeader(status)
	n, err := q.w.Write(body)
	q.written = int64(n)
	if err != nil {
		q.reason = policy.ClientGone
	}
	return err == nil
}

// countedAlready is up to how many bytes net/http finds a body's length out by
// itself. A permitted answer has eight headers without it and Caddy's own
// Server, and eight is what a map of Go holds before it grows to a table, which
// net/http then copies: the ninth costs more than the eight.
const countedAlready = 2 << 10

// commonHeaders sets what every answer carries.
func (q *request) commonHeaders(h http.Header) {
	delete(h, "Server")
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	if q.id != "" {
		h["Scopegate-Decision-Id"] = q.one(q.id)
	}
}

// answerFailure writes a refusal as problem+json.
func (q *request) answerFailure(no *refusal) {
	q.reason = no.reason
	why := because{reason: no.reason}
	if no.reason == policy.InsufficientScope {
		why.scope = q.match.Operation.ScopeName()
	}
	no.headers(q, why)
	q.reply(statusOf(no.reason), asProblem, no.body(q.id, why))
}

// encode writes an answer of our own. It leaves < and > as they are: no
// browser takes JSON for a page, and people read these texts.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings, numbers and times alone
	}
	return b.Bytes()
}
