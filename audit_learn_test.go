package scopegate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
)

func TestAuditLearn(t *testing.T) {
	config := write(t, "Caddyfile", before)
	log := logged(
		t, allowed("red", "listMembers", "members.read-all"), allowed("red", "testConnection", ""),
		denied("red", "listGroups", "groups.read-all", "rate_limited"), allowed("blue", "listGroups", "groups.read-all"),
		mintOf("members.read"), endOf(mintOf("members.read")), allowed("red", "operator:GET /api/v1/x", "no-such.scope"),
		audit.Record{Phase: audit.Decided, Team: "red", Operator: "scopegate", Operation: "revokeToken", Scope: "token.delete", Decision: audit.Allow},
	)
	out, errs, code := askLog(t, log, "learn", "--team", "red", "--config", config, "--unused-for", "36500d", "--json", "-")
	var got lesson
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("%d %v\n%s%s", code, err, out, errs)
	}
	at := func(second int) time.Time { return loggedFrom.Add(time.Duration(second) * time.Second) }
	want := lesson{
		Log: got.Log, Team: "red", UnusedFor: "36500d",
		Used:   uses{"members.read-all": {1, at(0)}, "token.create": {1, at(4)}, "no-such.scope": {1, at(6)}},
		Minted: uses{"members.read": {1, at(4)}},
		// 26 days less a second, and twelve hours since the zone is unknown.
		Smallest: "scopes token.create members.read-all members.read\nmint {\n\tscopes members.read\n\tallowed_ips 203.0.113.10\n\tmax_ttl 27d\n}",
		Grants: []grantUse{
			{Grant: "members.*", Place: "Caddyfile:7", Last: at(4), Unused: []string{"members.disconnect", "members.delete", "members.update", "members.create"}},
			{Grant: "groups.read-all", Place: "Caddyfile:7", Unused: []string{"groups.read-all"}},
			{Grant: "members.read-all", Place: "Caddyfile:9", Unused: []string{"members.read-all"}},
		},
		Notes: []string{
			"no-such.scope: the catalogue of this version has no such scope; it is left out",
			"the log begins at 2026-11-24T13:00:00Z: what was used before is not known",
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(grantUse{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// By now it was long ago.
	out, _, _ = askLog(t, log+"torn\n", "learn", "--team", "red", "--config", config, "--unused-for", "1s", "-")
	for _, line := range []string{
		"used        members.read-all: 1 times, last 2026-11-24 13:00\n", "unused      Caddyfile:7: members.*: last 2026-11-24 13:00\n",
		"unused      Caddyfile:7: groups.read-all: never\n", "note        1 lines are no records", "\n    scopes token.create members.read-all members.read\n    mint {\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("missing %q in\n%s", line, out)
		}
	}
}

func TestAuditLearnRejects(t *testing.T) {
	config := write(t, "Caddyfile", before)
	for _, c := range []struct {
		log  string
		args []string
		code int
		want string
	}{
		{"", []string{"--team", "rde", "--config", config}, 2, `did you mean "red"?`},
		{"", []string{"--team", "red", "--config", config, "--unused-for", "long"}, 2, "expected a duration"},
		{"", []string{"--team", "red"}, 2, "--config is needed"},
		{"", []string{"--config", config}, 2, `"team" not set`},
		{logged(t, allowed("blue", "listGroups", "groups.read-all")), []string{"--team", "red", "--config", config}, 3, "permitted nothing"},
		// What is missing may be what needs a grant.
		{"\x1f\x8bcut", []string{"--team", "red", "--config", config}, 1, "not all of the log could be read"},
	} {
		out, errs, code := askLog(t, c.log, append([]string{"learn", "-"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(out, "scopes ") {
			t.Errorf("%q: %d %s%s", c.args, code, out, errs)
		}
	}
}

// The grant that was learned permits all that was permitted, and without any of
// its scopes something would be refused.
func TestAuditLearnPrintsTheSmallestGrant(t *testing.T) {
	operations := map[string]string{
		"listMembers": "members.read-all", "getMember": "members.read", "listGroups": "groups.read-all", "listTokens": "token.read-all",
	}
	random := rand.New(rand.NewPCG(5, 7))
	for range 20 {
		var records []audit.Record
		for operation, scope := range operations {
			if random.IntN(2) == 0 {
				records = append(records, allowed("red", operation, scope))
			}
		}
		if random.IntN(2) == 0 || len(records) == 0 {
			mint := mintOf("members.read", "members.read-all")
			mint.ExpiresAt = loggedFrom.Add(time.Duration(13+random.IntN(24*25)) * time.Hour).Format(time.DateTime)
			records = append(records, mint)
		}
		log := logged(t, records...)
		wide := strings.Replace(before, "groups.read-all token.create", "groups.read-all token.*", 1)
		out, errs, code := askLog(t, log, "learn", "--team", "red", "--config", write(t, "Caddyfile", wide), "--json", "-")
		var got lesson
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("%d %v\n%s%s", code, err, out, errs)
		}
		replay := func(lines string) int {
			config := before[:strings.Index(before, "\t\t\tscopes")] + lines + before[strings.Index(before, "\n\t\t\tallowed_ips 192"):]
			out, errs, code := askLog(t, log, "replay", "--config", write(t, "Caddyfile", config), "-")
			if strings.Contains(out, "not judged") || code == 1 {
				t.Fatalf("%s\n%s%s", config, out, errs)
			}
			return code
		}
		if code := replay(got.Smallest); code != 0 {
			t.Errorf("not covered: %d\n%s\nby\n%s", code, log, got.Smallest)
		}
		line, rest, _ := strings.Cut(got.Smallest, "\n")
		for _, scope := range strings.Fields(line)[1:] {
			if strings.Contains(rest, scope) {
				continue // the mint's scopes must be among the team's
			}
			fewer := strings.Replace(line+" ", " "+scope+" ", " ", 1) + "\n" + rest
			if replay(strings.Replace(fewer, "scopes \n", "\n", 1)) != 3 {
				t.Errorf("%s is not needed in\n%s\nfor\n%s", scope, got.Smallest, log)
			}
		}
	}
}

// What somebody else wrote into a log becomes no line of a configuration, nor
// does it fill the memory or move the cursor.
func TestAuditLearnPrintsNoAddressThatIsNone(t *testing.T) {
	mint := mintOf("members.read")
	mint.AllowedIPs = []string{"203.0.113.10", "192.0.2.0/24"}
	log := logged(t, mint)
	log = strings.Replace(log, `"192.0.2.0/24"`, `"192.0.2.0/24","0.0.0.0/0 }\n scopes *","\u001b[2K"`, 1)
	config := write(t, "Caddyfile", before)
	out, errs, code := askLog(t, log, "learn", "--team", "red", "--config", config, "-")
	if code != 0 || !strings.Contains(out, "allowed_ips 192.0.2.0/24 203.0.113.10\n") || strings.Contains(out, "0.0.0.0/0") || strings.Contains(out, "\x1b") || !strings.Contains(out, "2 times") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	many := uses{}
	for i := range 2 * maxUses {
		many.add(fmt.Sprint(i), use{Count: 1})
	}
	if n := many[query.Others].Count; n != maxUses || len(many) != maxUses+1 {
		t.Errorf("%d names, %d others", len(many), n)
	}
}
