package audit

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the documentation says that the reserve holds: so many deletions of
// tokens, each with both of its records, while the log can take nothing.
func TestReserveHoldsHundredsOfDeletions(t *testing.T) {
	usual := Record{
		UUID: "ce13af5d-6f59-4074-9037-c01604afefc7", Team: "billing", Credential: "q6Qvd5rQwcXJ", ClientIP: "203.0.113.110",
		Generation: 2, Operation: "revokeToken", Scope: "token.revoke", Decision: Allow, Reason: "allowed",
		TokenID: "c45c93de-de65-4adc-878f-101add7bf098",
	}
	longest := usual
	longest.Team, longest.Credential = strings.Repeat("t", 64), strings.Repeat("c", 64)
	longest.ClientIP, longest.Generation = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 99
	tests := map[string]struct {
		record Record
		holds  int
	}{
		"usual": {usual, 500}, "with the longest names": {longest, 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, l, m := meddle(t, Changes)
			m.before = func(*meddled) error { return syscall.ENOSPC }
			decided, ended := tt.record, tt.record
			decided.Phase = Decided
			ended.Phase, ended.Status, ended.UpstreamStatus, ended.Size = Ended, 200, 200, 139
			ended.Duration, ended.Complete = 123456789*time.Nanosecond, true
			held := 0
			for l.WriteRevocation(&decided) == nil && l.WriteRevocation(&ended) == nil {
				held++
			}
			t.Logf("%d deletions", held)
			if held/100 != tt.holds/100 {
				t.Errorf("the reserve holds %d deletions, documented are some %d", held, tt.holds)
			}
			m.before = nil
			if err := l.Write(aRecord("a")); err != nil {
				t.Fatal(err)
			}
			if n := m.times(t, "revokeToken"); n/2 != held {
				t.Errorf("%d lines of %d deletions are in the log", n, held)
			}
		})
	}
}
