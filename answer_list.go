package scopegate

import (
	"bufio"
	"net/http"
	"strconv"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

// answerList answers with the caller's tokens, once upstream's list was read to
// its end. Who sees all of them gets any number, as they are read.
func (q *request) answerList(resp *upstream.Response) bool {
	if q.seesAll() {
		return q.answerAll(resp)
	}
	list, err := tokens.List(resp.Body, q.owns)
	return q.rebuilt(resp, list, err)
}

// holdBack is how much of everyone's tokens is held back until it is known to
// be in order. What is found wrong later can only break the answer off.
const holdBack = 64 << 10

func (q *request) answerAll(resp *upstream.Response) bool {
	answer := &late{q: q, status: resp.Status}
	held := bufio.NewWriterSize(answer, holdBack)
	err := tokens.Stream(held, resp.Body, q.owns)
	if !answer.begun {
		if err != nil {
			q.answerFailure(refuseUnread(err).of(resp))
			return false
		}
		q.w.Header()["Content-Length"] = []string{strconv.Itoa(held.Buffered())}
	}
	if err == nil {
		err = held.Flush()
	}
	switch {
	case err == nil:
		return true
	case answer.failed:
		q.reason = policy.ClientGone
	default:
		q.reason = refuseUnread(err).reason
	}
	panic(http.ErrAbortHandler)
}

// late is an answer that begins with the first byte of its body.
type late struct {
	q             *request
	status        int
	begun, failed bool
}

func (l *late) Write(p []byte) (int, error) {
	q := l.q
	if !l.begun {
		l.begun = true
		h := q.w.Header()
		h["Content-Type"] = asJSON
		q.commonHeaders(h)
		q.status = l.status
		q.w.WriteHeader(l.status)
	}
	n, err := q.w.Write(p)
	q.written += int64(n)
	l.failed = err != nil
	return n, err
}
