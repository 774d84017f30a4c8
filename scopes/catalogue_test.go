package scopes_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/scopes"
)

func TestCatalogueIsWhole(t *testing.T) {
	if got := scopes.All().Len(); got != 52 {
		t.Errorf("%d scopes, want 52", got)
	}
	ops := scopes.Operations()
	if len(ops) != 53 {
		t.Errorf("%d operations, want 53", len(ops))
	}
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\d$`).MatchString(scopes.Version()) {
		t.Errorf("version %q is no date", scopes.Version())
	}

	neededBy := map[scopes.Scope][]string{}
	ids, routes := map[string]bool{}, map[string]bool{}
	for _, op := range ops {
		if ids[op.ID] || routes[op.Method+" "+op.Path] {
			t.Errorf("%s (%s %s) stands twice", op.ID, op.Method, op.Path)
		}
		ids[op.ID], routes[op.Method+" "+op.Path] = true, true
		s, ok := op.Scope()
		if !ok {
			if op.Path != "/api/v1/test-connection" || op.ScopeName() != "" {
				t.Errorf("%s needs no scope", op.ID)
			}
			continue
		}
		if op.ScopeName() != s.String() {
			t.Errorf("%s needs %s and says %s", op.ID, s, op.ScopeName())
		}
		neededBy[s] = append(neededBy[s], op.ID)
	}
	for _, s := range scopes.All().Scopes() {
		if len(neededBy[s]) != 1 {
			t.Errorf("%s is needed by %v, want exactly one operation", s, neededBy[s])
		}
	}
}

func TestCatalogueGivesEvidence(t *testing.T) {
	known := []scopes.Evidence{scopes.Docs, scopes.Seed, scopes.Provider, scopes.Inferred}
	paths := map[scopes.Evidence]int{}
	for _, op := range scopes.Operations() {
		paths[op.PathEvidence]++
		if !slices.Contains(known, op.PathEvidence) || !slices.Contains(known, op.ResponseEvidence) {
			t.Errorf("%s: path by %q, response by %q", op.ID, op.PathEvidence, op.ResponseEvidence)
		}
		if hasBody := op.Body != scopes.NoBody; hasBody != slices.Contains(known, op.RequestEvidence) {
			t.Errorf("%s: body %q by %q", op.ID, op.Body, op.RequestEvidence)
		}
	}
	want := map[scopes.Evidence]int{scopes.Docs: 26, scopes.Seed: 4, scopes.Provider: 7, scopes.Inferred: 16}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("evidence of paths (-want +got):\n%s", diff)
	}
	for _, s := range scopes.All().Scopes() {
		if !slices.Contains(known, scopes.ScopeEvidence(s)) {
			t.Errorf("%s: evidence %q", s, scopes.ScopeEvidence(s))
		}
	}
}

// resources are the words that scope names have for the pieces of paths. The
// vendor mixes singular and plural, and ac with access-card.
var resources = map[string][]string{
	"members": {"members"}, "member": {"members"},
	"groups": {"groups"}, "group": {"groups"},
	"systems": {"system"}, "system": {"systems"},
	"system-groups": {"system-groups"}, "system-group": {"system-groups"},
	"access-cards": {"access-card"}, "access-card": {"access-cards"},
	"gateways": {"gateway"}, "gateway": {"gateways"},
	"devices": {"devices"}, "device": {"devices"},
	"tokens": {"token"}, "token": {"token"},
	"gateway-level-logs": {"gateway-log"}, "system-level-logs": {"system-logs"},
	"threat-blocker-logs":       {"threat-blocker-logs"},
	"device-posture-check-logs": {"device-posture-check-logs"},
	"admin-logs":                {"admin-logs"},
	"access-card system":        {"system-ac-relation"},
	"access-card member":        {"member-ac-relation"},
	"group access-card":         {"group-access-card-relation"},
	"group member":              {"member-group-relation"},
	"system-group system":       {"system-system-group-relation"},
	"system-group access-card":  {"system-group-access-card-relation"},
}

// The pairing of operations and scopes is the ground on which every decision
// stands: a row that slipped would let a team delete what it may only read.
// So it is derived here once more, from method and path alone.
func TestCataloguePairsByMeaning(t *testing.T) {
	for _, op := range scopes.Operations() {
		if op.ID == "testConnection" {
			continue
		}
		var literals []string
		ids := 0
		for piece := range strings.SplitSeq(strings.TrimPrefix(op.Path, "/api/v1/"), "/") {
			if strings.HasPrefix(piece, "{") {
				ids++
			} else {
				literals = append(literals, piece)
			}
		}
		relation := literals[0] == "relation"
		if relation {
			literals = literals[1:]
		}
		action := map[string]string{"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}[op.Method]
		switch {
		case relation && op.Method == "POST":
			action = "add"
		case literals[len(literals)-1] == "disconnect":
			action, literals = "disconnect", literals[:len(literals)-1]
		case op.Method == "GET" && ids == 0 && !strings.HasSuffix(literals[0], "-logs"):
			action = "read-all"
		}
		resource := strings.Join(literals, " ")
		if want := resources[resource][0] + "." + action; op.ScopeName() != want {
			t.Errorf("%s %s needs %s, want %s", op.Method, op.Path, op.ScopeName(), want)
		}
	}
}

func TestCatalogueBodies(t *testing.T) {
	for _, op := range scopes.Operations() {
		want := scopes.NoBody
		switch {
		case op.ID == scopes.CreateToken:
			want = scopes.TokenBody
		case op.ID == "updateMember":
			want = scopes.MemberBody
		case strings.HasSuffix(op.Path, "-logs"): // a filter, on GET
			want = scopes.JSONBody
		case op.Method == "PUT", op.Method == "POST" && strings.Count(op.Path, "/") == 3:
			want = scopes.JSONBody
		}
		if op.Body != want {
			t.Errorf("%s %s has body %s, want %s", op.Method, op.Path, op.Body, want)
		}
		if op.Reads() != (op.Method == "GET") {
			t.Errorf("%s reads: %v", op.ID, op.Reads())
		}
	}
}

// The gateway treats each of them in its own way, which it knows by the id.
func TestTokenOperationsAreFoundByTheirIDs(t *testing.T) {
	var ids []string
	for _, op := range scopes.Operations() {
		if op.OfTokens() {
			ids = append(ids, op.ID)
		}
	}
	want := []string{scopes.ListTokens, scopes.GetToken, scopes.RevokeToken, scopes.CreateToken}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
}

// An operation whose row says nothing of its answer, or a word that nobody
// knows, would otherwise be shared among those who may not see the same.
func TestCatalogueAnswers(t *testing.T) {
	for _, op := range scopes.Operations() {
		s, ok := op.Scope()
		want := scopes.PlainAnswer
		if ok && scopes.TokenScopes().Has(s) || strings.HasPrefix(op.Path, "/api/v1/token") {
			want = scopes.TokenAnswer
		}
		if op.Answer != want {
			t.Errorf("%s %s has answer %q, want %q", op.Method, op.Path, op.Answer, want)
		}
	}
	for _, unknown := range []scopes.Answer{"", "Plain", "new"} {
		if !(&scopes.Operation{Method: "GET", Answer: unknown}).OfTokens() {
			t.Errorf("answer %q is not taken for one of tokens", unknown)
		}
	}
}

// A caller of Operations must not be able to change what others get.
func TestOperationsIsACopy(t *testing.T) {
	scopes.Operations()[0] = nil
	if scopes.Operations()[0] == nil {
		t.Error("the catalogue itself came out")
	}
}
