package scopegate

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
)

func TestTokenCommands(t *testing.T) {
	s := newShell(t, manyTokens)
	made := s.mint(t)
	if out, _ := s.must(t, "token", "list", "--team", "red"); !strings.Contains(out, made.ID) || !strings.Contains(out, "report") || strings.Contains(out, "-sg-") {
		t.Errorf("list:\n%s", out)
	}
	var list []tokenView
	out, _ := s.must(t, "token", "list", "--json", "--state", "live,gone")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Errorf("list --json: %v\n%s", err, out)
	}
	if out, _ := s.must(t, "token", "show", made.ID); !strings.Contains(out, "red/report") || !strings.Contains(out, s.key.ID()) {
		t.Errorf("show:\n%s", out)
	}
	if _, _, err := s.run(t, "no\n", "token", "revoke", "--credential", s.key.ID()); err == nil || !s.lives(made.ID) {
		t.Errorf("revoked without a yes: %v", err)
	}
	if _, _, err := s.run(t, "", "token", "revoke"); err == nil {
		t.Error("revoking nothing is no error")
	}
	if _, errs := s.must(t, "token", "revoke", made.ID, "--note", "it leaked"); !strings.Contains(errs, "red/report") {
		t.Errorf("revoke:\n%s", errs)
	}
	s.ends(t)
	log := readFile(t, s.log)
	if !strings.Contains(string(log), `"change":"token-revoke"`) || !strings.Contains(string(log), `it leaked`) {
		t.Error("no record of the revocation")
	}
	if out, _ := s.must(t, "token", "debt"); strings.Contains(out, made.ID) {
		t.Errorf("debt:\n%s", out)
	}
	if out, _ := s.must(t, "team", "list"); !strings.Contains(out, "red") {
		t.Errorf("teams:\n%s", out)
	}
	if out, _ := s.must(t, "team", "show", "red"); !strings.Contains(out, "members.read") {
		t.Errorf("team:\n%s", out)
	}
	s.mint(t)
	if out, _ := s.must(t, "team", "drain", "red", "--yes"); !strings.Contains(out, "1 token") {
		t.Errorf("drain:\n%s", out)
	}
	s.ends(t)
	if _, _, err := s.run(t, "", "team", "drain", "rde", "--yes"); err == nil || !strings.Contains(err.Error(), "exit") && !strings.Contains(err.Error(), "3") {
		t.Errorf("draining no team: %v", err)
	}
}

// More lost tokens than a run may delete are no accident: it stops, and says
// how to go on.
func TestReconcileStopsToAsk(t *testing.T) {
	s := newShell(t, manyTokens)
	heal := s.sim.Fail(simulator.Fault{Operation: "createToken", Effect: simulator.Lose()})
	for range 3 {
		s.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	}
	heal()
	if out, _ := s.must(t, "token", "reconcile", "--dry-run"); !strings.Contains(out, "recovered") {
		t.Errorf("dry:\n%s", out)
	}
	out, errs, err := s.run(t, "", "token", "reconcile", "--max-deletions", "2")
	if err == nil || !strings.Contains(errs, "--max-deletions") || len(s.rowsIn(t, ledger.Unknown)) != 3 {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	if out, _ := s.must(t, "token", "debt"); strings.Count(out, "unknown") != 3 {
		t.Errorf("debt:\n%s", out)
	}
	s.must(t, "token", "reconcile", "--max-deletions", "3", "--json")
	s.ends(t)
}

// After a restore nothing is deleted until somebody has looked.
func TestReconcileAfterARestore(t *testing.T) {
	s := newShell(t, manyTokens)
	heal := s.sim.Fail(simulator.Fault{Operation: "createToken", Effect: simulator.Lose()})
	s.do(t, "POST", "/api/v1/token", mint(48*time.Hour))
	heal()
	restored, ok := s.room.rows.(interface {
		Restored(ctx context.Context, note string) (int, error)
	})
	if !ok {
		t.Fatal("the store cannot be restored")
	}
	if _, err := restored.Restored(t.Context(), "from a backup"); err != nil {
		t.Fatal(err)
	}
	report, err := s.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{})
	if err != nil || !report.Dry || report.Stopped == "" || len(s.sim.Tokens()) != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	s.must(t, "token", "reconcile", "--after-restore")
	s.ends(t)
	if at, err := s.room.rows.Restoration(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("still restored: %v, %v", at, err)
	}
	if _, err := s.room.ledger.Reconcile(t.Context(), ledger.Reconciliation{}); errors.Is(err, ledger.ErrBusy) {
		t.Errorf("the lease was not given back: %v", err)
	}
}
