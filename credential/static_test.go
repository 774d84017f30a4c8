package credential_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
)

func TestStaticFindsByTheIDOfEachKey(t *testing.T) {
	k1, k2, k3 := credential.Generate(), credential.Generate(), credential.Generate()
	again, err := credential.GenerateWithID(k3.ID())
	if err != nil {
		t.Fatal(err)
	}
	static, err := credential.NewStatic([]*credential.Credential{
		holder("billing", "ci", k1, k2), holder("ops", "ci", k3, again),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, id := range []string{k1.ID(), k2.ID(), k3.ID()} {
		var c credential.Credential
		if found, err := static.Find(id, &c); found != credential.Configured || err != nil {
			t.Fatalf("no credential for %s", id)
		}
		got[c.Identity.Credential] = c.Identity.Team.Name
	}
	if diff := cmp.Diff(map[string]string{k1.ID(): "billing", k2.ID(): "billing", k3.ID(): "ops"}, got); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"", credential.Generate().ID(), strings.ToLower(k1.ID()) + "x"} {
		c := *holder("left", "over", k1)
		if found, err := static.Find(id, &c); found != credential.Unknown || err != nil || c.Proven() {
			t.Errorf("id %q finds %v, %v", id, c.Identity, err)
		}
	}
}

func TestNewStaticRejects(t *testing.T) {
	k1, k2, k3 := credential.Generate(), credential.Generate(), credential.Generate()
	sameID, err := credential.GenerateWithID(k1.ID())
	if err != nil {
		t.Fatal(err)
	}
	type list = []*credential.Credential
	tests := []struct {
		name string
		list list
		says []string
	}{
		{"no key", list{holder("billing", "ci")}, []string{`"ci"`, `"billing"`}},
		{"three keys", list{holder("billing", "ci", k1, k2, k3)}, []string{`"ci"`, "3 hashes"}},
		{"no team", list{{Identity: policy.Identity{Name: "ci"}, Verifiers: []credential.Verifier{k1.Verifier()}}}, []string{`"ci"`}},
		{"one key for two teams", list{holder("billing", "ci", k1), holder("ops", "cd", k1)}, []string{`"ci"`, `"cd"`, k1.ID()}},
		{"one id for two credentials", list{holder("billing", "ci", k1), holder("billing", "cd", k2, sameID)}, []string{`"ci"`, `"cd"`, k1.ID()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := credential.NewStatic(tt.list)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %s", err, want)
				}
			}
		})
	}
}
