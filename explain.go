package scopegate

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// explanation is a decision with where it comes from.
type explanation struct {
	Gateway    string   `json:"gateway"`
	Team       string   `json:"team"`
	Credential string   `json:"credential,omitempty"`
	Method     string   `json:"method"`
	Path       string   `json:"path"`
	Operation  string   `json:"operation,omitempty"`
	Scope      string   `json:"scope_needed,omitempty"`
	Decision   string   `json:"decision"`
	Reason     string   `json:"reason"`
	Status     int      `json:"status,omitempty"`
	Detail     string   `json:"detail,omitempty"`
	DecidedBy  []string `json:"decided_by"`
	Grant      []string `json:"grant"`
	Mintable   []string `json:"mintable_scopes"`
	Smallest   []string `json:"smallest_grant,omitempty"`
	Body       string   `json:"body_upstream,omitempty"`
}

func explainCommand() *cobra.Command {
	var f configFlags
	var cred, team, bodyFile, from string
	cmd := &cobra.Command{
		Use:   "explain --config <file> (--credential <id> | --team <name>) <method> <path>",
		Short: "Says how a configuration would decide a request, and why",
		Long: `Says how a configuration would decide a request: the decision, the line of the
configuration that decided it, what the grant's globs expand to, and, for a
refusal, the smallest change that would allow it. It needs no running gateway,
no key and no master token, and it does not count against any limit.

Exit codes: 0 the request would be allowed, 1 it would not, or the configuration
cannot be read, 2 the command is called wrongly.`,
		Example: `  scopegate explain --config Caddyfile --team billing GET /api/v1/members
  scopegate explain --config Caddyfile --credential ci --from 10.1.2.3 POST /api/v1/token --body mint.json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := f.load()
			if err != nil {
				return err
			}
			if len(found) > 1 {
				return misused("the configuration has several gateways: name one with --gateway")
			}
			q := question{loaded: found[0], method: args[0], path: args[1], now: time.Now()}
			if from != "" {
				if q.from, err = netip.ParseAddr(from); err != nil {
					return misused("--from %q is not an address", from)
				}
				q.from = q.from.Unmap()
			}
			if q.rules, err = q.compile(); err != nil {
				return err
			}
			if q.body, err = readBody(cmd.InOrStdin(), bodyFile); err != nil {
				return err
			}
			if q.caller, err = q.find(cred, team); err != nil {
				return err
			}
			e := q.explain()
			if f.json {
				err = printJSON(cmd.OutOrStdout(), e)
			} else {
				e.print(cmd.OutOrStdout())
			}
			if err == nil && e.Decision != "allow" {
				return fail(cmd)
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&cred, "credential", "", "the caller: id or name of a credential, or team/name")
	cmd.Flags().StringVar(&team, "team", "", "the caller: a credential of this team that narrows nothing")
	cmd.Flags().StringVar(&bodyFile, "body", "", "file with the request's body; - is standard input")
	cmd.Flags().StringVar(&from, "from", "", "the caller's address; default: one that is allowed")
	cmd.MarkFlagsOneRequired("credential", "team")
	cmd.MarkFlagsMutuallyExclusive("credential", "team")
	return cmd
}

func readBody(stdin io.Reader, file string) ([]byte, error) {
	switch file {
	case "":
		return nil, nil
	case "-":
		return io.ReadAll(io.LimitReader(stdin, maxBody+1))
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return body, nil
}

// question is a request that nobody sent.
type question struct {
	loaded
	rules        *compiled
	caller       *credential.Credential
	method, path string
	body         []byte
	from         netip.Addr // zero: an allowed one
	now          time.Time
}

// find looks the caller up by what an operator knows: an id, a name, a team.
func (q *question) find(cred, team string) (*credential.Credential, error) {
	if team != "" {
		i := slices.IndexFunc(q.rules.teams, func(t *policy.Team) bool { return t.Name == team })
		if i < 0 {
			return nil, unknown("team", team, q.rules.teamNames())
		}
		t := q.rules.teams[i]
		return &credential.Credential{Identity: policy.Identity{Team: t, Scopes: t.Scopes}, State: credential.Active}, nil
	}
	var names []string
	var match []*credential.Credential
	for _, c := range q.rules.credentials {
		full := c.Identity.Team.Name + "/" + c.Identity.Name
		names = append(names, full)
		byID := slices.ContainsFunc(c.Verifiers, func(v credential.Verifier) bool { return v.ID == cred })
		if byID || cred == full || cred == c.Identity.Name {
			match = append(match, c)
		}
	}
	switch len(match) {
	case 0:
		return nil, misused("%w. The store is not asked: `scopegate key show` says of which team a stored one is and what narrows it, and --team what that team may", unknown("credential", cred, names))
	case 1:
		return match[0], nil
	}
	return nil, misused("several teams have a credential %q: write <team>/%s", cred, cred)
}

func unknown(what, name string, known []string) error {
	if near := scopes.Nearest(name, known); near != "" {
		return misused("no %s %q; did you mean %q?", what, name, near)
	}
	if len(known) == 0 {
		return misused("no %s %q: the configuration has none", what, name)
	}
	return misused("no %s %q; there are: %s", what, name, strings.Join(known, ", "))
}

// explain walks the same steps as a request, with the same functions.
func (q *question) explain() explanation {
	id := &q.caller.Identity
	e := explanation{
		Gateway: q.Name, Team: id.Team.Name, Credential: id.Name, Method: q.method, Path: q.path,
		Grant: id.Scopes.Names(), Mintable: id.Mintable().Names(),
	}
	no := q.decide(&e)
	reason := policy.Allowed
	if no != nil {
		reason, e.Status, e.Detail = no.reason, statusOf(no.reason), no.text()
	}
	e.Decision, e.Reason = "deny", reason.String()
	if reason == policy.Allowed {
		e.Decision = "allow"
	}
	e.DecidedBy = q.decidedBy(reason, e.Scope)
	e.Smallest = q.smallest()
	return e
}

func (q *question) decide(e *explanation) *refusal {
	id := &q.caller.Identity
	if reason := q.caller.Standing(q.now); reason != policy.Allowed {
		return refuse(reason)
	}
	path := q.path
	if u, err := url.ParseRequestURI(path); err == nil {
		path = u.EscapedPath()
	}
	m := q.rules.router.Match(q.method, path)
	if m.Operation != nil {
		e.Operation, e.Scope = m.Operation.ID, m.Operation.ScopeName()
	}
	client := q.from
	if !client.IsValid() {
		client = anAllowed(id)
	}
	if d := policy.Decide(id, m, policy.Facts{Client: client, Limit: policy.Allowed, Now: q.now}); !d.Allow() {
		return refuse(d.Reason)
	}
	body := q.body
	if body == nil && m.Operation.Body == scopes.TokenBody {
		e.Detail = "Without --body only the right to ask for a token was judged, not what the token may be."
		if id.Team.Mint == nil {
			return refuse(policy.MintNotGranted)
		}
		return nil
	}
	out, no := q.rules.shape(m.Operation, id, body, q.now)
	if no == nil {
		e.Body = string(out.body)
	}
	return no
}

// anAllowed returns an address that the caller may come from, if there is one.
func anAllowed(id *policy.Identity) netip.Addr {
	for _, list := range [][]netip.Prefix{id.AllowedIPs, id.Team.AllowedIPs} {
		for _, p := range list {
			if len(id.Team.AllowedIPs) == 0 || slices.ContainsFunc(id.Team.AllowedIPs, func(t netip.Prefix) bool { return t.Contains(p.Addr()) }) {
				return p.Addr()
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// place names a spot of the configuration: the line of the Caddyfile, or the
// JSON pointer where there is no Caddyfile.
func (q *question) place(source, pointer string) string {
	if source != "" {
		return source
	}
	return q.pointer + pointer
}

// decidedBy lists the lines of the configuration that a decision rests on.
func (q *question) decidedBy(reason policy.Reason, scope string) []string {
	ti := slices.IndexFunc(q.Teams, func(t *Team) bool { return t.Name == q.caller.Identity.Team.Name })
	t, at := q.Teams[ti], fmt.Sprintf("/teams/%d", ti)
	ci := slices.IndexFunc(t.Credentials, func(c *Credential) bool { return c.Name == q.caller.Identity.Name })
	var c *Credential
	cat := ""
	if ci >= 0 {
		c, cat = t.Credentials[ci], fmt.Sprintf("%s/credentials/%d", at, ci)
	}
	switch reason {
	case policy.Allowed:
		lines := q.granting(t.Scopes, at+"/scopes", scope)
		if c != nil {
			lines = append(lines, q.granting(c.Scopes, cat+"/scopes", scope)...)
		}
		if len(lines) == 0 {
			lines = []string{q.place(t.Source, at)}
		}
		return lines
	case policy.UnknownPath, policy.PathNotCanonical, policy.InvalidID, policy.MethodNotAllowed, policy.UnexpectedBody, policy.MalformedBody, policy.MintInvalid:
		return []string{"catalogue " + scopes.Version()}
	case policy.OperationOff:
		return []string{"catalogue " + scopes.Version(), q.place("", "/inferred_operations")}
	case policy.MintNotGranted, policy.MintScopes, policy.MintExpiry, policy.MintAddresses, policy.MintQuota, policy.MintDailyQuota:
		if t.Mint != nil {
			return []string{q.place(t.Mint.Source, at+"/mint")}
		}
	case policy.ClientAddress, policy.CredentialExpired, policy.CredentialNotYetValid, policy.CredentialRevoked, policy.CredentialSuspended, policy.InsufficientScope:
		if c != nil {
			return []string{q.place(t.Source, at), q.place(c.Source, cat)}
		}
	}
	return []string{q.place(t.Source, at)}
}

// granting lists the grants that hold the scope.
func (q *question) granting(list Grants, pointer, scope string) []string {
	var lines []string
	for i, g := range list {
		e, err := scopes.Expand(g.Scope)
		s, parseErr := scopes.Parse(scope)
		if err == nil && parseErr == nil && e.Set.Has(s) {
			lines = append(lines, fmt.Sprintf("%s: %s", q.place(g.Source, fmt.Sprintf("%s/%d", pointer, i)), g.Scope))
		}
	}
	return lines
}

func (e explanation) print(w io.Writer) {
	line := func(name string, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s%s\n", name, value)
		}
	}
	line("decision", e.Decision+" ("+e.Reason+")")
	if e.Status != 0 {
		line("status", fmt.Sprint(e.Status))
	}
	line("detail", e.Detail)
	line("operation", e.Operation)
	line("needs", e.Scope)
	line("decided by", strings.Join(e.DecidedBy, "; "))
	line("grant", strings.Join(e.Grant, " "))
	line("mintable", strings.Join(e.Mintable, " "))
	line("upstream", e.Body)
	line("to allow", strings.Join(e.Smallest, "\n            "))
}
