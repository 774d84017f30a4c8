package scopegate

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

// use is how often something was used, and when last.
type use struct {
	Count int64     `json:"count"`
	Last  time.Time `json:"last,omitzero"`
}

// uses are uses by name.
type uses map[string]use

// maxUses bounds how many names are told apart: there are far fewer scopes, and a
// grant of as many addresses is none that anybody reads.
const maxUses = 10_000

func (u uses) add(name string, more use) {
	have, known := u[name]
	if !known && len(u) >= maxUses {
		name, have = query.Others, u[query.Others]
	}
	have.Count += more.Count
	if more.Last.After(have.Last) {
		have.Last = more.Last
	}
	u[name] = have
}

// usage is what a team was permitted and used.
type usage struct {
	scopes, minted, ips uses
	anyIP               bool
	life                time.Duration // the longest of a minted token

	zone *time.Location
}

func newUsage(zone *time.Location) *usage {
	return &usage{scopes: uses{}, minted: uses{}, ips: uses{}, zone: zone}
}

// add learns from a record of a decision.
func (u *usage) add(e *query.Entry) {
	if !e.Is(query.Phase, string(audit.Decided)) || !e.ByCaller() || !e.Is(query.Decision, string(audit.Allow)) {
		return
	}
	once := use{1, e.Time()}
	if e.Has(query.Scope) {
		u.scopes.add(e.Text(query.Scope), once)
	}
	if !e.Is(query.Operation, scopes.CreateToken) {
		return
	}
	for _, name := range e.List(query.GrantedScopes) {
		u.minted.add(name, once)
	}
	ips := e.List(query.AllowedIPs)
	u.anyIP = u.anyIP || len(ips) == 0
	for _, ip := range ips {
		if new(Network).UnmarshalText([]byte(ip)) != nil {
			ip = query.Others // somebody else wrote it, and it is to be printed as part of a configuration
		}
		u.ips.add(ip, once)
	}
	// How long it lived is judged as it is when one is made.
	if asked, no := tokens.Shape(recordedMint(e), anything(), tokens.Rules{Zone: u.zone}, e.Time()); no == nil {
		u.life = max(u.life, asked.Expires.Sub(e.Time()))
	}
}

// anything is who may mint any token.
func anything() *policy.Identity {
	return &policy.Identity{Scopes: scopes.All(), Team: &policy.Team{
		Scopes: scopes.All(), Mint: &policy.MintGrant{Scopes: scopes.All(), AnyIP: true, MaxTTL: math.MaxInt64},
	}}
}

func (u *usage) merge(o *usage) {
	for _, pair := range [][2]uses{{u.scopes, o.scopes}, {u.minted, o.minted}, {u.ips, o.ips}} {
		for name, more := range pair[1] {
			pair[0].add(name, more)
		}
	}
	u.anyIP, u.life = u.anyIP || o.anyIP, max(u.life, o.life)
}

// known are those names that are scopes. Others were written by somebody else,
// or by a version with another catalogue.
func (u uses) known() (set scopes.Set) {
	for name := range u {
		if s, err := scopes.Parse(name); err == nil {
			set = set.Union(scopes.Of(s))
		}
	}
	return set
}

// grantUse is how a grant of the configuration was used.
type grantUse struct {
	Grant  string    `json:"grant"`
	Place  string    `json:"place"`
	Last   time.Time `json:"last,omitzero"`
	Unused []string  `json:"unused"` // scopes of it that were not used for so long
	whole  bool      // none of it was
}

// lesson is what is learned of a team.
type lesson struct {
	Log       query.Totals `json:"log"`
	Team      string       `json:"team"`
	UnusedFor string       `json:"unused_for"`
	Used      uses         `json:"used"`
	Minted    uses         `json:"minted"`
	Smallest  string       `json:"smallest"` // lines of a Caddyfile
	Grants    []grantUse   `json:"grants"`
	Notes     []string     `json:"notes"`
}

