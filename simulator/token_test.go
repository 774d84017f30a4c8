package simulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

const connection = "/api/v1/test-connection"

func TestAuthorizationRejects(t *testing.T) {
	a := open(t, simulator.Options{MasterToken: "the-master-token"})
	for _, tc := range []struct {
		name, header string
		status       int
	}{
		{"bearer", "Bearer the-master-token", 200},
		{"scheme in another case", "bEARER the-master-token", 200},
		{"wrong token", "Bearer the-master-tokem", 401},
		{"token in another case", "Bearer THE-MASTER-TOKEN", 401},
		{"other scheme", "Basic the-master-token", 401},
		{"no scheme", "the-master-token", 401},
		{"no token", "Bearer ", 401},
		{"scheme alone", "Bearer", 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if g := a.do("", "GET", connection, "", "Authorization: "+tc.header); g.status != tc.status {
				t.Errorf("status %d, want %d", g.status, tc.status)
			}
		})
	}
}

// A minted token is held to its scopes at every one of the operations: this
// is what a gateway's own checks are measured against.
func TestScopesAreExact(t *testing.T) {
	a := open(t, simulator.Options{})
	_, secret := a.mint(`{"allowed_scopes":["groups.read","systems.read-all"]}`)
	for _, op := range scopes.Operations() {
		want := http.StatusForbidden
		switch op.ID {
		case "testConnection", "getGroup", "listSystems": // systems.read-all is the alias of system.read-all
			want = http.StatusOK
		}
		target := strings.ReplaceAll(fill(op.Path, false), "{tokenId}", nobodyID)
		if g := a.do(secret, op.Method, target, ""); g.status != want {
			t.Errorf("%s: status %d, want %d", op.ID, g.status, want)
		}
	}
}

func TestExpiryIsEnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock starts at 2000-01-01 00:00:00 UTC, 01:00 in this zone.
		a := open(t, simulator.Options{Zone: time.FixedZone("", 3600)})
		_, secret := a.mint(`{"expires_at":"2000-01-01 02:00:00"}`)
		status := func() int { return a.do(secret, "GET", connection, "").status }
		time.Sleep(time.Hour - time.Nanosecond) // the bubble's time, not the test's
		if got := status(); got != 200 {
			t.Errorf("before the expiry: status %d", got)
		}
		time.Sleep(time.Nanosecond)
		if got := status(); got != 401 {
			t.Errorf("at the expiry: status %d, want 401", got)
		}
	})
}

