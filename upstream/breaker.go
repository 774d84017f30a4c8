package upstream

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/scopegate/scopegate/policy"
)

const (
	// tripAfter failures in a row open the breaker: several exchanges, so
	// that one read and its retries do not, and few enough to be seen soon.
	tripAfter = 10

	// openFor is how long an open breaker refuses before it lets one request
	// find out whether upstream is back.
	openFor = 5 * time.Second
)

// newBreaker makes the breaker that keeps requests from an upstream which
// does not answer. state is told of every change: 0 closed, 1 half-open,
// 2 open.
func newBreaker(state func(int)) *gobreaker.CircuitBreaker[*Response] {
	return gobreaker.NewCircuitBreaker[*Response](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		IsSuccessful: func(err error) bool {
			return healthOf(err) == alive
		},
		IsExcluded: func(err error) bool {
			return healthOf(err) == unclear
		},
		OnStateChange: func(_ string, _, to gobreaker.State) { state(int(to)) },
	})
}

func healthOf(err error) health {
	if err == nil {
		return alive
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.health
	}
	return unclear // a panic on its way through
}

// refused reports whether the error is the breaker's own.
func refused(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}

func errBreakerOpen() *Error {
	return &Error{Reason: policy.UpstreamBreakerOpen, RetryAfter: openFor, Unsent: true}
}
