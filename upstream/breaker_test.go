package upstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/policy"
)

func TestBreakerOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []int
		b := newBreaker(func(s int) { states = append(states, s) })
		pass := func(h health) error {
			_, err := b.Execute(func() (*Response, error) { return nil, &Error{Reason: policy.UpstreamError, health: h} })
			return err
		}
		for range tripAfter - 1 {
			_ = pass(failing)
		}
		_ = pass(alive) // one answer, and the count begins anew
		for range tripAfter {
			if refused(pass(failing)) {
				t.Fatal("open before the last failure")
			}
			// Callers who leave and broken connections say nothing.
			_ = pass(unclear)
		}
		if err := pass(alive); !refused(err) {
			t.Fatalf("open breaker gave %v", err)
		}
		time.Sleep(openFor + 1)
		// Half-open, and the one who finds out leaves: the next one must.
		if err := pass(unclear); refused(err) {
			t.Fatal("nobody may find out")
		}
		if err := pass(failing); refused(err) {
			t.Fatal("a caller who left holds the only try")
		}
		if err := pass(alive); !refused(err) {
			t.Fatalf("a failed try left it open to %v", err)
		}
		time.Sleep(openFor + 1)
		_ = pass(alive)
		_ = pass(alive)
		if diff := cmp.Diff([]int{2, 1, 2, 1, 0}, states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

// A retry that the exchange's time does not allow is not waited for.
func TestSleepKeepsToTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		began := time.Now()
		if sleep(ctx, time.Second) || !time.Now().Equal(began) {
			t.Error("it waited for the deadline")
		}
		if !sleep(ctx, time.Millisecond) {
			t.Error("there was time")
		}
		cancel()
		if sleep(ctx, time.Millisecond) {
			t.Error("it slept though nobody waits")
		}
	})
}

// A panic in an attempt must not be taken for upstream's fault, nor for its
// health.
func TestHealthOfUnknownErrors(t *testing.T) {
	if healthOf(errors.New("boom")) != unclear || healthOf(nil) != alive {
		t.Error("an unknown error was judged")
	}
}

func TestSlotsAreShared(t *testing.T) {
	s := newSlots(8, 2)
	taken := 0
	for s.take("loud") {
		taken++
	}
	if taken != 6 {
		t.Errorf("one of two teams got %d of 8", taken)
	}
	if !s.take("quiet") || !s.take("quiet") || s.take("quiet") {
		t.Error("the rest was not the others'")
	}
	s.give("loud")
	if !s.take("quiet") {
		t.Error("a slot given back was lost")
	}
	for _, c := range []struct{ total, teams, share int }{{8, 1, 8}, {8, 0, 8}, {1, 9, 1}, {3, 2, 2}} {
		if got := newSlots(c.total, c.teams).share; got != c.share {
			t.Errorf("%d slots of %d teams: share %d, want %d", c.total, c.teams, got, c.share)
		}
	}
}
