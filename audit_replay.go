package scopegate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
	"github.com/scopegate/scopegate/policy"
)

// exitChanged is the exit code of a replay in which verdicts change, so that
// nobody puts a configuration in place by `replay && reload` unseen.
const exitChanged = exitRefused

// maxChanges bounds how many kinds of changes are told apart.
const maxChanges = 10_000

// verdictChange is requests of one kind whose verdict changes.
type verdictChange struct {
	Team       string    `json:"team"`
	Credential string    `json:"credential,omitempty"`
	Operation  string    `json:"operation,omitempty"`
	Scope      string    `json:"scope_needed,omitempty"`
	Was        string    `json:"was"`
	Now        string    `json:"now"`
	Count      int64     `json:"count"`
	First      time.Time `json:"first,omitzero"`
	Last       time.Time `json:"last,omitzero"`
	Example    string    `json:"example"` // a decision id
}

// changeKey is what is counted together.
type changeKey struct{ team, credential, operation, was, now string }

// replayed is what became of records under another configuration.
type replayed struct {
	Judged      int64            `json:"judged"`
	Unchanged   int64            `json:"unchanged"`
	OtherReason int64            `json:"other_reason"` // the verdict stays, its reason does not
	Allowed     int64            `json:"deny_to_allow"`
	Denied      int64            `json:"allow_to_deny"`
	Unjudged    map[string]int64 `json:"not_judged"` // by what the record lacks

	changes map[changeKey]*verdictChange
}

func newReplayed() *replayed {
	return &replayed{Unjudged: map[string]int64{}, changes: map[changeKey]*verdictChange{}}
}

// add judges a record of a decision.
func (p *replayed) add(e *query.Entry, j *judge) {
	if !e.Is(query.Phase, string(audit.Decided)) || !e.ByCaller() {
		return
	}
	r := j.rule(e)
	if r.gap != "" {
		p.Unjudged[r.gap]++
		return
	}
	p.Judged++
	was, now := e.Is(query.Decision, string(audit.Allow)), r.reason == policy.Allowed
	switch {
	case was == now && e.Is(query.Reason, r.reason.String()):
		p.Unchanged++
		return
	case was == now:
		p.OtherReason++
		return
	case now:
		p.Allowed++
	default:
		p.Denied++
	}
	p.change(e, r.reason.String())
}

func (p *replayed) change(e *query.Entry, now string) {
	c := &verdictChange{
		Team: e.Text(query.Team), Credential: e.Text(query.Credential), Operation: e.Text(query.Operation), Scope: e.Text(query.Scope),
		Was: e.Text(query.Reason), Now: now, Count: 1, First: e.Time(), Last: e.Time(), Example: e.Text(query.UUID),
	}
	p.put(changeKey{c.Team, c.Credential, c.Operation, c.Was, c.Now}, c)
}

func (p *replayed) put(key changeKey, c *verdictChange) {
	have := p.changes[key]
	switch {
	case have != nil:
		have.Count += c.Count
		if c.Last.After(have.Last) { // of several logs the later one may come first
			have.Last = c.Last
		}
		if c.First.Before(have.First) {
			have.First = c.First
		}
	case len(p.changes) < maxChanges:
		p.changes[key] = c
	case key.team != query.Others:
		p.put(changeKey{team: query.Others, was: key.was, now: key.now}, &verdictChange{
			Team: query.Others, Was: c.Was, Now: c.Now, Count: c.Count, First: c.First, Last: c.Last, Example: c.Example,
		})
	default:
		p.changes[key] = c // as many more as there are pairs of reasons
	}
}

func (p *replayed) merge(o *replayed) {
	p.Judged += o.Judged
	p.Unchanged += o.Unchanged
	p.OtherReason += o.OtherReason
	p.Allowed += o.Allowed
	p.Denied += o.Denied
	for gap, n := range o.Unjudged {
		p.Unjudged[gap] += n
	}
	for key, c := range o.changes {
		p.put(key, c)
	}
}

// list is the changes, what is taken away first.
func (p *replayed) list() []*verdictChange {
	taken := func(c *verdictChange) int {
		if c.Now == policy.Allowed.String() {
			return 1
		}
		return 0
	}
	return slices.SortedFunc(maps.Values(p.changes), func(a, b *verdictChange) int {
		return cmp.Or(cmp.Compare(taken(a), taken(b)), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Team, b.Team),
			cmp.Compare(a.Credential, b.Credential), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Was, b.Was))
	})
}

