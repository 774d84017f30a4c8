package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
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
	leaked     rate.Sometimes
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
		complaints: rate.Sometimes{First: 1, Interval: time.Minute}, leaked: rate.Sometimes{First: 1, Interval: time.Minute},
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
	x := &exchange{Request: r, f: f, outward: outward{ctx, f.replacer}, url: f.base}
	x.url.Path = r.Path
	x.ctx, x.cancel = context.WithTimeout(&x.outward, f.timeout)
	resp, err := x.persist()
	if err != nil {
		x.end()
		return nil, err
	}
	if _, ok := resp.body.whole(); ok {
		// What is in memory needs no upstream: a caller who is slow to read
		// it holds up nobody else.
		resp.body.end()
	}
	return resp, nil
}

// nobody is told nothing.
type nobody struct{}

func (nobody) Breaker(int)            {}
func (nobody) MasterLoaded(time.Time) {}
func (nobody) MasterRejected()        {}
