package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

// ids are the seeded objects that stand in for the parameters of a path.
var ids = map[string]string{
	"teamMemberId":  simulator.MemberID,
	"groupId":       simulator.GroupID,
	"systemId":      simulator.SystemID,
	"systemGroupId": simulator.SystemGroupID,
	"accessCardId":  simulator.AccessCardID,
	"gatewayId":     simulator.GatewayID,
	"deviceId":      simulator.DeviceID,
}

// fill puts ids into a template; with missing set, ones that nothing has.
func fill(template string, missing bool) string {
	for name, id := range ids {
		if missing {
			id = nobodyID
		}
		template = strings.ReplaceAll(template, "{"+name+"}", id)
	}
	return template
}

// cases tell of each operation what it is sent and how one sees that it did
// what it says: after answers for the state that the operation leaves.
var cases = map[string]struct {
	body    string
	before  string // a request that makes the ground ready, "METHOD path"
	message bool   // the answer is {message}
	made    bool   // the answer is {created_id, message}
	fields  string // of the answered object or of each in the list, sorted
	// after looks at the state; target is the path that was called.
	after  func(a account, target string, g got)
	repeat int // status of the same call again; 0 is 200
}{
	"testConnection": {message: true},

	"listMembers":      {fields: "avatar created_at id is_mfa_active is_user_blocked name username"},
	"getMember":        {fields: "avatar_url email id is_blocked is_mfa_active name"},
	"createMember":     {body: `{"name":"New","password":"pass-1"}`, made: true, after: madeIn("members")},
	"updateMember":     {body: `{"name":"Changed"}`, message: true, after: shows("name", "Changed")},
	"deleteMember":     {message: true, after: gone("members"), repeat: 404},
	"disconnectMember": {message: true, after: disconnected},

	"listGroups": {fields: "forced_always_on_excluded forced_always_on_included geo_restriction_included id name"},
	"getGroup":   {fields: "forced_always_on_excluded forced_always_on_included geo_restriction_included id name"},
	"createGroup": {
		body: `{"name":"New","geo_restriction_included":true}`, made: true, after: madeIn("groups"), repeat: 409,
	},
	"updateGroup": {body: `{"geo_restriction_included":true}`, message: true, after: shows("geo_restriction_included", true)},
	"deleteGroup": {message: true, after: gone("groups"), repeat: 404},

	"listSystems": {fields: "created_at host id is_valid name port protocol uri"},
	"getSystem":   {fields: "created_at host id is_valid name port protocol uri"},
	"createSystem": {
		body: `{"name":"New","host":"h.example.com","uri":"https://h.example.com","port":"1","protocol":"UDP"}`,
		made: true, after: madeIn("systems"), repeat: 409,
	},
	"updateSystem": {body: `{"port":"9"}`, message: true, after: shows("port", "9")},
	"deleteSystem": {message: true, after: gone("systems"), repeat: 404},

	"listSystemGroups":  {fields: "id name"},
	"getSystemGroup":    {fields: "id name"},
	"createSystemGroup": {body: `{"name":"New"}`, made: true, after: madeIn("system-groups")},
	"updateSystemGroup": {body: `{"name":"Changed"}`, message: true, after: shows("name", "Changed")},
	"deleteSystemGroup": {message: true, after: gone("system-groups"), repeat: 404},

	"listAccessCards":  {fields: "description id members name systems"},
	"getAccessCard":    {fields: "description id members name systems"},
	"createAccessCard": {body: `{"name":"New","description":"d"}`, made: true, after: madeIn("access-cards")},
	"updateAccessCard": {body: `{"description":"Changed"}`, message: true, after: shows("description", "Changed")},
	"deleteAccessCard": {message: true, after: gone("access-cards"), repeat: 404},

	"addAccessCardSystem": {
		before:  "DELETE /api/v1/relation/access-card/{accessCardId}/system/{systemId}",
		message: true, after: embeds("systems", simulator.SystemID, true), repeat: 409,
	},
	"removeAccessCardSystem": {message: true, after: embeds("systems", simulator.SystemID, false), repeat: 404},
	"addAccessCardMember": {
		before:  "DELETE /api/v1/relation/access-card/{accessCardId}/member/{teamMemberId}",
		message: true, after: embeds("members", simulator.MemberID, true), repeat: 409,
	},
	"removeAccessCardMember": {message: true, after: embeds("members", simulator.MemberID, false), repeat: 404},

	"addGroupAccessCard":       {message: true, repeat: 409},
	"addGroupMember":           {message: true, repeat: 409},
	"addSystemGroupSystem":     {message: true, repeat: 409},
	"addSystemGroupAccessCard": {message: true, repeat: 409},
	"removeGroupAccessCard": {
		before: "POST /api/v1/relation/group/{groupId}/access-card/{accessCardId}", message: true, repeat: 404,
	},
	"removeGroupMember": {
		before: "POST /api/v1/relation/group/{groupId}/member/{teamMemberId}", message: true, repeat: 404,
	},
	"removeSystemGroupSystem": {
		before: "POST /api/v1/relation/system-group/{systemGroupId}/system/{systemId}", message: true, repeat: 404,
	},
	"removeSystemGroupAccessCard": {
		before: "POST /api/v1/relation/system-group/{systemGroupId}/access-card/{accessCardId}", message: true, repeat: 404,
	},

	"listGateways": {fields: "id ip location name"},
	"getGateway":   {fields: "id ip location name"},
	"listDevices":  {fields: deviceFields},
	"getDevice":    {fields: deviceFields},
	"deleteDevice": {message: true, after: gone("devices"), repeat: 404},

	"listTokens": {fields: "allowed_ips allowed_scopes created_at expires_at id name"},
	"getToken":   {fields: "allowed_ips allowed_scopes created_at expires_at id name"},
	"createToken": {
		body: `{"name":"New","expires_at":"2099-01-31 23:59:59","allowed_ips":["192.0.2.1"],"allowed_scopes":["groups.read"]}`,
		made: true, after: madeIn("tokens"),
	},
	"revokeToken": {message: true, after: gone("tokens"), repeat: 404},

	"listGatewayLevelLogs":       {fields: "downloaded_bytes gateway protocol start stop uploaded_bytes user"},
	"listSystemLevelLogs":        {fields: "gateway system timestamp user"},
	"listThreatBlockerLogs":      {fields: "action domain timestamp user"},
	"listDevicePostureCheckLogs": {fields: "device_id is_successful timestamp user"},
	"listAdminLogs":              {fields: "object_ids operation timestamp token_id token_name"},
}

