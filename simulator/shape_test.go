package simulator_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

// The four token operations are documented only as "object", so each shape is
// tried on them, and on one other resource.
func TestShapes(t *testing.T) {
	for _, tc := range []struct {
		name         string
		shape        simulator.Shape
		list, object string // the member that wraps; "" for none
	}{
		{"bare", simulator.Bare, "", ""},
		{"data", simulator.Data, "data", "data"},
		{"items", simulator.Items, "items", "item"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{Shape: tc.shape})
			made := unwrap[map[string]any](t, a.must("POST", "/api/v1/token", `{"name":"x"}`), tc.object)
			id, _ := made["created_id"].(string)
			if !scopes.IsUUID(id) || made["token"] == nil {
				t.Fatalf("made %v", made)
			}
			one := unwrap[map[string]any](t, a.must("GET", "/api/v1/token/"+id, ""), tc.object)
			all := unwrap[[]map[string]any](t, a.must("GET", "/api/v1/tokens", ""), tc.list)
			if diff := cmp.Diff(one, byID(all, id)); diff != "" || one["name"] != "x" {
				t.Errorf("read and listed differ:\n%s", diff)
			}
			unwrap[[]map[string]any](t, a.must("GET", "/api/v1/groups", ""), tc.list)
			unwrap[[]map[string]any](t, a.must("GET", "/api/v1/admin-logs", ""), tc.list)

			// Messages and errors are the same in each.
			if g := a.must("DELETE", "/api/v1/token/"+id, ""); g.object(t)["message"] == nil {
				t.Errorf("message: %s", g.body)
			}
			if g := a.do(a.sim.Master(), "DELETE", "/api/v1/token/"+id, ""); g.status != 404 || g.object(t)["error_description"] == nil {
				t.Errorf("error: %d %s", g.status, g.body)
			}
		})
	}
}

// unwrap demands that the body is a T, or an object with that one member.
func unwrap[T any](t *testing.T, g got, member string) T {
	t.Helper()
	raw := json.RawMessage(g.body)
	if member != "" {
		var wrapped map[string]json.RawMessage
		g.into(t, &wrapped)
		if len(wrapped) != 1 {
			t.Fatalf("body %s: want the member %s alone", g.body, member)
		}
		raw = wrapped[member]
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("body %s: %v", g.body, err)
	}
	return v
}
