package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/scopegate/scopegate/policy"
)

// ErrLeak is wrapped by the error of an answer in which the master token
// occurs.
var ErrLeak = errors.New("the master token occurs in the answer")

// Error says why there is no answer to relay, or none to the end. Its text
// is for logs; it holds no secret, but addresses that callers need not know.
type Error struct {
	Reason policy.Reason

	// UpstreamStatus is the status of an answer that is not relayed; 0 where
	// there was none.
	UpstreamStatus int

	// RetryAfter is when another try may do better; 0 where that is unknown.
	RetryAfter time.Duration

	// Unsent is true only where upstream certainly saw nothing of the
	// request. Of a change that failed otherwise, nobody knows whether it was
	// made.
	Unsent bool

	Err error // nil where the reason says it all

	health health
}

// health is what an outcome tells the breaker of upstream.
type health uint8

const (
	alive   health = iota // it answered
	failing               // it was not reached, too slow, or said so itself
	unclear               // the caller left, or the connection broke
)

// Error tells the reason, the status and the cause.
func (e *Error) Error() string {
	text := e.Reason.String()
	if e.UpstreamStatus != 0 {
		text = fmt.Sprintf("%s: status %d", text, e.UpstreamStatus)
	}
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, e.Err)
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// retryable reports whether another try may do better. A timeout is none of
// these: it has used up the time that a retry would need.
func (e *Error) retryable() bool {
	switch e.Reason {
	case policy.UpstreamUnreachable, policy.UpstreamBroken:
		return true
	case policy.UpstreamError:
		return e.health == failing
	}
	return false
}

// classify turns an error of the transport into ours. The context tells a
// caller who left from a time that ran out, whatever words the transport
// found for it. otherwise is the reason of an error of no other class.
func classify(ctx context.Context, err error, otherwise policy.Reason) *Error {
	e := &Error{Reason: otherwise, Err: err, health: unclear}
	var (
		dial    reverseproxy.DialError
		timeout net.Error
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		op      *net.OpError
	)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Reason = policy.ClientGone
	case errors.As(err, &dial):
		e.Reason, e.health, e.Unsent = policy.UpstreamUnreachable, failing, true
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		e.Reason, e.health = policy.UpstreamTimeout, failing
	case errors.As(err, &cert), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		e.health, e.Unsent = failing, true
	case errors.As(err, &alert), errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"):
		// An alert. TLS 1.3 may refuse the gateway's certificate only after
		// the request was written, so this one may have been seen.
		e.health = failing
	}
	return e
}
