package scopegate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
)

// shownRecord is a record and where it stands.
type shownRecord struct {
	File   string          `json:"file"`
	Line   int             `json:"line"`
	Record json.RawMessage `json:"record"`
	policy *today
}

// maxShown bounds how many records of one decision are shown. It has two, unless
// somebody has made them up.
const maxShown = 100

// today is what a configuration says of a recorded request.
type today struct {
	Gateway   string   `json:"gateway"`
	DecidedBy []string `json:"decided_by"` // places in the configuration
	Decision  string   `json:"decision,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Unknown   string   `json:"not_judged,omitempty"` // what the record lacks
}

func auditShowCommand() *cobra.Command {
	l := &logFlags{}
	cmd := &cobra.Command{
		Use:   "show <decision-id> [<log>...]",
		Short: "Shows a decision and the policy behind it",
		Long: `Prints all records of one decision, whose id stands in the answer that the caller got.
With --config also which lines of that configuration grant or refuse it today, and how
it would be decided now; the configuration may have been another one then.

` + whichLog + `

Exit codes: 0 found, 1 not all of the log could be read, 2 called wrongly, 3 not found.`,
		Example: `  scopegate audit show ce13af5d-6f59-4074-9037-c01604afefc7 --config /etc/scopegate/Caddyfile
  scopegate audit show ce13af5d-6f59-4074-9037-c01604afefc7 audit.jsonl --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			explain := func(*query.Entry) *today { return nil }
			if l.file != "" {
				found, err := l.load()
				if err != nil {
					return err
				}
				if explain, err = explainer(found); err != nil {
					return err
				}
			}
			sources, err := l.sources(cmd, args[1:])
			if err != nil {
				return err
			}
			var records []shownRecord
			more := 0
			totals, err := ask(cmd, sources, func() *[]shownRecord { return new([]shownRecord) }, func(part *[]shownRecord, e *query.Entry) {
				if e.Is(query.UUID, args[0]) {
					*part = append(*part, shownRecord{e.File, e.Line.Number, bytes.Clone(query.Safe(e.Line.Text)), explain(e)})
				}
			}, func(part *[]shownRecord) error {
				shown := (*part)[:min(len(*part), maxShown-len(records))]
				records = append(records, shown...)
				more += len(*part) - len(shown)
				return nil
			})
			if more > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "and %d more records with this id: `search --id` prints all\n", more)
			}
			if err == nil && len(records) == 0 {
				return &nothingError{"no decision has this id; " + spanOf(totals)}
			}
			if l.json {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), map[string]any{"records": records, "today": policyOf(records)}))
			}
			return errors.Join(err, printShown(cmd.OutOrStdout(), records))
		},
	}
	l.add(cmd)
	return cmd
}

// explainer returns what explains a decision by the gateway's configuration.
func explainer(found []loaded) (func(*query.Entry) *today, error) {
	type known struct {
		question
		*judge
	}
	gateways := map[string]known{}
	for _, g := range found {
		rules, err := g.compile()
		if err != nil {
			return nil, err
		}
		gateways[g.Name] = known{question{loaded: g, rules: rules}, newJudge(g.Gateway, rules)}
	}
	return func(e *query.Entry) *today {
		g, ok := gateways[e.Text(query.Gateway)]
		if !ok || !e.Is(query.Phase, string(audit.Decided)) || !e.ByCaller() {
			return nil
		}
		return g.question.today(e, g.judge)
	}, nil
}

// today says which lines decide a recorded request. Those of a refusal that the
// record itself tells of are found, too, where its verdict is not known.
func (q question) today(e *query.Entry, j *judge) *today {
	t := &today{Gateway: q.Name}
	r := j.rule(e)
	reason := r.reason
	if r.gap != "" {
		t.Unknown, reason = r.gap, j.reasons[e.Text(query.Reason)]
	} else {
		t.Reason, t.Decision = reason.String(), string(audit.Deny)
		if reason == policy.Allowed {
			t.Decision = string(audit.Allow)
		}
	}
	team := j.teams[e.Text(query.Team)]
	if team == nil {
		return t
	}
	var held credential.Credential
	found, _ := q.rules.static.Find(e.Text(query.Credential), &held) // it never fails
	if found != credential.Configured {
		held.Identity = policy.Identity{Team: team, Scopes: team.Scopes}
	}
	q.caller = &held
	t.DecidedBy = q.decidedBy(reason, e.Text(query.Scope))
	if found != credential.Configured && j.stored && (r.gap == gapCredential || ownReasons[reason]) {
		id := query.Shown(e.Text(query.Credential))
		t.DecidedBy = append(t.DecidedBy, "the stored credential "+id+": scopegate key show "+id)
	}
	return t
}

// ownReasons are those for which a credential itself is refused.
var ownReasons = map[policy.Reason]bool{
	policy.CredentialExpired: true, policy.CredentialNotYetValid: true,
	policy.CredentialRevoked: true, policy.CredentialSuspended: true,
}

// policyOf is what was said of the one record that is a decision.
func policyOf(records []shownRecord) *today {
	for _, r := range records {
		if r.policy != nil {
			return r.policy
		}
	}
	return nil
}

func printShown(w io.Writer, records []shownRecord) error {
	for _, r := range records {
		fmt.Fprintf(w, "%s:%d\n", query.Shown(r.File), r.Line)
		if err := printMembers(w, r.Record); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	t := policyOf(records)
	if t == nil {
		return nil
	}
	fmt.Fprintf(w, "by the configuration of today\n")
	fieldLines(w,
		[2]string{"decision", t.Decision}, [2]string{"reason", t.Reason}, [2]string{"not judged", t.Unknown},
		[2]string{"decided by", strings.Join(t.DecidedBy, "; ")},
	)
	return nil
}

// printMembers prints the members of a record in their order.
func printMembers(w io.Writer, record json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(record))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		fmt.Fprintf(w, "  %-17s%s\n", query.Shown(fmt.Sprint(name)), bytes.Trim(value, `"`))
	}
	return nil
}
