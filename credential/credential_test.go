package credential_test

import (
	"testing"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
)

func TestParseState(t *testing.T) {
	for _, s := range []credential.State{credential.Active, credential.Suspended, credential.Revoked} {
		if back, err := credential.ParseState(s.String()); err != nil || back != s {
			t.Errorf("%s reads back as %s, %v", s, back, err)
		}
	}
	for _, name := range []string{"", "Active", "active ", "disabled", credential.State(0).String()} {
		if s, err := credential.ParseState(name); err == nil {
			t.Errorf("state %q is %s", name, s)
		}
	}
}

func holder(team, name string, keys ...credential.Key) *credential.Credential {
	c := &credential.Credential{
		Identity: policy.Identity{Team: &policy.Team{Name: team}, Name: name},
		State:    credential.Active,
	}
	for _, k := range keys {
		c.Verifiers = append(c.Verifiers, k.Verifier())
	}
	return c
}
