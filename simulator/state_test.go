package simulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/simulator"
)

func TestNamesConflictWhereTheAPISaysSo(t *testing.T) {
	for _, tc := range []struct {
		name, path   string
		create, edit int // status of a second object with the same name, and of a change to it
	}{
		{"group", "group", 409, 409},
		{"system", "system", 409, 409},
		{"system group: 409 is listed for changes alone", "system-group", 200, 409},
		{"member", "member", 200, 200},
		{"access card", "access-card", 200, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{})
			path := "/api/v1/" + tc.path
			a.must("POST", path, `{"name":"Twin"}`)
			second := a.must("POST", path, `{"name":"Other"}`).object(t)["created_id"].(string)
			if g := a.do(a.sim.Master(), "POST", path, `{"name":"Twin"}`); g.status != tc.create {
				t.Errorf("create: status %d, want %d", g.status, tc.create)
			}
			if g := a.do(a.sim.Master(), "PUT", path+"/"+second, `{"name":"Twin"}`); g.status != tc.edit {
				t.Errorf("change: status %d, want %d", g.status, tc.edit)
			}
			a.must("PUT", path+"/"+second, `{"name":"Other"}`) // one's own name is no conflict
		})
	}
}

func TestUpdateRejectsAsAWhole(t *testing.T) {
	a := open(t, simulator.Options{})
	path := "/api/v1/group/" + simulator.GroupID
	before := a.must("GET", path, "").body
	if g := a.do(a.sim.Master(), "PUT", path, `{"name":"Half","geo_restriction_included":"yes"}`); g.status != 400 {
		t.Errorf("status %d, want 400", g.status)
	}
	if diff := cmp.Diff(before, a.must("GET", path, "").body); diff != "" {
		t.Errorf("a refused change left something behind:\n%s", diff)
	}
}

func TestPasswordsAreNeverShown(t *testing.T) {
	a := open(t, simulator.Options{})
	const password = "canary-password"
	path := "/api/v1/member/" + simulator.MemberID
	a.must("PUT", path, `{"password":"`+password+`"}`)
	for _, target := range []string{path, "/api/v1/members", "/api/v1/access-cards", "/api/v1/admin-logs"} {
		if g := a.must("GET", target, ""); strings.Contains(g.body, password) {
			t.Errorf("%s shows the password", target)
		}
	}
	if g := a.do(a.sim.Master(), "PUT", path, `{"password":["`+password+`"]}`); g.status != 400 || strings.Contains(g.body, password) {
		t.Errorf("status %d, body %s", g.status, g.body)
	}
}

func TestRemovalUnlinks(t *testing.T) {
	a := open(t, simulator.Options{})
	relation := "/api/v1/relation/group/" + simulator.GroupID + "/member/" + simulator.MemberID
	a.must("POST", relation, "")
	a.must("DELETE", "/api/v1/member/"+simulator.MemberID, "")
	for _, method := range []string{"POST", "DELETE"} {
		if g := a.do(a.sim.Master(), method, relation, ""); g.status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", method, g.status)
		}
	}
	card := a.must("GET", "/api/v1/access-card/"+simulator.AccessCardID, "").object(t)
	if members := card["members"].([]any); len(members) != 0 {
		t.Errorf("the card keeps %v", members)
	}
}