func TestExpiryForms(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		want       any // as it is read back
	}{
		{"plain", `{"expires_at":"2027-01-31 23:59:59"}`, 200, "2027-01-31 23:59:59"},
		{"absent is never", `{}`, 200, nil},
		{"null is never", `{"expires_at":null}`, 200, nil},
		{"empty is never", `{"expires_at":""}`, 200, nil},
		{"short fields", `{"expires_at":"2027-1-2 3:4:5"}`, 200, "2027-01-02 03:04:05"},
		{"a date that does not exist rolls over", `{"expires_at":"2027-02-30 00:00:00"}`, 200, "2027-03-02 00:00:00"},
		{"so does a time", `{"expires_at":"2027-12-31 24:00:00"}`, 200, "2028-01-01 00:00:00"},
		{"in the past, dead from birth", `{"expires_at":"2001-01-01 00:00:00"}`, 200, "2001-01-01 00:00:00"},
		{"with a zone", `{"expires_at":"2027-01-31T23:59:59Z"}`, 400, nil},
		{"date alone", `{"expires_at":"2027-01-31"}`, 400, nil},
		{"trailing text", `{"expires_at":"2027-01-31 23:59:59 x"}`, 400, nil},
		{"number", `{"expires_at":1800000000}`, 400, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{})
			g := a.do(a.sim.Master(), "POST", "/api/v1/token", tc.body)
			if g.status != tc.status {
				t.Fatalf("status %d, want %d", g.status, tc.status)
			}
			if g.status == 200 {
				id := g.object(t)["created_id"].(string)
				if diff := cmp.Diff(tc.want, a.must("GET", "/api/v1/token/"+id, "").object(t)["expires_at"]); diff != "" {
					t.Errorf("expires_at (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAddressListsAreEnforced(t *testing.T) {
	for _, tc := range []struct {
		name, ips, from string
		status          int
	}{
		{"in", `["203.0.113.10"]`, "203.0.113.10", 200},
		{"out", `["203.0.113.10"]`, "203.0.113.11", 403},
		{"in a network", `["203.0.113.0/24"]`, "203.0.113.11", 200},
		{"host bits are cut off", `["203.0.113.77/24"]`, "203.0.113.11", 200},
		{"out of a network", `["203.0.113.0/24"]`, "203.0.114.1", 403},
		{"second of two", `["192.0.2.1","2001:db8::/32"]`, "2001:db8::1", 200},
		{"mapped entry", `["::ffff:203.0.113.10"]`, "203.0.113.10", 200},
		{"mapped network", `["::ffff:203.0.113.0/120"]`, "203.0.113.10", 200},
		{"mapped caller", `["203.0.113.10"]`, "::ffff:203.0.113.10", 200},
		{"none is every address", `[]`, "198.51.100.1", 200},
		{"null is every address", `null`, "198.51.100.1", 200},
		{"caller without a readable address", `["0.0.0.0/0","::/0"]`, "unknown", 403},
		{"caller behind a chain: the first counts", `["203.0.113.10"]`, "203.0.113.10, 192.0.2.7", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{})
			_, secret := a.mint(`{"allowed_ips":` + tc.ips + `}`)
			if g := a.do(secret, "GET", connection, "", "X-Forwarded-For: "+tc.from); g.status != tc.status {
				t.Errorf("status %d, want %d", g.status, tc.status)
			}
		})
	}
	t.Run("the connection's address counts without the header", func(t *testing.T) {
		a := open(t, simulator.Options{})
		_, in := a.mint(`{"allowed_ips":["192.0.2.1"]}`) // where httptest's requests come from
		_, out := a.mint(`{"allowed_ips":["192.0.2.2"]}`)
		if g := a.do(in, "GET", connection, ""); g.status != 200 {
			t.Errorf("in: status %d", g.status)
		}
		if g := a.do(out, "GET", connection, ""); g.status != 403 {
			t.Errorf("out: status %d", g.status)
		}
	})
}

func TestMintRejects(t *testing.T) {
	a := open(t, simulator.Options{})
	for name, body := range map[string]string{
		"unknown scope":                   `{"allowed_scopes":["groups.read","everything"]}`,
		"scope in another case":           `{"allowed_scopes":["Groups.read"]}`,
		"scopes that are no list":         `{"allowed_scopes":"groups.read"}`,
		"no address":                      `{"allowed_ips":["localhost"]}`,
		"addresses that are no list":      `{"allowed_ips":"203.0.113.10"}`,
		"second value behind the first":   `{} {}`,
		"no object":                       `"name"`,
		"byte order mark before the JSON": "\ufeff{}",
	} {
		t.Run(name, func(t *testing.T) {
			if g := a.do(a.sim.Master(), "POST", "/api/v1/token", body); g.status != http.StatusBadRequest {
				t.Errorf("status %d, want 400", g.status)
			}
		})
	}
	if list := a.must("GET", "/api/v1/tokens", "").list(t); len(list) != 1 {
		t.Errorf("%d tokens, want the master alone", len(list))
	}
}

// The readings that are worst for a gateway which relays what it did not
// judge: each of these bodies makes a token that can do everything.
func TestMintTakesTheWorstReading(t *testing.T) {
	for name, body := range map[string]string{
		"no body":                      ``,
		"no scopes":                    `{"name":"x"}`,
		"null for scopes":              `{"allowed_scopes":null}`,
		"empty scopes":                 `{"allowed_scopes":[]}`,
		"the last of two equal names":  `{"allowed_scopes":["groups.read"],"allowed_scopes":[]}`,
		"the last one in another case": `{"allowed_scopes":["groups.read"],"Allowed_Scopes":[]}`,
		"an escaped name":              `{"allowed_scopes":["groups.read"],"allowed\u005fscopes":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, simulator.Options{})
			_, secret := a.mint(body)
			if g := a.do(secret, "DELETE", "/api/v1/token/"+a.sim.MasterID(), ""); g.status != http.StatusOK {
				t.Errorf("status %d", g.status)
			}
		})
	}
}

// Nothing documents that a token can grant only what it has.
func TestTokenMayMakeAWiderOne(t *testing.T) {
	a := open(t, simulator.Options{})
	_, narrow := a.mint(`{"allowed_scopes":["token.create"],"allowed_ips":["192.0.2.1"]}`)
	g := a.do(narrow, "POST", "/api/v1/token", `{}`)
	if g.status != http.StatusOK {
		t.Fatalf("status %d", g.status)
	}
	wide := g.object(t)["token"].(string)
	if g := a.do(wide, "GET", "/api/v1/members", "", "X-Forwarded-For: 198.51.100.1"); g.status != http.StatusOK {
		t.Errorf("status %d", g.status)
	}
}

func TestRevokedTokenStops(t *testing.T) {
	a := open(t, simulator.Options{})
	id, secret := a.mint(`{"allowed_scopes":["token.delete"]}`)
	if g := a.do(secret, "DELETE", "/api/v1/token/"+strings.ToUpper(id), ""); g.status != http.StatusOK {
		t.Fatalf("revoking itself: status %d", g.status)
	}
	if g := a.do(secret, "GET", connection, ""); g.status != http.StatusUnauthorized {
		t.Errorf("after that: status %d, want 401", g.status)
	}
}

func TestTokenFields(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fields []string
	}{
		{"no names, as an upstream that does not echo them", []string{"id", "created_at"}},
		{"the secret, as one that repeats it", []string{"id", "token"}},
		{"none", []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := open(t, simulator.Options{TokenFields: tc.fields})
			id, secret := a.mint(`{"name":"x"}`)
			shown := a.must("GET", "/api/v1/token/"+id, "").object(t)
			if len(shown) != len(tc.fields) {
				t.Errorf("shown %v, want %v", shown, tc.fields)
			}
			for _, field := range tc.fields {
				if shown[field] == nil {
					t.Errorf("no %s in %v", field, shown)
				}
			}
			if got, ok := shown["token"]; ok && got != secret {
				t.Errorf("another secret than the minted one")
			}
			if g := a.must("GET", "/api/v1/tokens", ""); strings.Contains(g.body, a.sim.Master()) {
				t.Error("the list shows the master's secret")
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		simulator.New(simulator.Options{TokenFields: []string{"nmae"}})
	})
}

func TestMasterExpiresAndIsRenewed(t *testing.T) {
	a := open(t, simulator.Options{})
	id, old := a.sim.MasterID(), a.sim.Master()
	status := func(secret string) int { return a.do(secret, "GET", connection, "").status }
	if got := status(old); got != 200 {
		t.Fatalf("at first: status %d", got)
	}
	a.sim.ExpireMaster()
	if got := status(old); got != 401 {
		t.Errorf("expired: status %d, want 401", got)
	}
	for _, secret := range []string{"", "chosen-master-token"} {
		now := a.sim.RenewMaster(secret)
		if now == old || secret != "" && now != secret || now != a.sim.Master() || a.sim.MasterID() != id {
			t.Errorf("renewed to %q", now)
		}
		if status(old) != 401 || status(now) != 200 {
			t.Errorf("old: status %d, new: status %d", status(old), status(now))
		}
		old = now
	}
	a.must("DELETE", "/api/v1/token/"+id, "")
	if got := status(old); got != 401 {
		t.Errorf("revoked: status %d, want 401", got)
	}
	if got := status(a.sim.RenewMaster("")); got != 200 {
		t.Errorf("renewed after that: status %d", got)
	}
	if list := a.must("GET", "/api/v1/tokens", "").list(t); len(list) != 1 {
		t.Errorf("%d tokens, want 1", len(list))
	}
}

// What a token may do is what its answer says, whatever bytes were sent.
func FuzzMint(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"name":"x","expires_at":"2027-02-30 25:61:61","allowed_ips":["::ffff:192.0.2.1/120"],"allowed_scopes":["groups.read"]}`,
		`{"allowed_ips":["192.0.2.1/33"]}`, `{"allowed_scopes":["token.create","token.create"]}`, `[`, "\x00", `{"expires_at":"9999-99-99 99:99:99"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		a := open(t, simulator.Options{})
		g := a.do(a.sim.Master(), "POST", "/api/v1/token", body)
		if g.status != http.StatusOK {
			if g.status != http.StatusBadRequest && g.status != http.StatusRequestEntityTooLarge {
				t.Fatalf("status %d", g.status)
			}
			return
		}
		made := g.object(t)
		shown := a.must("GET", fmt.Sprintf("/api/v1/token/%s", made["created_id"]), "").object(t)
		secret := made["token"].(string)
		names := map[string]bool{}
		for _, name := range shown["allowed_scopes"].([]any) {
			names[name.(string)] = true
		}
		if len(names) == 0 {
			t.Fatal("a token without scopes")
		}
		if len(shown["allowed_ips"].([]any)) > 0 || shown["expires_at"] != nil {
			return
		}
		g = a.do(secret, "GET", "/api/v1/members", "")
		if want := names["members.read-all"]; (g.status == http.StatusOK) != want {
			t.Errorf("status %d, scopes %v", g.status, names)
		}
	})
}
