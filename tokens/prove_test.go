package tokens_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

const seenID = "0b7e5a10-0000-4000-8000-00000000000a"

func TestProve(t *testing.T) {
	mint := &tokens.Mint{
		Name: "x", Sent: "x-stamped", ExpiresAt: "2027-01-31 00:00:00",
		AllowedIPs: []string{"203.0.113.0/24", "192.0.2.1"}, Scopes: named(t, "system.read-all", "groups.read"),
	}
	for _, tc := range []struct {
		name, body    string
		wider, silent []string
	}{
		{"as it was asked for", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["203.0.113.0/24","192.0.2.1"],"allowed_scopes":["groups.read","system.read-all"]`, nil, nil},
		{"in another order and spelling", `"allowed_scopes":["systems.read-all","groups.read"],"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1","203.0.113.0/24"]`, nil, nil},
		{"narrower", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":["groups.read"]`, nil, nil},
		{"another scope", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":["groups.read","groups.update"]`, []string{"allowed_scopes"}, nil},
		{"an unknown scope", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":["*"]`, []string{"allowed_scopes"}, nil},
		{"no scopes, which may be all", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":[]`, []string{"allowed_scopes"}, nil},
		{"every address", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":[],"allowed_scopes":["groups.read"]`, []string{"allowed_ips"}, nil},
		{"another address", `"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_ips":["203.0.113.0/25"],"allowed_scopes":["groups.read"]`, []string{"allowed_ips"}, nil},
		{"later", `"name":"x-stamped","expires_at":"2027-02-01 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":["groups.read"]`, []string{"expires_at"}, nil},
		{"the stamp was cut off", `"name":"x","expires_at":"2027-01-31 00:00:00","allowed_ips":["192.0.2.1"],"allowed_scopes":["groups.read"]`, []string{"name"}, nil},
		{"nothing is shown", `"x":1`, nil, []string{"name", "allowed_scopes", "expires_at", "allowed_ips"}},
		// Upstream says that the token never ends, works from everywhere and may do everything.
		{"null is none", `"name":null,"expires_at":null,"allowed_ips":null,"allowed_scopes":null`, []string{"name", "allowed_scopes", "expires_at", "allowed_ips"}, nil},
		{"so are other words for it", `"name":"","expires_at":0,"allowed_ips":{},"allowed_scopes":false`, []string{"name", "allowed_scopes", "expires_at", "allowed_ips"}, nil},
		{"another form proves nothing", `"name":{"text":"x-stamped"},"expires_at":1,"allowed_ips":"192.0.2.1","allowed_scopes":[["groups.read"]]`, nil, []string{"name", "allowed_scopes", "expires_at", "allowed_ips"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen, err := tokens.Read([]byte(`{"id":"`+seenID+`",`+tc.body+`}`), strings.ToUpper(seenID))
			if err != nil {
				t.Fatal(err)
			}
			got := mint.Prove(seen)
			got.Another = false // of which there is a table below
			if diff := cmp.Diff(tokens.Proof{Wider: tc.wider, Silent: tc.silent}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func named(t testing.TB, names ...string) (set scopes.Set) {
	t.Helper()
	for _, name := range names {
		s, err := scopes.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		set = set.Union(scopes.Of(s))
	}
	return set
}

func TestDiffers(t *testing.T) {
	made := tokens.Made{Name: "x", Scopes: []string{"groups.read", "devices.read"}, AllowedIPs: []string{"192.0.2.1"}, ExpiresAt: "2027-01-31 00:00:00"}
	same := tokens.Seen{Name: "x", Scopes: made.Scopes, AllowedIPs: made.AllowedIPs, ExpiresAt: made.ExpiresAt, Shown: []string{"name", "allowed_scopes", "allowed_ips", "expires_at"}}
	if got := tokens.Differs(same, made); got != nil {
		t.Errorf("the same: %v", got)
	}
	narrower := same
	narrower.Scopes = []string{"groups.read"}
	if got := tokens.Differs(narrower, made); len(got) != 1 || got[0] != "allowed_scopes" {
		t.Errorf("narrower: %v", got)
	}
	if got := tokens.Differs(tokens.Seen{}, made); got != nil {
		t.Errorf("nothing shown: %v", got)
	}
}

func TestEach(t *testing.T) {
	const one = `{"id":"` + seenID + `","name":"x","token":"secret"}`
	for body, want := range map[string]int{
		`[` + one + `,` + one + `]`:              2,
		`{"data":[` + one + `],"total":1}`:       1,
		`{"items":[]}`:                           0,
		`[` + one:                                -1,
		`{"tokens":[]}`:                          -1,
		`[{"id":"x"}]`:                           -1,
		`[{"id":"` + seenID + `","id":"other"}]`: -1,
		`[{"id":"` + seenID + `","name":"a","name":"b"}]`: -1,
	} {
		n := 0
		err := tokens.Each(strings.NewReader(body), func(s tokens.Seen) error {
			if s.ID != seenID || s.Name != "x" {
				t.Errorf("%s: %+v", body, s)
			}
			n++
			return nil
		})
		switch {
		case want < 0 && !errors.Is(err, tokens.ErrShape):
			t.Errorf("%s: %v", body, err)
		case want >= 0 && (err != nil || n != want):
			t.Errorf("%s: %d tokens, %v", body, n, err)
		}
	}
	if err := tokens.Each(strings.NewReader(`[`+one+`]`), func(tokens.Seen) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("an error of the caller's: %v", err)
	}
}

var errStop = errors.New("enough")

// A token that the mint did not make is told from one that upstream changed.
func TestProveOfAnotherToken(t *testing.T) {
	mint := &tokens.Mint{
		Name: "x", Sent: "x-stamped", ExpiresAt: "2027-01-31 00:00:00", AllowedIPs: []string{"192.0.2.1"}, Scopes: named(t, "groups.read"),
	}
	for name, tc := range map[string]struct {
		body    string
		another bool
	}{
		"as it was asked for":           {`"name":"x-stamped","expires_at":"2027-01-31 00:00:00","allowed_scopes":["groups.read"]`, false},
		"another":                       {`"name":"y","expires_at":"2027-02-01 00:00:00"`, true},
		"another that never ends":       {`"name":"y","expires_at":null`, true},
		"another, as far as it is seen": {`"name":"y","allowed_scopes":["groups.read"]`, true},
		"another with a longer name":    {`"name":"x-stamped-2","expires_at":"2027-02-01 00:00:00"`, true},
		"renamed":                       {`"name":"y","expires_at":"2027-01-31 00:00:00"`, false},
		"its stamp was cut off":         {`"name":"x","expires_at":"2027-02-01 00:00:00","allowed_scopes":["*"]`, false},
		"it never ends":                 {`"name":"x-stamped","expires_at":null,"allowed_scopes":["*"]`, false},
		"without a name":                {`"name":null,"expires_at":null`, false},
		"nothing is seen":               {`"x":1`, false},
	} {
		seen, err := tokens.Read([]byte(`{"id":"`+seenID+`",`+tc.body+`}`), seenID)
		if err != nil {
			t.Fatal(err)
		}
		if got := mint.Prove(seen).Another; got != tc.another {
			t.Errorf("%s: %v", name, got)
		}
	}
}
