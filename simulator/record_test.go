package simulator_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/scopegate/scopegate/simulator"
)

func TestRequestsShowWhatArrived(t *testing.T) {
	a := open(t, simulator.Options{})
	a.do("wrong", "GET", "/api/v1/admin-logs?x=%20y", `{"page":1}`, "X-Extra: 1", "X-Extra: 2")
	a.do("", "BREW", "/coffee", "")
	a.do("", "PUT", "/api/v1/members", "")
	seen := a.sim.Requests()
	if len(seen) != 3 {
		t.Fatalf("%d requests", len(seen))
	}
	first := seen[0]
	if first.Number != 1 || first.Operation != "listAdminLogs" || first.Method != "GET" ||
		first.Host != "upstream.example.com" || first.Path != "/api/v1/admin-logs" || first.Query != "x=%20y" ||
		string(first.Body) != `{"page":1}` || first.Header.Get("Authorization") != "Bearer wrong" ||
		strings.Join(first.Header.Values("X-Extra"), ",") != "1,2" {
		t.Errorf("seen %+v", first)
	}
	for _, other := range seen[1:] {
		if other.Operation != "" {
			t.Errorf("seen %+v, want no operation", other)
		}
	}
	a.sim.Forget()
	a.must("GET", connection, "")
	if seen := a.sim.Requests(); len(seen) != 1 || seen[0].Number != 4 {
		t.Errorf("after Forget: %+v", seen)
	}
}

// A soak test must not fill the memory with its own record.
func TestRecordIsBounded(t *testing.T) {
	t.Run("by number", func(t *testing.T) {
		a := open(t, simulator.Options{})
		const sent = 3000
		for range sent {
			a.do("", "GET", connection, "")
		}
		seen := a.sim.Requests()
		if len(seen) != 1024 || seen[0].Number != sent-1023 || seen[1023].Number != sent {
			t.Errorf("%d kept, from %d to %d", len(seen), seen[0].Number, seen[len(seen)-1].Number)
		}
	})
	t.Run("by size", func(t *testing.T) {
		a := open(t, simulator.Options{})
		body := strings.Repeat("x", simulator.MaxBody)
		for range 40 {
			a.do("", "POST", "/api/v1/member", body)
		}
		if seen := a.sim.Requests(); len(seen) != 31 || seen[30].Number != 40 {
			t.Errorf("%d kept", len(seen))
		}
	})
}

func TestBodyRejects(t *testing.T) {
	a := open(t, simulator.Options{})
	if g := a.do(a.sim.Master(), "POST", "/api/v1/member", strings.Repeat(" ", simulator.MaxBody+1)); g.status != 413 {
		t.Errorf("too large: status %d, want 413", g.status)
	}
	r := httptest.NewRequest("POST", "/api/v1/member", io.MultiReader(
		strings.NewReader(`{"na`), iotest.ErrReader(errors.New("cut off"))))
	w := httptest.NewRecorder()
	a.sim.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("cut off: status %d, want 400", w.Code)
	}
	if seen := a.sim.Requests(); len(seen) != 2 || string(seen[1].Body) != `{"na` {
		t.Errorf("seen %d requests", len(seen))
	}
}

func TestManyAtOnce(t *testing.T) {
	a := open(t, simulator.Options{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				heal := a.sim.Fail(simulator.Fault{Operation: "getGroup", Times: 2, Effect: simulator.Garble()})
				g := a.do(a.sim.Master(), "POST", "/api/v1/token", `{"allowed_scopes":["members.read-all"]}`)
				var made struct {
					ID     string `json:"created_id"`
					Secret string `json:"token"`
				}
				g.into(t, &made)
				a.do(made.Secret, "GET", "/api/v1/members", "")
				a.do(a.sim.Master(), "GET", "/api/v1/group/"+simulator.GroupID, "")
				a.do(a.sim.Master(), "PUT", "/api/v1/member/"+simulator.MemberID, `{"name":"x"}`)
				a.do(a.sim.Master(), "POST", "/api/v1/member/"+simulator.MemberID+"/disconnect", "")
				a.do(a.sim.Master(), "GET", "/api/v1/gateway-level-logs", "")
				a.do(a.sim.Master(), "DELETE", "/api/v1/token/"+made.ID, "")
				a.sim.Requests()
				heal()
			}
		})
	}
	all.Wait()
	if list := a.must("GET", "/api/v1/tokens", "").list(t); len(list) != 1 {
		t.Errorf("%d tokens are left, want 1", len(list))
	}
}
