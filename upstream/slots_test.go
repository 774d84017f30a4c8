package upstream_test

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

func TestDoSharesSlots(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = w.Write(make([]byte, 1<<20)) // more than is held, so that the exchange lasts
	})
	t.Cleanup(free)
	r := start(t, s.URL, func(c *upstream.Config, o *upstream.Options) { c.MaxInFlight, o.Teams = 4, 2 })
	var wg sync.WaitGroup
	answers := make(chan *upstream.Response, 4)
	busy := make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			resp, err := r.Do(t.Context(), get)
			if err != nil {
				busy <- err
				return
			}
			answers <- resp
		})
	}
	e := refused(t, nil, <-busy, policy.UpstreamBusy)
	if e.RetryAfter != time.Second || !e.Unsent {
		t.Errorf("got %+v", e)
	}
	free()
	wg.Wait()
	other := get
	other.Team = "payroll"
	resp, err := r.Do(t.Context(), other)
	if err != nil {
		t.Fatalf("the other team: %v", err)
	}
	resp.Body.Close()
	resp, err = r.Do(t.Context(), get)
	refused(t, resp, err, policy.UpstreamBusy)
	for range 3 {
		a := <-answers
		a.Body.Close()
		a.Body.Close() // twice is once
	}
	resp, err = r.Do(t.Context(), get)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	resp.Body.Close()
}

// What is in memory holds no slot, however slow its reader.
func TestDoGivesTheSlotOfASmallAnswerBackAtOnce(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
	r := start(t, s.URL, func(c *upstream.Config, _ *upstream.Options) { c.MaxInFlight = 1 })
	for range 3 {
		resp, err := r.Do(t.Context(), get)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, whole := resp.Whole(); !whole || string(body) != "[]" {
			t.Errorf("got %q", body)
		}
	}
}
