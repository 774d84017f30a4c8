package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/scopegate/scopegate/policy"
)

// Events is told what the gateway should count. Its methods must not call
// back.
type Events interface {
	Breaker(state int) // 0 closed, 1 half-open, 2 open
	MasterLoaded(at time.Time)
	MasterRejected()
}

// Options is what a Forwarder is given besides its configuration.
type Options struct {
	Events    Events      // nil: nobody is told
	Logger    *zap.Logger // nil: nothing is logged
	UserAgent string      // default: scopegate
	Teams     int         // how many teams share the slots
}

// Forwarder carries requests to one API with one master token.
type Forwarder struct {
	base       url.URL
	master     *master
	transport  http.RoundTripper
	replacer   *caddy.Replacer
	timeout    time.Duration
	retries    int
	breaker    *gobreaker.CircuitBreaker[*Response]
	slots      *slots
	events     Events
	logger     *zap.Logger
	complaints rate.Sometimes
	close      func() error
}

// Request is a request as it was decided: all of it that upstream will see
// but the headers, which are the forwarder's own.
type Request struct {
	Method string
	Path   string // absolute and made of unreserved bytes, as scopes.Match gives it
	Body   []byte // JSON; empty is none
	Team   string // whose slot it takes; "" for the gateway's own

	// Revokes lets the request pass an open breaker: a token that has to go
	// is not left alive because upstream had a bad minute.
	Revokes bool
}

// New loads the transport and the master token, and watches the token's file.
func New(ctx caddy.Context, c *Config, o Options) (*Forwarder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if strings.Contains(os.Getenv("GODEBUG"), "http2debug") {
		return nil, errors.New("upstream: GODEBUG=http2debug makes Go print every header that is sent, the master token's too; remove it from the environment")
	}
	f := &Forwarder{
		replacer: caddy.NewReplacer(), timeout: c.Patience(), retries: c.retries(),
		slots: newSlots(c.maxInFlight(), o.Teams), events: o.Events, logger: o.Logger,
		complaints: rate.Sometimes{First: 1, Interval: time.Minute},
	}
	if f.events == nil {
		f.events = nobody{}
	}
	if f.logger == nil {
		f.logger = zap.NewNop()
	}
	if o.UserAgent == "" {
		o.UserAgent = "scopegate"
	}
	f.breaker = newBreaker(f.events.Breaker)
	f.events.Breaker(int(gobreaker.StateClosed))

	where, err := c.source()
	if err != nil {
		return nil, err
	}
	f.master = &master{source: where, userAgent: o.UserAgent, logger: f.logger, loaded: f.events.MasterLoaded}
	if err := f.master.load(); err != nil {
		return nil, err
	}
	idle, err := f.load(ctx, c)
	if err != nil {
		return nil, err
	}
	stop := func() {}
	if where.path != "" {
		stop = f.master.follow()
	}
	f.close = sync.OnceValue(func() error {
		stop()
		return idle()
	})
	return f, nil
}

// load makes Caddy's transport. It returns what closes idle connections.
func (f *Forwarder) load(ctx caddy.Context, c *Config) (func() error, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	f.base = *base
	h, err := c.transport(base)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("upstream: completing transport: %w", err)
	}
	mod, err := ctx.LoadModuleByID(transportID, raw)
	if err != nil {
		return nil, fmt.Errorf("upstream: loading transport: %w", err)
	}
	rt, ok := mod.(interface {
		http.RoundTripper
		caddy.CleanerUpper
	})
	if !ok {
		return nil, fmt.Errorf("upstream: transport %T is no round tripper", mod)
	}
	f.transport = rt
	return rt.Cleanup, nil
}

// Close stops watching the token and closes idle connections. Exchanges that
// run go on.
func (f *Forwarder) Close() error {
	if f == nil {
		return nil
	}
	return f.close()
}

// Ready reports whether there is a master token.
func (f *Forwarder) Ready() error {
	if f.master.current.Load() == nil {
		return errors.New("no master token is loaded")
	}
	return nil
}

// Do carries a request to upstream and returns an answer that may be relayed,
// or an error of type *Error. A read ends when its caller leaves. A change,
// once begun, runs to its end or its timeout: a caller who hangs up cannot
// leave it half known.
func (f *Forwarder) Do(ctx context.Context, r Request) (*Response, error) {
	if !f.slots.take(r.Team) {
		return nil, &Error{Reason: policy.UpstreamBusy, RetryAfter: time.Second, Unsent: true}
	}
	if r.Method != http.MethodGet {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(outward{ctx, f.replacer}, f.timeout)
	resp, err := f.persist(ctx, &r)
	if err != nil {
		cancel()
		f.slots.give(r.Team)
		return nil, err
	}
	b := &resp.body
	b.ctx, b.cancel, b.f, b.team, b.path = ctx, cancel, f, r.Team, r.Path
	if _, ok := b.whole(); ok {
		// What is in memory needs no upstream: a caller who is slow to read
		// it holds up nobody else.
		b.end()
	}
	return resp, nil
}

// persist tries a request, and a read that failed in passing again, for as
// long as the time of the exchange allows.
func (f *Forwarder) persist(ctx context.Context, r *Request) (*Response, error) {
	resp, err := f.try(ctx, r)
	if err == nil || r.Method != http.MethodGet {
		return resp, err
	}
	pause := backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	for range f.retries {
		var e *Error
		if !errors.As(err, &e) || !e.retryable() || !sleep(ctx, pause.NextBackOff()) {
			break
		}
		again, second := f.try(ctx, r)
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
func (f *Forwarder) try(ctx context.Context, r *Request) (*Response, error) {
	resp, err := f.breaker.Execute(func() (*Response, error) { return f.attempt(ctx, r) })
	if !refused(err) {
		return resp, err
	}
	if r.Revokes {
		return f.attempt(ctx, r)
	}
	return nil, errBreakerOpen()
}

func (f *Forwarder) attempt(ctx context.Context, r *Request) (*Response, error) {
	in, t, err := f.send(ctx, r)
	if err != nil {
		return nil, classify(ctx, err, policy.UpstreamUnreachable)
	}
	return f.receive(ctx, r, in, t)
}

// send is the one place where the master token meets a request: a clone that
// nothing but the transport ever sees. It returns the token that was used,
// which the answer is searched for.
func (f *Forwarder) send(ctx context.Context, r *Request) (*http.Response, *token, error) {
	t := f.master.current.Load()
	to := f.base
	to.Path = r.Path
	plain := http.Request{Method: r.Method, URL: &to, Host: to.Host}
	header := t.forms().bare
	if len(r.Body) > 0 {
		header = t.forms().withBody
		plain.Body = newPayload(r.Body)
		plain.ContentLength = int64(len(r.Body))
		if r.Method == http.MethodGet {
			// Lets the transport send a read again when a connection that it
			// kept turns out to be dead. For a change it must not.
			plain.GetBody = func() (io.ReadCloser, error) { return newPayload(r.Body), nil }
		}
	}
	clone := plain.WithContext(ctx)
	clone.Header = header
	in, err := f.transport.RoundTrip(clone)
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
func (o outward) Value(key any) any {
	switch key {
	case caddy.ReplacerCtxKey:
		return o.replacer
	case caddyhttp.VarsCtxKey:
		return nil
	}
	return o.Context.Value(key)
}

// nobody is told nothing.
type nobody struct{}

func (nobody) Breaker(int)            {}
func (nobody) MasterLoaded(time.Time) {}
func (nobody) MasterRejected()        {}
