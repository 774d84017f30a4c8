package policy_test

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/scopegate/scopegate/policy"
)

// The words of reasons are metric labels and stand in records for years: each
// must be there, be plain, and be its own.
func TestReasonsHaveWords(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for i, r := range policy.Reasons() {
		if int(r) != i {
			t.Errorf("%s is number %d in place %d", r, uint8(r), i)
		}
		if !word.MatchString(r.String()) || seen[r.String()] {
			t.Errorf("reason %d has the word %q", uint8(r), r)
		}
		seen[r.String()] = true
		text, err := json.Marshal(map[string]policy.Reason{"reason": r})
		if err != nil || string(text) != `{"reason":"`+r.String()+`"}` {
			t.Errorf("in JSON: %s, %v", text, err)
		}
	}
	var zero policy.Decision
	if zero.Allow() || !zero.Reason.Denies() {
		t.Error("a decision that was never made allows")
	}
}

func TestReasonOutsideTheList(t *testing.T) {
	if got := policy.Reason(255).String(); got != "reason(255)" {
		t.Errorf("prints %q", got)
	}
}

func TestOnlyAllowedAllows(t *testing.T) {
	for i := range 256 {
		r := policy.Reason(i)
		if (policy.Decision{Reason: r}).Allow() != (r == policy.Allowed) {
			t.Errorf("%s", r)
		}
	}
}
