package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/cenkalti/backoff/v5"

	"github.com/scopegate/scopegate/policy"
)

// exchange is a request on its way to upstream and back, and what it holds
// meanwhile: a slot, and a context with an end. All of it lies in one piece of
// memory, since every request needs one.
type exchange struct {
	Request
	f        *Forwarder
	outward  outward
	ctx      context.Context //nolint:containedctx // of this exchange; it says why one failed
	cancel   context.CancelFunc
	url      url.URL
	response Response
}

// end gives back what the exchange holds.
func (x *exchange) end() {
	x.cancel()
	x.f.slots.give(x.Team)
}

// persist tries a request, and a read that failed in passing again, for as
// long as the time of the exchange allows.
func (x *exchange) persist() (*Response, error) {
	resp, err := x.try()
	if err == nil || x.Method != http.MethodGet {
		return resp, err
	}
	pause := backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	for range x.f.retries {
		var e *Error
		if !errors.As(err, &e) || !e.retryable() || !sleep(x.ctx, pause.NextBackOff()) {
			break
		}
		again, second := x.try()
		if second == nil {
			return again, nil
		}
		if errors.As(second, &e) && e.Reason == policy.UpstreamBreakerOpen {
			break // what opened it says more
		}
		err = second
	}
	return nil, err
}

// sleep reports whether the time was left to sleep.
func sleep(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try makes one attempt, if the breaker lets it.
func (x *exchange) try() (*Response, error) {
	resp, err := x.f.breaker.Execute(x.attempt)
	if !refused(err) {
		return resp, err
	}
	if x.Revokes {
		return x.attempt()
	}
	return nil, errBreakerOpen()
}

func (x *exchange) attempt() (*Response, error) {
	in, t, err := x.send()
	if err != nil {
		return nil, classify(x.ctx, err, policy.UpstreamUnreachable)
	}
	return x.receive(in, t)
}

// send is the one place where the master token meets a request: a clone that
// nothing but the transport ever sees. It returns the token that was used,
// which the answer is searched for.
func (x *exchange) send() (*http.Response, *token, error) {
	t := x.f.master.current.Load()
	plain := http.Request{Method: x.Method, URL: &x.url, Host: x.url.Host}
	header := t.forms().bare
	if len(x.Body) > 0 {
		header = t.forms().withBody
		plain.Body = newPayload(x.Body)
		plain.ContentLength = int64(len(x.Body))
		if x.Method == http.MethodGet {
			// Lets the transport send a read again when a connection that it
			// kept turns out to be dead. For a change it must not.
			plain.GetBody = func() (io.ReadCloser, error) { return newPayload(x.Body), nil }
		}
	}
	clone := plain.WithContext(x.ctx)
	clone.Header = header
	in, err := x.f.transport.RoundTrip(clone)
	return in, t, err
}

// payload is a body in memory.
type payload struct{ bytes.Reader }

func newPayload(b []byte) *payload {
	p := new(payload)
	p.Reset(b)
	return p
}

// Close does nothing: the bytes are the caller's.
func (*payload) Close() error { return nil }

// outward is the context of a request to upstream: the caller's, but for the
// values by which Caddy's transport could let what the caller sent decide
// where a request goes. Placeholders get a replacer that knows no request,
// and the caller's variables stay out of reach, also because a dial may
// outlast the request that they belong to.
type outward struct {
	context.Context
	replacer *caddy.Replacer
}

// Value hides the request's values from the transport.
func (o *outward) Value(key any) any {
	switch key {
	case caddy.ReplacerCtxKey:
		return o.replacer
	case caddyhttp.VarsCtxKey:
		return nil
	}
	return o.Context.Value(key)
}
