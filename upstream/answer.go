package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/policy"
)

// Response is an answer that may be relayed. ContentType and RetryAfter are
// all of upstream's header that a caller may see: what else there is (cookies,
// locations, CORS, trailers, the account's own rate limits) ends here.
type Response struct {
	Status      int    // 2xx but 206, 400, 404, 409, 422 or 429
	ContentType string // as upstream says it; "" where it does not
	RetryAfter  string // of a 429: seconds or an HTTP date; else ""
	Date        string // upstream's clock, for the preflight; not relayed

	// ContentLength is the length of the body in bytes, -1 where upstream
	// does not say it.
	ContentLength int64

	// Body is never nil and must be closed. Its errors are of type *Error;
	// after one, what was read is not the whole answer and whoever relays it
	// must break off, so that the receiver sees that too.
	Body io.ReadCloser

	body body
}

// Whole returns the body's bytes where all of it is in memory already, which
// it is up to 64 KiB. They belong to the body: no use after its Close.
func (r *Response) Whole() ([]byte, bool) { return r.body.whole() }

// body is a scanned body that gives back what its exchange holds.
type body struct {
	scanned
	exchange *exchange // nil once it has ended
}

// Read reads on. Its errors but io.EOF are of type *Error.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ready, err := b.next()
	if err != nil {
		return 0, b.explain(err)
	}
	n := copy(p, ready)
	b.took(n)
	return n, nil
}

// WriteTo writes from the buffer itself, so that io.Copy needs none. The
// errors of reading are of type *Error, those of writing are w's.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		ready, err := b.next()
		switch {
		case err == io.EOF: //nolint:errorlint // a reader's own EOF is never wrapped
			return total, nil
		case err != nil:
			return total, b.explain(err)
		}
		n, err := w.Write(ready)
		total += int64(n)
		b.took(n)
		if err != nil {
			return total, err
		}
	}
}

// Close ends the exchange. It may be called more than once.
func (b *body) Close() error {
	b.end()
	b.release()
	return nil
}

// end gives back the connection, the context and the slot, once.
func (b *body) end() {
	if b.exchange == nil {
		return
	}
	_ = b.src.Close() // what it could say, reading has said
	b.exchange.end()
	b.exchange = nil
}

// explain makes an *Error of what ended the reading, once.
func (b *body) explain(err error) error {
	var known *Error
	switch {
	case err == io.EOF, errors.As(err, &known), b.exchange == nil: //nolint:errorlint // as above
		return err
	case errors.Is(err, ErrLeak):
		b.err = b.exchange.f.leak(b.exchange.Path)
	default:
		b.err = classify(b.exchange.ctx, err, policy.UpstreamBroken)
	}
	return b.err
}

// receive takes an answer that has begun: it refuses what is not relayed and
// holds back the beginning of what is.
func (x *exchange) receive(in *http.Response, t *token) (*Response, error) {
	if e := x.f.refuse(&x.Request, in, t); e != nil {
		_ = in.Body.Close()
		return nil, e
	}
	out := &x.response
	*out = Response{
		Status:        in.StatusCode,
		ContentType:   first(in.Header["Content-Type"]),
		Date:          first(in.Header["Date"]),
		ContentLength: in.ContentLength,
	}
	if in.StatusCode == http.StatusTooManyRequests {
		out.RetryAfter = retryAfter(first(in.Header["Retry-After"]))
	}
	out.body = body{scanned: newScanned(in.Body, t), exchange: x}
	out.body.hold()
	err := out.body.err
	if err == io.EOF { //nolint:errorlint // as above
		out.ContentLength, err = int64(out.body.filled), nil
	}
	if err != nil {
		_ = in.Body.Close()
		out.body.release()
		if errors.Is(err, ErrLeak) {
			return nil, x.f.leak(x.Path)
		}
		return nil, classify(x.ctx, err, policy.UpstreamBroken)
	}
	out.Body = &out.body
	return out, nil
}

// refuse tells what of an answer's head speaks against it.
func (f *Forwarder) refuse(r *Request, in *http.Response, t *token) *Error {
	reason, h := judge(in.StatusCode)
	switch {
	case reason == policy.UpstreamUnauthorized, reason == policy.UpstreamForbidden:
		f.rejected(r, in.StatusCode)
	case reason != policy.Allowed:
	case encoded(in.Header):
		reason = policy.UpstreamShape
	case leaks(in.Header, t):
		return f.leak(r.Path)
	default:
		return nil
	}
	return &Error{Reason: reason, UpstreamStatus: in.StatusCode, health: h}
}

// judge says what an answer of this status is worth: Allowed is relayed.
func judge(status int) (policy.Reason, health) {
	switch {
	case status == http.StatusUnauthorized:
		return policy.UpstreamUnauthorized, alive
	case status == http.StatusForbidden:
		return policy.UpstreamForbidden, alive
	case status >= 300 && status <= 303, status == 307, status == 308:
		return policy.UpstreamRedirect, alive
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return policy.UpstreamError, failing
	case status >= 500:
		return policy.UpstreamError, alive
	case relayed(status):
		return policy.Allowed, alive
	}
	return policy.UpstreamStatus, alive // a 101 too: a tunnel is nobody's to police
}

// relayed reports whether a status means to the caller what it means to the
// gateway. A 206 is a part that nobody asked for.
func relayed(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		return true
	}
	return status/100 == 2 && status != http.StatusPartialContent
}

// encoded reports whether the body is not the plain bytes that are searched
// for the master token.
func encoded(h http.Header) bool {
	for _, v := range h["Content-Encoding"] {
		if v != "" && !strings.EqualFold(v, "identity") {
			return true
		}
	}
	return false
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// retryAfter passes on the two forms that the header has and nothing else.
func retryAfter(v string) string {
	seconds := v != "" && len(v) <= 10 && strings.Trim(v, "0123456789") == ""
	if _, err := http.ParseTime(v); err != nil && !seconds {
		return ""
	}
	return v
}

// rejected makes it known that upstream does not accept the master token.
// Each rejection is counted; the log gets one a minute, since every request
// meets the same.
func (f *Forwarder) rejected(r *Request, status int) {
	f.events.MasterRejected()
	f.complaints.Do(func() {
		f.logger.Error("upstream rejects the master token; it may have expired, been revoked or lack a scope",
			zap.Int("status", status), zap.String("method", r.Method), zap.String("path", r.Path))
	})
}

// leak makes it known that an answer has the master token in it: in the log
// once a minute, since a caller can ask for it as often as he likes.
func (f *Forwarder) leak(path string) *Error {
	f.leaked.Do(func() {
		f.logger.Error("the master token occurs in an answer of upstream, which was withheld; exchange the token", zap.String("path", path))
	})
	return &Error{Reason: policy.UpstreamLeak, Err: ErrLeak}
}
