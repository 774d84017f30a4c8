package scopegate

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/strictjson"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

// answerToken answers for one token: what upstream said of it is passed on, but
// for its own way of saying that there is none.
func (q *request) answerToken(resp *upstream.Response) bool {
	err, revokes := statusError(resp), q.match.Operation.ID == scopes.RevokeToken
	if revokes {
		ctx, cancel := q.carriedThrough(q.g.mintWithin())
		defer cancel()
		_, stored := q.g.room.ledger.Deleted(ctx, q.owned.token, err)
		q.settled(stored)
	}
	switch {
	case errors.Is(err, ledger.ErrNone):
		if !revokes && q.owned.token.Nonce != "" {
			ctx, cancel := q.carriedThrough(storePatience)
			defer cancel()
			q.settled(q.g.room.ledger.Vanished(ctx, q.owned.token))
		}
		q.answerFailure(refuse(policy.TokenNotFound))
		return false
	case resp.Status == http.StatusNotFound:
		q.answerFailure(refuse(policy.UpstreamShape).of(resp))
		return false
	case err == nil && !revokes:
		body, err := readWhole(resp)
		if err == nil {
			body, err = tokens.Object(body, q.match.Params[0])
		}
		return q.rebuilt(resp, body, err)
	}
	return q.relay(resp)
}

// maxTokenAnswer bounds an answer about one token, in bytes.
const maxTokenAnswer = 64 << 10

// readWhole reads an answer about one token, of which nothing is passed on
// before all of it was understood.
func readWhole(resp *upstream.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer+1))
	if err == nil && len(body) > maxTokenAnswer {
		err = tokens.ErrTooLarge
	}
	return body, err
}

// statusError tells what upstream says of one token: nothing, which is well,
// that there is none, or anything else.
func statusError(resp *upstream.Response) error {
	switch {
	case succeeded(resp):
		return nil
	case resp.Status == http.StatusNotFound && saysNone(resp):
		return ledger.ErrNone
	}
	err := &upstream.Error{Reason: policy.UpstreamStatus, UpstreamStatus: resp.Status}
	if resp.Status == http.StatusTooManyRequests {
		return &ledger.Wait{For: retryAfter(resp.RetryAfter), Cause: err}
	}
	return err
}

// saysNone reports whether a 404 is GoodAccess's own word that there is no such
// token. What it looks like is a guess: its other errors are JSON objects, and
// the page of a proxy on the way that knows no such path is none.
func saysNone(resp *upstream.Response) bool {
	if !isJSON([]string{resp.ContentType}, false) {
		return false
	}
	body, err := readWhole(resp)
	if err != nil {
		return false
	}
	value, err := strictjson.Parse(body)
	return err == nil && value.Kind() == strictjson.Object
}

// waiting says of an error that upstream wants to be left alone for a while.
func waiting(err error) error {
	var e *upstream.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return &ledger.Wait{For: e.RetryAfter, Cause: err}
	}
	return err
}

// retryAfter reads seconds or an HTTP date; 0 where it can read neither.
func retryAfter(text string) time.Duration {
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	d, err := time.ParseDuration(text + "s")
	if err != nil || d < 0 {
		return 0
	}
	return d
}
