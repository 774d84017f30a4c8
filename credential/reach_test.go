package credential_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

func TestExtend(t *testing.T) {
	hour := time.Hour
	tests := []struct {
		name  string
		row   store.Credential
		to    credential.Extension
		want  time.Time
		field string // where it is refused
	}{
		{"until", store.Credential{Expires: now.Add(hour)}, credential.Extension{Expires: now.Add(2 * hour)}, now.Add(2 * hour), ""},
		{"for", store.Credential{Expires: now.Add(hour)}, credential.Extension{TTL: 2 * hour}, now.Add(2 * hour), ""},
		{"one that expired", store.Credential{Expires: now.Add(-hour)}, credential.Extension{TTL: hour}, now.Add(hour), ""},
		{"as it is", store.Credential{Expires: now.Add(hour)}, credential.Extension{TTL: hour}, now.Add(hour), ""},
		{"sooner", store.Credential{Expires: now.Add(hour)}, credential.Extension{TTL: hour - 1000}, time.Time{}, "expires_at"},
		{"from the past into the past", store.Credential{Expires: now.Add(-hour)}, credential.Extension{Expires: now}, time.Time{}, "expires_at"},
		{"without an end", store.Credential{}, credential.Extension{TTL: hour}, time.Time{}, "expires_at"},
		{"nothing said", store.Credential{Expires: now.Add(hour)}, credential.Extension{}, time.Time{}, "expires_at"},
		{"both", store.Credential{Expires: now.Add(hour)}, credential.Extension{TTL: hour, Expires: now.Add(2 * hour)}, time.Time{}, "ttl"},
		{"revoked", store.Credential{State: "revoked", Expires: now.Add(hour)}, credential.Extension{TTL: 2 * hour}, time.Time{}, "state"},
		{"suspended", store.Credential{State: "suspended", Expires: now.Add(hour)}, credential.Extension{TTL: 2 * hour}, now.Add(2 * hour), ""},
		{"longest life", store.Credential{Team: "ops", Expires: now.Add(hour)}, credential.Extension{TTL: 24 * hour}, now.Add(24 * hour), ""},
		{"too long", store.Credential{Team: "ops", Expires: now.Add(hour)}, credential.Extension{TTL: 24*hour + 1000}, time.Time{}, "ttl"},
		{"before its begin", store.Credential{NotBefore: now.Add(3 * hour), Expires: now.Add(hour)}, credential.Extension{TTL: 2 * hour}, time.Time{}, "expires_at"},
		{"team gone", store.Credential{Team: "gone", Expires: now.Add(hour)}, credential.Extension{TTL: 2 * hour}, time.Time{}, "team"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, row := officeOver(t, tt.row)
			got, err := o.Extend(t.Context(), row.ID, credential.Edit{Note: "why"}, tt.to)
			if refusedAt(err) != tt.field || (err != nil) != (tt.field != "") {
				t.Fatalf("%v, want the field %q", err, tt.field)
			}
			if err != nil && (o.m.writes > 0 || len(o.changes) > 0) {
				t.Error("it was changed all the same")
			}
			if !got.Expires.Equal(tt.want) {
				t.Errorf("%s, want %s", got.Expires, tt.want)
			}
			if changed := err == nil && !tt.want.Equal(tt.row.Expires); changed != (len(o.changes) == 1) || changed && (o.changes[0].Kind != "extend" || !o.changes[0].Expires.Equal(tt.want) || o.changes[0].Note != "why") {
				t.Errorf("recorded %+v", o.changes)
			}
		})
	}
}

// officeOver has one row, with the fields given.
func officeOver(t *testing.T, with store.Credential) (*office, store.Credential) {
	t.Helper()
	row := stored(credential.Generate())
	row.NotBefore, row.Expires, row.Scopes, row.AllowedIPs = with.NotBefore, with.Expires, with.Scopes, with.AllowedIPs
	if with.Team != "" {
		row.Team = with.Team
	}
	if with.State != "" {
		row.State = with.State
	}
	return newOffice(t, credential.Generate(), row), row
}