const deviceFields = "alias app_version created_at hostname id is_biometrics_enabled is_debug_mode_enabled is_device_emulator " +
	"is_enclave is_lock_screen_enabled is_os_outdated is_rooted members name operating_system operating_system_version " +
	"operating_system_version_build status"

// TestOperations calls each of the 53 operations: without a token, with every
// scope but the one that it needs, with that one alone, again, and on ids
// that nothing has.
func TestOperations(t *testing.T) {
	ops := scopes.Operations()
	if len(ops) != 53 || len(cases) != len(ops) {
		t.Fatalf("%d operations and %d cases, want 53 of each", len(ops), len(cases))
	}
	for _, op := range ops {
		t.Run(op.ID, func(t *testing.T) {
			tc, ok := cases[op.ID]
			if !ok {
				t.Fatal("no case")
			}
			a := open(t, simulator.Options{})
			// Something that GET /token/{id} can read and DELETE revoke.
			other, _ := a.mint(`{"name":"other"}`)
			target := strings.ReplaceAll(fill(op.Path, false), "{tokenId}", other)
			if method, path, ok := strings.Cut(tc.before, " "); ok {
				a.must(method, fill(path, false), "")
			}

			if g := a.do("", op.Method, target, tc.body); g.status != http.StatusUnauthorized {
				t.Errorf("without a token: status %d, want 401", g.status)
			}
			right := "groups.read"
			if need, needs := op.Scope(); needs {
				right = need.String()
				rest := scopes.All().Minus(scopes.Of(need)).Names()
				_, secret := a.mint(fmt.Sprintf(`{"allowed_scopes":["%s"]}`, strings.Join(rest, `","`)))
				if g := a.do(secret, op.Method, target, tc.body); g.status != http.StatusForbidden {
					t.Errorf("without the scope: status %d, want 403", g.status)
				}
			}
			_, secret := a.mint(`{"allowed_scopes":["` + right + `"]}`)
			g := a.do(secret, op.Method, target, tc.body)
			if g.status != http.StatusOK {
				t.Fatalf("status %d, body %s", g.status, g.body)
			}
			if ct := g.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type %q", ct)
			}
			switch {
			case tc.message:
				if v := g.object(t); v["message"] == "" || v["message"] == nil {
					t.Errorf("body %s: no message", g.body)
				}
			case tc.made:
				if v := g.object(t); v["created_id"] == "" || v["message"] == nil {
					t.Errorf("body %s: no created_id or no message", g.body)
				}
			default:
				checkFields(t, op, g, tc.fields)
			}
			if tc.after != nil {
				tc.after(a, target, g)
			}

			want := tc.repeat
			if want == 0 {
				want = http.StatusOK
			}
			if g := a.do(secret, op.Method, target, tc.body); g.status != want {
				t.Errorf("again: status %d, want %d, body %s", g.status, want, g.body)
			}
			if strings.Contains(op.Path, "{") {
				missing := strings.ReplaceAll(fill(op.Path, true), "{tokenId}", nobodyID)
				g := a.do(secret, op.Method, missing, tc.body)
				if g.status != http.StatusNotFound || g.object(t)["error_description"] == nil {
					t.Errorf("unknown id: status %d, body %s", g.status, g.body)
				}
			}
			if tc.body != "" {
				for _, bad := range []string{`{`, `[]`, `{"name":7}`, `{} {}`, "\xff"} {
					if g := a.do(secret, op.Method, target, bad); g.status != http.StatusBadRequest {
						t.Errorf("body %s: status %d, want 400", bad, g.status)
					}
				}
			}
			for _, seen := range a.sim.Requests() {
				if seen.Path == target && seen.Method == op.Method && seen.Operation != op.ID {
					t.Errorf("recorded as %q", seen.Operation)
				}
			}
		})
	}
}

