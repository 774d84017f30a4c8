package scopegate

import (
	"os"
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
