package scopegate

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/policy"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A reason that nobody gave a status would be told to callers as a bare 403.
func TestEveryRefusalHasAnOutcome(t *testing.T) {
	for _, r := range policy.Reasons() {
		o, ok := outcomes[r]
		switch {
		case r == policy.Allowed && ok:
			t.Error("allowed is no refusal")
		case r != policy.Allowed && (!ok || o.text == ""):
			t.Errorf("%s has no outcome", r)
		case o.status == 401 && o.bearer == "":
			t.Errorf("%s: a 401 needs a challenge (RFC 9110, section 15.5.2)", r)
		case o.status == 404 && r != policy.TokenNotFound:
			t.Errorf("%s: clients take a 404 for an object that is gone", r)
		}
	}
}

// What is made beforehand must be what would be made for the request.
func TestRefusalsSpokenBeforehand(t *testing.T) {
	const id = "0b7e5a10-0000-4000-8000-000000000101"
	for why := range spokenFor {
		no := refuse(why.reason)
		if got, want := string(no.body(id, why)), string(encode(no.problem(id, why.scope))); got != want {
			t.Errorf("%v is told as\n%s\nwant\n%s", why, got, want)
		}
		if strings.Count(string(no.body(id, why)), id) != 1 {
			t.Errorf("%v does not tell the decision's id once", why)
		}
	}
	scope := because{policy.InsufficientScope, "members.read"}
	no := &refusal{reason: scope.reason, detail: "More.", field: "name", upstreamStatus: 418}
	var p problem
	if err := json.Unmarshal(no.body(id, scope), &p); err != nil {
		t.Fatal(err)
	}
	if p.Detail != no.text() || p.Field != "name" || p.UpstreamStatus != 418 || p.ScopeNeeded != "members.read" || p.DecisionID != id {
		t.Errorf("a refusal with more to say is told as %+v", p)
	}
	if got := scope.spoken().challenge; len(got) != 1 || !strings.Contains(got[0], `scope="members.read"`) {
		t.Errorf("the challenge is %q", got)
	}
}