func TestNarrow(t *testing.T) {
	hour := now.Add(time.Hour)
	type n = credential.Narrowing
	type list = []string
	tests := []struct {
		name  string
		row   store.Credential
		to    n
		want  store.Credential // scopes, networks, end
		field string
	}{
		{"scopes", store.Credential{}, n{Scopes: list{"members.read"}}, store.Credential{Scopes: list{"members.read"}}, ""},
		{"a glob is what there is of it", store.Credential{Scopes: list{"members.read", "gateways.read"}}, n{Scopes: list{"members.*"}}, store.Credential{Scopes: list{"members.read"}}, ""},
		{"all that there is", store.Credential{}, n{Scopes: list{"members.*"}}, store.Credential{Scopes: expand("members.*").Names()}, ""},
		{"the same again", store.Credential{Scopes: list{"members.read"}}, n{Scopes: list{"members.read"}}, store.Credential{Scopes: list{"members.read"}}, ""},
		{"a scope that it has not", store.Credential{Scopes: list{"members.read"}}, n{Scopes: list{"members.read", "members.delete"}}, store.Credential{}, "scopes"},
		{"a scope that its team lost", store.Credential{Scopes: list{"members.read", "devices.read"}}, n{Scopes: list{"devices.read"}}, store.Credential{}, "scopes"},
		{"no scopes", store.Credential{}, n{Scopes: list{}}, store.Credential{}, "scopes"},
		{"of none", store.Credential{Scopes: list{}}, n{Scopes: list{"*.*"}}, store.Credential{}, "scopes"},

		{"networks", store.Credential{}, n{AllowedIPs: list{"192.0.2.0/24"}}, store.Credential{AllowedIPs: list{"192.0.2.0/24"}}, ""},
		{"within", store.Credential{AllowedIPs: list{"198.51.100.0/24", "192.0.2.0/24"}}, n{AllowedIPs: list{"192.0.2.128/25"}}, store.Credential{AllowedIPs: list{"192.0.2.128/25"}}, ""},
		{"without", store.Credential{AllowedIPs: list{"192.0.2.0/25"}}, n{AllowedIPs: list{"192.0.2.128/25"}}, store.Credential{}, "allowed_ips"},
		{"wider", store.Credential{AllowedIPs: list{"192.0.2.0/25"}}, n{AllowedIPs: list{"192.0.2.0/24"}}, store.Credential{}, "allowed_ips"},
		{"another family", store.Credential{AllowedIPs: list{"0.0.0.0/0"}}, n{AllowedIPs: list{"2001:db8::/32"}}, store.Credential{}, "allowed_ips"},
		{"of nowhere", store.Credential{AllowedIPs: list{}}, n{AllowedIPs: list{"192.0.2.0/24"}}, store.Credential{}, "allowed_ips"},
		{"of what cannot be read", store.Credential{AllowedIPs: list{"?"}}, n{AllowedIPs: list{"192.0.2.0/24"}}, store.Credential{}, "allowed_ips"},
		{"within its team", store.Credential{Team: "ops"}, n{AllowedIPs: list{"10.1.0.0/16"}}, store.Credential{AllowedIPs: list{"10.1.0.0/16"}}, ""},
		{"without its team", store.Credential{Team: "ops"}, n{AllowedIPs: list{"192.0.2.0/24"}}, store.Credential{}, "allowed_ips"},
		{"no networks", store.Credential{}, n{AllowedIPs: list{}}, store.Credential{}, "allowed_ips"},
		{"bits behind the mask", store.Credential{}, n{AllowedIPs: list{"192.0.2.1/24"}}, store.Credential{}, "allowed_ips"},

		{"an end", store.Credential{}, n{Expires: hour}, store.Credential{Expires: hour}, ""},
		{"a sooner end", store.Credential{Expires: hour.Add(1e9)}, n{Expires: hour}, store.Credential{Expires: hour}, ""},
		{"the same end", store.Credential{Expires: hour}, n{Expires: hour}, store.Credential{Expires: hour}, ""},
		{"a later end", store.Credential{Expires: hour}, n{Expires: hour.Add(1000)}, store.Credential{}, "expires_at"},
		{"a later end of one that expired", store.Credential{Expires: now.Add(-1e9)}, n{Expires: hour}, store.Credential{}, "expires_at"},
		{"now", store.Credential{Expires: hour}, n{Expires: now}, store.Credential{}, "expires_at"},
		{"before its begin", store.Credential{NotBefore: hour}, n{Expires: hour}, store.Credential{}, "expires_at"},
		{"an end that JSON has not", store.Credential{}, n{Expires: now.AddDate(8000, 0, 0)}, store.Credential{}, "expires_at"},

		{"nothing said", store.Credential{}, n{}, store.Credential{}, "scopes"},
		{"one of two is wrong", store.Credential{Expires: hour}, n{Scopes: list{"members.read"}, Expires: hour.Add(1000)}, store.Credential{}, "expires_at"},
		{"revoked", store.Credential{State: "revoked"}, n{Scopes: list{"members.read"}}, store.Credential{}, "state"},
		{"team gone", store.Credential{Team: "gone"}, n{Scopes: list{"members.read"}}, store.Credential{}, "team"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, row := officeOver(t, tt.row)
			got, err := o.Narrow(t.Context(), row.ID, credential.Edit{}, tt.to)
			if refusedAt(err) != tt.field || (err != nil) != (tt.field != "") {
				t.Fatalf("%v, want the field %q", err, tt.field)
			}
			if err != nil {
				if o.m.writes > 0 || len(o.changes) > 0 {
					t.Error("it was changed all the same")
				}
				return
			}
			if !slices.Equal(got.Scopes, tt.want.Scopes) || !slices.Equal(got.AllowedIPs, tt.want.AllowedIPs) || !got.Expires.Equal(tt.want.Expires) {
				t.Errorf("%v, %v, %s", got.Scopes, got.AllowedIPs, got.Expires)
			}
			want := []credential.Change{{
				Kind: "narrow", ID: row.ID, Team: row.Team, Name: "ci", Scopes: got.Scopes, AllowedIPs: got.AllowedIPs, Expires: got.Expires,
			}}
			if strings.HasPrefix(tt.name, "the same") {
				want = nil
			}
			if diff := cmp.Diff(want, o.changes); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
}