func TestLogQueries(t *testing.T) {
	for _, tc := range []struct {
		name, path, query string
		lines, status     int
	}{
		{"all", "gateway-level-logs", "", 3, 200},
		{"flat times", "gateway-level-logs", `{"start":"2026-03-02 00:00:00","end":"2026-03-02 23:59:59"}`, 1, 200},
		{"flat paging", "gateway-level-logs", `{"page":2,"limit":2}`, 1, 200},
		{"behind the last page", "gateway-level-logs", `{"page":3,"limit":2}`, 0, 200},
		{"page that overflows", "gateway-level-logs", `{"page":9223372036854775807,"limit":9223372036854775807}`, 0, 200},
		{"limit that overflows", "gateway-level-logs", `{"page":1,"limit":9223372036854775807}`, 3, 200},
		{"negative page", "gateway-level-logs", `{"page":-1,"limit":-1}`, 3, 200},
		{"member", "gateway-level-logs", `{"member_id":"` + simulator.MemberID + `"}`, 2, 200},
		{"gateway", "gateway-level-logs", `{"gateway_id":"` + simulator.GatewayID + `"}`, 2, 200},
		{"the other log's form is not understood", "gateway-level-logs", `{"pagination":{"limit":1}}`, 3, 200},
		{"nested times", "system-level-logs", `{"date":{"start":"2026-03-01 08:02:00","stop":"2026-03-01 09:00:00"}}`, 1, 200},
		{"nested paging", "system-level-logs", `{"pagination":{"page":1,"limit":2}}`, 2, 200},
		{"system", "system-level-logs", `{"system_id":"` + nobodyID + `"}`, 0, 200},
		{"the flat form is not understood", "system-level-logs", `{"limit":1}`, 3, 200},
		{"undocumented log, flat", "threat-blocker-logs", `{"end":"2026-01-01 00:00:00"}`, 0, 200},
		{"undocumented log, nested", "device-posture-check-logs", `{"date":{"stop":"2026-01-01 00:00:00"}}`, 0, 200},
		{"no time", "gateway-level-logs", `{"start":"yesterday"}`, 0, 400},
		{"wrong type", "system-level-logs", `{"date":"2026-03-01 08:00:00"}`, 0, 400},
		{"no JSON", "admin-logs", `start=1`, 0, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{})
			g := a.do(a.sim.Master(), "GET", "/api/v1/"+tc.path, tc.query)
			if g.status != tc.status {
				t.Fatalf("status %d, want %d", g.status, tc.status)
			}
			if g.status == 200 && len(g.list(t)) != tc.lines {
				t.Errorf("%d lines, want %d: %s", len(g.list(t)), tc.lines, g.body)
			}
		})
	}
}

// The admin log is not a fixture: it tells what each token changed.
func TestAdminLogTellsWhoChangedWhat(t *testing.T) {
	a := open(t, simulator.Options{})
	id, secret := a.mint(`{"name":"pipeline","allowed_scopes":["groups.delete"]}`)
	if g := a.do(secret, "DELETE", "/api/v1/group/"+nobodyID, ""); g.status != 404 {
		t.Fatalf("status %d", g.status)
	}
	if g := a.do(secret, "DELETE", "/api/v1/group/"+simulator.GroupID, ""); g.status != 200 {
		t.Fatalf("status %d", g.status)
	}
	var told []string
	for _, line := range a.must("GET", "/api/v1/admin-logs", "").list(t) {
		told = append(told, line["operation"].(string)+" by "+line["token_name"].(string))
		if line["operation"] == "deleteGroup" && line["token_id"] != id {
			t.Errorf("told of token %v, want %s", line["token_id"], id)
		}
	}
	if diff := cmp.Diff([]string{"createToken by master", "deleteGroup by pipeline"}, told); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	a := open(t, simulator.Options{})
	for _, tc := range []struct {
		name, method, path string
		status             int
		allow              string
	}{
		{"unknown path", "GET", "/api/v1/relations", 404, ""},
		{"root", "GET", "/", 404, ""},
		{"other method", "PATCH", "/api/v1/member/" + simulator.MemberID, 405, "DELETE, GET, PUT"},
		{"other method of a list", "POST", "/api/v1/members", 405, "GET"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := a.do(a.sim.Master(), tc.method, tc.path, "")
			if g.status != tc.status || g.header.Get("Allow") != tc.allow {
				t.Errorf("status %d, Allow %q; want %d, %q", g.status, g.header.Get("Allow"), tc.status, tc.allow)
			}
			if g.object(t)["error_description"] == "" {
				t.Errorf("body %s: no error_description", g.body)
			}
		})
	}
}
