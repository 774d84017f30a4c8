package scopegate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/audit"
)

// before is a configuration whose only static credential is red/one.
const before = `http://localhost {
	scopegate {
		upstream https://integration.goodaccess.com {
			master_token {env.NONE}
		}
		team red {
			scopes members.* groups.read-all token.create
			mint {
				scopes members.read members.read-all
				allowed_ips 203.0.113.0/24
				max_ttl 30d
			}
			allowed_ips 192.0.2.0/24
			credential one {
				hash 000000000000:0000000000000000000000000000000000000000000000000000000000000000
			}
		}
		team blue {
			scopes groups.read-all
		}
	}
}
`

// configured makes a record one of the configured credential.
func configured(r audit.Record) audit.Record {
	r.Credential = "000000000000"
	return r
}

func mintOf(scopes ...string) audit.Record {
	r := configured(allowed("red", "createToken", "token.create"))
	r.RequestedScopes, r.GrantedScopes = scopes, scopes
	r.ExpiresAt, r.AllowedIPs = "2026-12-20 13:00:00", []string{"203.0.113.10"}
	return r
}

// watched is a record of what only shadow mode permitted.
func watched(team, operation, scope, reason string) audit.Record {
	r := allowed(team, operation, scope)
	r.WouldDeny = reason
	return r
}

func with(r audit.Record, change func(*audit.Record)) audit.Record {
	change(&r)
	return r
}