// theGateway reads the one gateway that a question is about, and keeps to its
// records.
func (l *logFlags) theGateway() (loaded, *compiled, error) {
	if l.file == "" {
		return loaded{}, nil, misused("--config is needed: it says what is granted")
	}
	found, err := l.load()
	if err != nil {
		return loaded{}, nil, err
	}
	if len(found) > 1 {
		return loaded{}, nil, misused("the configuration has several gateways: name one with --gateway")
	}
	l.gateway = found[0].Name
	rules, err := found[0].compile()
	return found[0], rules, err
}

func auditReplayCommand() *cobra.Command {
	l, f := &logFlags{}, &filterFlags{}
	cmd := &cobra.Command{
		Use:   "replay --config <file> [<log>...]",
		Short: "Runs recorded requests through another configuration",
		Long: `Decides again, by the configuration given, every request that the logs have a decision
of, and prints each verdict that changes, with how often and one decision id of each
kind.

A record holds no path, no body, no key and no state of the limits. Where a verdict
depends on these it is not judged, and counted by what is lacking. Of credentials that
are stored and not configured, what they narrow is not known: only what their team may
not is certain.

` + whichLog + `

Exit codes: 0 no verdict changes, 1 something failed or not all of the log could be
read, 2 called wrongly, 3 verdicts change.`,
		Example: `  scopegate audit replay --config Caddyfile.new /var/log/scopegate/audit.jsonl
  scopegate audit replay --config Caddyfile.new --team billing --since 30d --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			g, rules, err := l.theGateway()
			if err != nil {
				return err
			}
			filter, err := f.filter(l.gateway, time.Now())
			if err != nil {
				return err
			}
			sources, err := l.sources(cmd, args)
			if err != nil {
				return err
			}
			j, all := newJudge(g.Gateway, rules), newReplayed()
			totals, err := ask(cmd, sources, newReplayed, func(part *replayed, e *query.Entry) {
				if filter.Match(e) {
					part.add(e, j)
				}
			}, func(part *replayed) error {
				all.merge(part)
				return nil
			})
			if err == nil && all.Judged == 0 && len(all.Unjudged) == 0 {
				return errors.New("nothing to replay: no decision is like that; " + spanOf(totals))
			}
			if l.json {
				err = errors.Join(err, printJSON(cmd.OutOrStdout(), map[string]any{"log": totals, "verdicts": all, "changes": all.list()}))
			} else {
				all.print(cmd.OutOrStdout(), totals)
			}
			if err == nil && len(all.changes) > 0 {
				return &changedError{all.Allowed + all.Denied}
			}
			return err
		},
	}
	l.add(cmd)
	f.add(cmd)
	return cmd
}

// changedError says that a configuration decides otherwise than was decided.
type changedError struct{ n int64 }

// Error says how often.
func (e *changedError) Error() string { return fmt.Sprintf("%d verdicts change", e.n) }

func (p *replayed) print(w io.Writer, totals query.Totals) {
	fieldLines(w,
		[2]string{"looked at", spanOf(totals)},
		[2]string{"judged", fmt.Sprintf("%d: %d unchanged, %d for another reason", p.Judged, p.Unchanged, p.OtherReason)},
		[2]string{"denied now", fmt.Sprint(p.Denied)},
		[2]string{"allowed now", fmt.Sprint(p.Allowed)},
	)
	for _, gap := range slices.Sorted(maps.Keys(p.Unjudged)) {
		fieldLines(w, [2]string{"not judged", fmt.Sprintf("%d; not recorded is %s", p.Unjudged[gap], gap)})
	}
	if len(p.changes) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nTEAM\tCREDENTIAL\tOPERATION\tNEEDS\tWAS\tNOW\tREQUESTS\tLAST\tFOR EXAMPLE")
	for _, c := range p.list() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", query.Shown(c.Team), cmp.Or(query.Shown(c.Credential), "-"),
			cmp.Or(query.Shown(c.Operation), "-"), cmp.Or(query.Shown(c.Scope), "-"), query.Shown(c.Was), c.Now, c.Count, day(&c.Last), query.Shown(c.Example))
	}
	_ = table.Flush() // a failed write shows in the command's last one
}

func (*changedError) exitCode() int { return exitChanged }