func auditLearnCommand() *cobra.Command {
	l, f := &logFlags{}, &filterFlags{}
	var team, unused string
	cmd := &cobra.Command{
		Use:   "learn --team <name> --config <file> [<log>...]",
		Short: "Prints the smallest grant that covers what a team used",
		Long: `Prints the smallest grant that covers what the team was permitted according to the
logs, as lines for the Caddyfile, and which grants of the configuration, or which
scopes of a glob, it has not used for some time.

What was not used in the time of the log may be needed next month: look at how far back
the log goes. What minted tokens do at GoodAccess is not in any log; all that was minted
counts as used.

` + whichLog + `

Exit codes: 0 there is a grant, 1 something failed or not all of the log could be read,
and the answer is not to be used, 2 called wrongly, 3 the team was permitted nothing.`,
		Example: `  scopegate audit learn --team billing --config /etc/scopegate/Caddyfile
  scopegate audit learn --team billing --config Caddyfile --unused-for 90d --since 365d audit.jsonl --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			patience, err := caddy.ParseDuration(unused)
			if err != nil || patience <= 0 {
				return misused("--unused-for %q: expected a duration such as 30d", unused)
			}
			g, rules, err := l.theGateway()
			if err != nil {
				return err
			}
			q := question{loaded: g, rules: rules, now: time.Now()}
			if _, err := q.find("", team); err != nil {
				return err
			}
			filter, err := f.filter(l.gateway, q.now)
			if err != nil {
				return err
			}
			filter.Texts[query.Team] = []string{team}
			sources, err := l.sources(cmd, args)
			if err != nil {
				return err
			}
			begin := func() *usage { return newUsage(rules.zone) }
			all := begin()
			totals, err := ask(cmd, sources, begin, func(part *usage, e *query.Entry) {
				if filter.Match(e) {
					part.add(e)
				}
			}, func(part *usage) error {
				all.merge(part)
				return nil
			})
			if err != nil { // what was used may be in what could not be read
				return err
			}
			if len(all.scopes) == 0 {
				return &nothingError{"the team was permitted nothing that needs a scope; " + spanOf(totals)}
			}
			lesson := q.learn(team, all, patience)
			lesson.Log, lesson.UnusedFor = totals, unused
			lesson.cover(q.now.Add(-patience))
			if l.json {
				return printJSON(cmd.OutOrStdout(), lesson)
			}
			lesson.print(cmd.OutOrStdout())
			return nil
		},
	}
	l.add(cmd)
	f.addTimes(cmd)
	cmd.Flags().StringVar(&team, "team", "", "the team to learn from (required)")
	cmd.Flags().StringVar(&unused, "unused-for", "30d", "tell of grants that were not used for so long")
	_ = cmd.MarkFlagRequired("team")
	return cmd
}

// learn compares what was used with what is granted.
func (q *question) learn(name string, u *usage, patience time.Duration) *lesson {
	i := slices.IndexFunc(q.Teams, func(t *Team) bool { return t.Name == name })
	t, at := q.Teams[i], fmt.Sprintf("/teams/%d", i)
	l := &lesson{Team: name, Used: u.scopes, Minted: u.minted, Grants: []grantUse{}, Notes: []string{}}
	if left, some := u.ips[query.Others]; some {
		delete(u.ips, query.Others)
		l.Notes = append(l.Notes, fmt.Sprintf("%d times a token was bound to what is no address, or to one of more than %d: these are left out", left.Count, maxUses))
	}
	minted := u.minted.known().Minus(scopes.TokenScopes())
	// A minted token carries no more than its team holds.
	l.Smallest = grantLines(u.scopes.known().Union(minted), minted, u)
	held := uses{}
	for _, of := range []uses{u.scopes, u.minted} {
		for name, n := range of {
			held.add(name, n)
		}
	}
	since := q.now.Add(-patience)
	l.Grants = q.unused(t.Scopes, at+"/scopes", held, since)
	if t.Mint != nil {
		l.Grants = append(l.Grants, q.unused(t.Mint.Scopes, at+"/mint/scopes", u.minted, since)...)
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if _, err := scopes.Parse(name); err != nil {
			l.Notes = append(l.Notes, fmt.Sprintf("%s: the catalogue of this version has no such scope; it is left out", query.Shown(name)))
		}
	}
	return l
}

// grantLines writes a grant as it stands in a team's block.
func grantLines(held, minted scopes.Set, u *usage) string {
	lines := "scopes " + held.String()
	if minted.Empty() {
		return lines
	}
	ips := "any"
	if !u.anyIP {
		ips = strings.Join(slices.Sorted(maps.Keys(u.ips)), " ")
	}
	days := max(1, int(math.Ceil(u.life.Hours()/24)))
	return lines + fmt.Sprintf("\nmint {\n\tscopes %s\n\tallowed_ips %s\n\tmax_ttl %dd\n}", minted, ips, days)
}

// unused finds what was not used since then of each grant.
func (q *question) unused(list Grants, pointer string, used uses, since time.Time) []grantUse {
	found := []grantUse{}
	for i, g := range list {
		e, err := scopes.Expand(g.Scope)
		if err != nil {
			continue // the configuration would not have been compiled
		}
		one := grantUse{Grant: g.Scope, Place: q.place(g.Source, fmt.Sprintf("%s/%d", pointer, i)), Unused: []string{}}
		for _, name := range e.Set.Names() {
			last := used[name].Last
			if last.After(one.Last) {
				one.Last = last
			}
			if last.Before(since) {
				one.Unused = append(one.Unused, name)
			}
		}
		one.whole = len(one.Unused) == e.Set.Len()
		if len(one.Unused) > 0 {
			found = append(found, one)
		}
	}
	return found
}

// cover warns where the log does not go back as far as is asked.
func (l *lesson) cover(since time.Time) {
	if l.Log.First.After(since) {
		l.Notes = append(l.Notes, fmt.Sprintf("the log begins at %s: what was used before is not known", l.Log.First.Format(time.RFC3339)))
	}
	if l.Log.Damaged > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%d lines are no records: what was used may be in them", l.Log.Damaged))
	}
}

func (l *lesson) print(w io.Writer) {
	fieldLines(w, [2]string{"team", l.Team}, [2]string{"looked at", spanOf(l.Log)})
	for _, of := range []struct {
		name string
		uses uses
	}{{"used", l.Used}, {"minted", l.Minted}} {
		for _, name := range slices.Sorted(maps.Keys(of.uses)) {
			n := of.uses[name]
			fieldLines(w, [2]string{of.name, fmt.Sprintf("%s: %d times, last %s", query.Shown(name), n.Count, day(&n.Last))})
		}
	}
	for _, g := range l.Grants {
		text := fmt.Sprintf("%s: %s: %s", g.Place, g.Grant, strings.Join(g.Unused, " "))
		switch {
		case g.whole && g.Last.IsZero():
			text = fmt.Sprintf("%s: %s: never", g.Place, g.Grant)
		case g.whole:
			text = fmt.Sprintf("%s: %s: last %s", g.Place, g.Grant, day(&g.Last))
		}
		fieldLines(w, [2]string{"unused", text})
	}
	for _, n := range l.Notes {
		fieldLines(w, [2]string{"note", n})
	}
	fmt.Fprintf(w, "\nthe smallest grant, for the block of the team:\n\n%s\n", indent(l.Smallest))
}