// Each record is judged as a gateway with the changed configuration would
// judge its request, or not at all.
func TestAuditReplayJudges(t *testing.T) {
	read := configured(allowed("red", "listMembers", "members.read-all"))
	stored := allowed("red", "listMembers", "members.read-all")
	const same = "" // nothing is changed
	for _, c := range []struct {
		name   string
		from   string // in the configuration
		to     string
		record audit.Record
		want   string // was>now, same, other or why not
	}{
		{"nothing changed", same, same, read, "same"},
		{"the scope is gone", "members.* ", "", read, "allowed>insufficient_scope"},
		{"of a stored credential", "members.* ", "", stored, "allowed>insufficient_scope"},
		{"the scope is still there", "members.*", "members.read-all members.read", stored, "same"},
		{"the address is out", "192.0.2.0/24", "198.51.100.0/24", read, "allowed>client_address"},
		{"the team is gone", "team red {", "team green {", read, "allowed>team_gone"},
		{"the credential is suspended", "hash 0", "state suspended\n hash 0", read, "allowed>credential_suspended"},
		{"it had ended by then", "hash 0", "expires 2026-11-24T13:00:00Z\n hash 0", read, "allowed>credential_expired"},
		{"it ended later", "hash 0", "expires 2026-11-24T13:00:01Z\n hash 0", read, "same"},
		{"it narrows", "hash 0", "scopes members.read\n hash 0", read, "allowed>insufficient_scope"},
		{"a stored one, and no store", "team red", "store none\n team red", stored, "allowed>unknown_credential"},
		{"what it does needs no scope", "members.* ", "", configured(allowed("red", "testConnection", "")), "same"},
		{"granted now", "groups.read-all token", "groups.* token", configured(denied("red", "getGroup", "groups.read", "insufficient_scope")), "insufficient_scope>allowed"},
		{"granted to the team, of a stored one", "groups.read-all token", "groups.* token", denied("red", "getGroup", "groups.read", "insufficient_scope"), gapCredential},
		{"still refused", same, same, denied("red", "getGroup", "groups.read", "insufficient_scope"), "same"},
		{"refused for another reason", "192.0.2.0/24", "198.51.100.0/24", denied("red", "getGroup", "groups.read", "insufficient_scope"), "other"},
		{"on now", "upstream", "operations +inferred\n upstream", configured(denied("red", "deleteGroup", "groups.delete", "operation_off")), "other"},
		{"an operation that was added and is not any more", same, same, allowed("red", "operator:GET /api/v1/new/{id}", "devices.read"), "allowed>unknown_path"},
		{"and one that is", "upstream", "operation GET /api/v1/new/{id} members.read\n upstream", allowed("red", "operator:GET /api/v1/new/{id}", "members.read"), "same"},
		{"one in place of an inferred one", "upstream", "operation DELETE /api/v1/group/{groupId} members.read\n upstream", allowed("red", "deleteGroup", "groups.delete"), "same"},
		{"a mint within", same, same, mintOf("members.read"), "same"},
		{"a mint of too much", "scopes members.read members.read-all", "scopes members.read-all", mintOf("members.read"), "allowed>mint_scopes"},
		{"a mint for too long", "max_ttl 30d", "max_ttl 7d", mintOf("members.read"), "allowed>mint_expiry"},
		{"a mint for another network", "203.0.113.0/24", "203.0.113.0/29", mintOf("members.read"), "allowed>mint_addresses"},
		{"a mint that was narrowed, and again would be", "max_ttl 30d", "max_ttl 30d\n clamp", with(mintOf("members.read"), func(r *audit.Record) { r.Clamped = []string{"expires_at"} }), "same"},
		{"a mint that was narrowed, and would be refused", same, same, with(mintOf("members.read"), func(r *audit.Record) { r.Clamped = []string{"expires_at"} }), gapBody + ": what was asked for before it was narrowed"},
		{"a refused mint of scopes", same, same, with(configured(denied("red", "createToken", "token.create", "mint_scopes")), func(r *audit.Record) { r.RequestedScopes = []string{"groups.read"} }), "same"},
		{"a refused mint of scopes that are there now", same, same, with(configured(denied("red", "createToken", "token.create", "mint_scopes")), func(r *audit.Record) { r.RequestedScopes = []string{"members.read"} }), gapBody},
		{"a mint refused for its end", same, same, configured(denied("red", "createToken", "token.create", "mint_expiry")), gapBody},
		{"a mint that was invalid", same, same, configured(denied("red", "createToken", "token.create", "mint_invalid")), "same"},
		{"a member changed", same, same, configured(allowed("red", "updateMember", "members.update")), gapBody + ": whether it set a password"},
		{"a member changed by whom may set passwords", "allowed_ips 192", "member_passwords\n allowed_ips 192", configured(allowed("red", "updateMember", "members.update")), "same"},
		{"a password refused", "allowed_ips 192", "member_passwords\n allowed_ips 192", configured(denied("red", "updateMember", "members.update", "member_password")), "member_password>allowed"},
		{"limited", same, same, configured(denied("red", "listMembers", "members.read-all", "rate_limited")), gapLimits},
		{"watched, and still", "allowed_ips 192", "enforce off until 2027-01-01\n allowed_ips 192", watched("red", "getGroup", "groups.read", "insufficient_scope"), "same"},
		{"watched, and not any more", "allowed_ips 192", "enforce off until 2026-11-24\n allowed_ips 192", watched("red", "getGroup", "groups.read", "insufficient_scope"), "allowed>insufficient_scope"},
		{"watched, and granted", same, same, configured(watched("red", "listMembers", "members.read-all", "insufficient_scope")), "same"},
		{"watched, and granted to the team of a stored one", same, same, watched("red", "listMembers", "members.read-all", "insufficient_scope"), gapCredential},
		{"watched since it was limited", same, same, watched("red", "listMembers", "members.read-all", "rate_limited"), gapLimits},
		{"limited, and still watched", "allowed_ips 192", "enforce off until 2027-01-01\n allowed_ips 192", watched("red", "listMembers", "members.read-all", "rate_limited"), "same"},
		{"limited, and not granted any more", "members.* ", "", configured(denied("red", "listMembers", "members.read-all", "rate_limited")), "other"},
		{"for a reason of another version", same, same, configured(denied("red", "listMembers", "members.read-all", "full_moon")), gapReason},
		{"the store could not be reached", same, same, configured(denied("red", "listMembers", "members.read-all", "store_unavailable")), "same"},
		{"nobody", same, same, audit.Record{Phase: audit.Decided, Decision: audit.Deny, Reason: "no_credential"}, gapCaller},
		{"no operation", same, same, denied("red", "", "", "unknown_path"), gapPath},
		{"no operation, from another network", same, same, with(denied("red", "", "", "client_address"), func(r *audit.Record) { r.ClientIP = "198.51.100.1" }), "same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := before
			if c.from != "" {
				if config = strings.Replace(before, c.from, c.to, 1); config == before {
					t.Fatalf("nothing like %q to change", c.from)
				}
			}
			if strings.Contains(c.to, "members.read\n upstream") || c.from == "members.* " {
				config = strings.ReplaceAll(config, "\t\t\t\tscopes members.read members.read-all\n", "\t\t\t\tscopes groups.read-all\n")
			}
			out, errs, code := askLog(t, logged(t, c.record), "replay", "--config", write(t, "Caddyfile", config), "--json", "-")
			var got struct {
				Verdicts replayed
				Changes  []verdictChange
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v\n%s%s", err, out, errs)
			}
			verdict := "same"
			switch {
			case len(got.Changes) == 1:
				verdict = got.Changes[0].Was + ">" + got.Changes[0].Now
			case len(got.Verdicts.Unjudged) == 1:
				for verdict = range got.Verdicts.Unjudged {
				}
			case got.Verdicts.OtherReason == 1:
				verdict = "other"
			}
			if wantCode := 3 * len(got.Changes); verdict != c.want || code != wantCode {
				t.Errorf("%s, want %s; exit code %d\n%s%s", verdict, c.want, code, out, errs)
			}
		})
	}
}