func checkFields(t *testing.T, op *scopes.Operation, g got, want string) {
	t.Helper()
	var objects []map[string]any
	if strings.HasPrefix(op.ID, "list") {
		if objects = g.list(t); len(objects) == 0 {
			t.Fatal("nothing listed")
		}
	} else {
		objects = append(objects, g.object(t))
	}
	for _, one := range objects {
		var names []string
		for name := range one {
			names = append(names, name)
		}
		slices.Sort(names)
		if diff := cmp.Diff(want, strings.Join(names, " ")); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
	}
}

func madeIn(list string) func(account, string, got) {
	return func(a account, _ string, g got) {
		a.t.Helper()
		id := g.object(a.t)["created_id"].(string)
		if one := byID(a.must("GET", "/api/v1/"+list, "").list(a.t), id); one == nil || one["name"] != "New" {
			a.t.Errorf("created %s is listed as %v", id, one)
		}
	}
}

func gone(list string) func(account, string, got) {
	return func(a account, target string, _ got) {
		a.t.Helper()
		id := target[strings.LastIndexByte(target, '/')+1:]
		if one := byID(a.must("GET", "/api/v1/"+list, "").list(a.t), id); one != nil {
			a.t.Errorf("removed %s is listed", id)
		}
	}
}

func shows(field string, want any) func(account, string, got) {
	return func(a account, target string, _ got) {
		a.t.Helper()
		if one := a.must("GET", target, "").object(a.t); one[field] != want || one["name"] == "" {
			a.t.Errorf("shown as %v after the change", one)
		}
	}
}

func embeds(list, id string, want bool) func(account, string, got) {
	return func(a account, _ string, _ got) {
		a.t.Helper()
		shown := a.must("GET", "/api/v1/access-card/"+simulator.AccessCardID, "").object(a.t)
		found := false
		for _, one := range shown[list].([]any) {
			found = found || one.(map[string]any)["id"] == id
		}
		if found != want {
			a.t.Errorf("the card's %s: %v", list, shown[list])
		}
	}
}

func disconnected(a account, _ string, _ got) {
	a.t.Helper()
	for _, one := range a.must("GET", "/api/v1/gateway-level-logs", `{"member_id":"`+simulator.MemberID+`"}`).list(a.t) {
		if one["stop"] == nil {
			a.t.Errorf("a session is open still: %v", one)
		}
	}
}
