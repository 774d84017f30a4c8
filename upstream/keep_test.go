package upstream_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

// What is kept, and what is not, is what upstream said, to the last byte, on
// either side of the limit and of what an answer holds back at first.
func TestKeep(t *testing.T) {
	const limit = 200 << 10
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, limit - 1, limit, limit + 1, 3 * limit} {
		for _, said := range []bool{true, false} {
			text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
				if !said {
					_ = http.NewResponseController(w).Flush() // no length
				}
				_, _ = io.WriteString(w, text)
			})
			r := start(t, s.URL, nil)
			resp, err := r.Do(t.Context(), upstream.Request{Method: "GET", Path: "/api/v1/x"})
			if err != nil {
				t.Fatal(err)
			}
			kept, rest, err := resp.Keep(limit)
			if err != nil || (kept != nil) != (size <= limit) || (rest != nil) == (kept != nil) {
				t.Fatalf("%d bytes, length said %v: %v, %v, %v", size, said, kept != nil, rest != nil, err)
			}
			answers := []*upstream.Response{rest}
			if kept != nil {
				answers = []*upstream.Response{kept.Response(), kept.Response()}
			}
			for _, a := range answers {
				body, err := io.ReadAll(a.Body)
				if err != nil || string(body) != text {
					t.Errorf("%d bytes, length said %v: read %d, %v", size, said, len(body), err)
				}
				if a.Status != http.StatusTooManyRequests || a.ContentType != "application/json" || a.RetryAfter != "7" ||
					a.ContentLength >= 0 && a.ContentLength != int64(size) {
					t.Errorf("%d bytes, length said %v: %d %q %q, length %d", size, said, a.Status, a.ContentType, a.RetryAfter, a.ContentLength)
				}
				if err := a.Body.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// An answer that breaks off is none, also where more of it was expected than is
// kept.
func TestKeepOfAnAnswerThatBreaksOff(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "200000")
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		panic(http.ErrAbortHandler)
	})
	r := start(t, s.URL, nil)
	resp, err := r.Do(t.Context(), upstream.Request{Method: "GET", Path: "/api/v1/x"})
	if err != nil {
		t.Fatal(err)
	}
	kept, rest, err := resp.Keep(1 << 20)
	if kept != nil || rest != nil {
		t.Error("it was kept")
	}
	refused(t, nil, err, policy.UpstreamBroken)
}