func TestAuditReplayCounts(t *testing.T) {
	config := write(t, "Caddyfile", strings.Replace(before, "groups.read-all token", "groups.read token", 1))
	var records []audit.Record
	for n := range 3 {
		r := configured(allowed("red", "listGroups", "groups.read-all"))
		r.UUID = fmt.Sprint("u", n)
		records = append(records, r, endOf(r))
	}
	records = append(records, allowed("blue", "listGroups", "groups.read-all"), configured(denied("red", "getGroup", "groups.read", "insufficient_scope")),
		audit.Record{Phase: audit.Decided, Change: "revoke", Team: "red", Decision: audit.Allow},
		audit.Record{Phase: audit.Decided, Operator: "scopegate", Operation: "revokeToken", Team: "red", Decision: audit.Allow})
	out, errs, code := askLog(t, logged(t, records...), "replay", "--config", config, "-")
	for _, want := range []string{
		"judged      5: 1 unchanged, 0 for another reason", "denied now  3", "allowed now 1",
		"red   000000000000  listGroups  groups.read-all  allowed             insufficient_scope  3         2026-11-24 13:00  u0",
		"red   000000000000  getGroup    groups.read      insufficient_scope  allowed             1 ",
	} {
		if !strings.Contains(out, want) || code != 3 || !strings.Contains(errs, "4 verdicts change") {
			t.Errorf("missing %q in\n%s%s", want, out, errs)
		}
	}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"--config is needed": {[]string{"-"}, exitMisused},
		"nothing to replay":  {[]string{"--config", config, "--team", "green", "-"}, 1},
	} {
		if _, errs, code := askLog(t, "", append([]string{"replay"}, c.args...)...); code != c.code || !strings.Contains(errs, name) {
			t.Errorf("%v: %d %s", c.args, code, errs)
		}
	}
}

func TestAuditShow(t *testing.T) {
	config := write(t, "Caddyfile", before)
	read := configured(allowed("red", "listMembers", "members.read-all"))
	refused := denied("red", "getGroup", "groups.read", "insufficient_scope")
	log := write(t, "audit.jsonl", logged(t, refused, read, endOf(read)))
	out, errs, code := askLog(t, "", "show", "u-red-listMembers", log, "--config", config)
	for _, want := range []string{
		log + ":2\n", log + ":3\n", "  phase            ended\n", "  team             red\n", "  status           200\n",
		"decision    allow\n", "decided by  Caddyfile:7: members.*\n",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s%s", want, out, errs)
		}
	}
	out, _, code = askLog(t, "", "show", "u-red-getGroup", log, "--config", config, "--json")
	var got struct {
		Records []struct {
			Line   int
			Record map[string]any
		}
		Today today
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got.Records) != 1 || got.Records[0].Record["team"] != "red" ||
		got.Today.Reason != "insufficient_scope" || len(got.Today.DecidedBy) != 1 || got.Today.DecidedBy[0] != "Caddyfile:6" {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	for _, reason := range []string{"insufficient_scope", "credential_suspended"} { // neither of which the configuration says
		log := write(t, "audit.jsonl", logged(t, denied("red", "listMembers", "members.read-all", reason)))
		out, errs, _ := askLog(t, "", "show", "u-red-listMembers", log, "--config", config)
		if want := "decided by  Caddyfile:6; the stored credential c-red: scopegate key show c-red\n"; !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s%s", want, out, errs)
		}
	}
	if out, _, _ := askLog(t, "", "show", "u-red-getGroup", log, "--json"); !strings.Contains(out, `"today": null`) {
		t.Errorf("%s", out)
	}
	if _, errs, code := askLog(t, "", "show", "u-none", log); code != 3 || !strings.Contains(errs, "no decision has this id") {
		t.Errorf("%d %s", code, errs)
	}
}

// A file in which every line has the same id does not fill the memory.
func TestAuditShowIsBounded(t *testing.T) {
	one := logged(t, allowed("red", "listMembers", "members.read-all"))
	_, rest, _ := strings.Cut(one, `"uuid":"`)
	id, _, _ := strings.Cut(rest, `"`)
	var line string
	for l := range strings.Lines(one) {
		if strings.Contains(l, id) {
			line = l
		}
	}
	out, told, code := askLog(t, strings.Repeat(line, maxShown+7), "show", id, "--json", "-")
	if n := strings.Count(out, `"line"`); code != 0 || n != maxShown || !strings.Contains(told, "and 7 more records") {
		t.Errorf("%d: %d records, %s", code, n, told)
	}
}
